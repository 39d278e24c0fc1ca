"""What optimizer steps do to layers: the gradients they are given, and how far they move the weights."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cppo.layers.hidden_layer import UnitModule
from cppo.plasticity import measures

EVERY = 4
"""One of so many optimizer steps is looked at, so that looking costs little."""

FIGURES = ("gradient_norm", "gradient_zero_share", "update_size")


class UpdateWatch:
    """Takes means over every fourth optimizer step, for as long as it is told to watch.

    The gradients are those the optimizer is given, after clipping. A change of the weights counts whoever makes it
    between the beginning of a step and its end: weight decay and the replacement of units are part of it.

    :param layers: name and module of each layer
    :param optimizers: a layer belongs to the one that trains its weights; without one it isn't watched
    """

    def __init__(self, layers: Sequence[tuple[str, UnitModule]], optimizers: Iterable[torch.optim.Optimizer]) -> None:
        self._layers_of: dict[torch.optim.Optimizer, list[tuple[str, UnitModule]]] = {}
        for optimizer in optimizers:
            trained = {parameter for group in optimizer.param_groups for parameter in group["params"]}
            self._layers_of[optimizer] = [layer for layer in layers if layer[1].weight in trained]
        self.totals: dict[str, list[float]] = {name: [0.0] * (1 + len(FIGURES)) for name, _ in layers}
        self.steps = [0] * len(self._layers_of)
        self._numbers = {optimizer: number for number, optimizer in enumerate(self._layers_of)}
        self._before: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def watch(self) -> None:
        """Let optimizer steps count from now on."""
        if not self._handles:
            for optimizer in self._layers_of:
                self._handles.append(optimizer.register_step_pre_hook(self._before_step))
                self._handles.append(optimizer.register_step_post_hook(self._after_step))

    def rest(self) -> None:
        """Leave the optimizers alone; what was summed up stays."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._before.clear()

    def take_means(self) -> dict[str, dict[str, float]]:
        """The means over the steps watched so far, by layer and figure, and begin anew."""
        means = {
            name: {figure: total / steps for figure, total in zip(FIGURES, totals, strict=True)}
            for name, (steps, *totals) in self.totals.items()
            if steps
        }
        for name in self.totals:
            self.totals[name] = [0.0] * (1 + len(FIGURES))
        self.steps = [0] * len(self.steps)
        return means

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, and how many steps of each optimizer there were."""
        return {"steps": list(self.steps), "totals": {name: list(totals) for name, totals in self.totals.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        :raises ValueError: if it is the state of other layers; likewise KeyError and TypeError
        """
        self.steps = [int(steps) for steps, _ in zip(state["steps"], self.steps, strict=True)]
        for name, totals in self.totals.items():
            self.totals[name] = [float(total) for total, _ in zip(state["totals"][name], totals, strict=True)]

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        number = self._numbers[optimizer]
        self.steps[number] += 1
        for name, module in self._layers_of[optimizer] if self.steps[number] % EVERY == 1 else ():
            parameters = (module.weight, module.bias) if isinstance(module.bias, Tensor) else (module.weight,)
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            if gradients:
                self._before[name] = module.weight.detach().clone()
                totals = self.totals[name]
                totals[0] += 1
                totals[1] += measures.gradient_norm(gradients)
                totals[2] += measures.zero_share(gradients)

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for name, module in self._layers_of[optimizer]:
            before = self._before.pop(name, None)
            if before is not None:
                self.totals[name][3] += measures.update_size(before, module.weight)
