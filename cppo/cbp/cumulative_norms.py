"""Running statistics of new units in a batch norm that averages over all batches, ``BatchNorm1d(momentum=None)``."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cppo.layers.hidden_layer import HiddenLayer, UnitWeights

STATISTICS = ("running_mean", "running_var")


class CumulativeNorms(nn.Module):
    """Lets a new unit's running statistics be the average over the batches since it was new.

    Such a norm counts its batches, and the n-th moves the average by 1/n: what a unit was given when it was new would
    hardly move any more. All other units' statistics stay as the norm left them.

    :param layers: the watched layers
    """

    def __init__(self, layers: Sequence[HiddenLayer]) -> None:
        super().__init__()
        slices = [part for layer in layers for part in layer.norm_slices if part.name == STATISTICS[0]]
        self.norms = [_Cumulative(part) for part in slices if _is_cumulative(part.module)]

    def correct(self) -> None:
        """Correct what the norms made of the batches since the last time; call it after each step."""
        for norm in self.norms:
            norm.correct()

    def restart(self, layer: HiddenLayer, units: Tensor) -> None:
        """Note that some units of a layer are new."""
        for norm in self.norms:
            if norm.part in layer.norm_slices:
                norm.restart(units)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.norms:
            destination[f"{prefix}norms"] = [norm.state for norm in self.norms]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for norm, state in zip(self.norms, state_dict.pop(f"{prefix}norms", []), strict=False):
            norm.state = {name: value.clone() for name, value in state.items()}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class _Cumulative:
    """The slice of such a norm that belongs to one layer's units.

    ``state`` holds each unit's ``born``, the batches that the norm had seen when it was new (0 for never), and the
    count and the statistics as they were when they were last right.
    """

    def __init__(self, part: UnitWeights) -> None:
        self.part = part
        self.state: dict[str, Tensor] = {}

    def restart(self, units: Tensor) -> None:
        born = self.state.get("born", torch.zeros(self.part.n_units, dtype=torch.int64))
        count = self._count()
        born[units.cpu()] = int(count)
        self.state = {"born": born, "count": count} | {name: self._view(name).clone() for name in STATISTICS}

    def correct(self) -> None:
        """With r the statistics at the last n batches, the norm made r' = (n r + sum) / n' of them."""
        if not self.state or not _is_cumulative(self.part.module):
            return
        count = self._count()
        if count < self.state["count"]:
            self.state = {}  # the norm began anew
            return
        if count == self.state["count"]:
            return
        for name in STATISTICS:
            now, before = self._view(name), self.state[name].to(self._view(name))
            born = self.state["born"].to(now.device)
            born = born if self.part.block == 1 else born[:, None]
            right = (int(count) * now.double() - born * before.double()) / (int(count) - born)
            now.copy_(torch.where(born > 0, right.to(now), now))
            self.state[name] = now.clone()
        self.state["count"] = count

    def _count(self) -> Tensor:
        count = self.part.module.num_batches_tracked
        assert isinstance(count, Tensor)
        return count.detach().cpu().clone()

    def _view(self, name: str) -> Tensor:
        return self.part.view(getattr(self.part.module, name))


def _is_cumulative(norm: nn.Module) -> bool:
    return isinstance(norm, _BatchNorm) and norm.momentum is None and norm.running_mean is not None
