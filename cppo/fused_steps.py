"""Lets torch's fused kernel take an optimizer's steps for a while."""

from __future__ import annotations

from typing import Any

import torch


class FusedSteps:
    """Makes up for the time that correcting young weights costs.

    On the CPU, torch's Adam loops over the parameters unless it is asked for its fused kernel, which takes the same
    step to rounding in a third of the time. So while there is something to correct, the kernel is asked for, one step
    at a time; an implementation that the user chose stays.

    :param optimizer: the optimizer; all but ``torch.optim.Adam`` and ``AdamW`` are left as they are
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._changed: list[dict[str, Any]] = []
        self._known: dict[tuple[Any, ...], bool] = {}

    def begin(self) -> None:
        """Ask for the fused kernel; call it before a step."""
        self.end()
        if type(self.optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
            return
        for group in self.optimizer.param_groups:
            chosen = group["fused"] is not None or group["foreach"] is not None
            if not (chosen or group["capturable"] or group["differentiable"]) and self._runs_on(group["params"]):
                group["fused"] = True
                self._changed.append(group)

    def end(self) -> None:
        """Leave the optimizer as it was; call it after the step."""
        for group in self._changed:
            group["fused"] = None
        self._changed.clear()

    def _runs_on(self, parameters: list[torch.nn.Parameter]) -> bool:
        """Whether the kernel takes these parameters; looked up again when the first of them has moved."""
        first = parameters[0]
        key = (id(first), first.device, first.dtype, len(parameters))
        if self._known.get(key) is None:
            dense = all(each.grad is None or not each.grad.is_sparse for each in parameters)
            self._known[key] = dense and all(
                each.device.type == "cpu" and each.is_floating_point() for each in parameters
            )
        return self._known[key]
