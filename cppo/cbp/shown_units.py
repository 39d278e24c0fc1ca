"""What a watcher shows of its units' state: their buffers as its own, by attribute and in its ``state_dict()``."""

from typing import Any

import torch
from torch import Tensor, nn

from cppo.cbp.unit_state import UnitState


class ShowsUnits(nn.Module):
    """A module that shows the buffers of ``units`` as if they were its own."""

    units: UnitState

    @property
    def decay_rate(self) -> float:
        """Decay eta of the running averages of utility and activation; may be set."""
        return self.units.decay_rate

    @decay_rate.setter
    def decay_rate(self, value: float) -> None:
        self.units.decay_rate = value

    @property
    def age(self) -> Tensor:
        """Optimizer steps since each unit was new, of all layers one after another."""
        return self.units.age

    @property
    def average_utility(self) -> Tensor:
        """Running average of each unit's utility, as ``age``; not yet corrected for its start at 0."""
        return self.units.average_utility

    @property
    def average_activation(self) -> Tensor:
        """Running average of each unit's activation, as ``age``; not yet corrected for its start at 0."""
        return self.units.average_activation

    @property
    def accumulator(self) -> Tensor:
        """Share of a unit that is due for replacement in each layer."""
        return self.units.accumulator

    @property
    def n_replaced(self) -> Tensor:
        """Number of units replaced so far in each layer."""
        return self.units.n_replaced

    @property
    def total_replaced(self) -> int:
        """Number of units replaced so far, over all layers."""
        return int(self.n_replaced.sum())

    @property
    def generator(self) -> torch.Generator:
        """What new units' weights are drawn with."""
        return self.units.generator

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the state as ``nn.Module`` does; the units' buffers stand in it by their own names."""
        state = super().state_dict(*args, **kwargs)
        prefix = kwargs.get("prefix", args[1] if len(args) > 1 else "")
        for key in [key for key in state if key.startswith(f"{prefix}units.")]:
            state[prefix + key.removeprefix(f"{prefix}units.")] = state.pop(key)
        return state

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name in self.units.state_dict():
            if prefix + name in state_dict:
                state_dict[f"{prefix}units.{name}"] = state_dict.pop(prefix + name)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
