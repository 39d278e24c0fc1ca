"""Lets torch's fused kernel take an optimizer's steps for a while."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

STATE = ("exp_avg", "exp_avg_sq", "step")
"""What Adam keeps of each parameter."""


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
            if not group["fused"] and self.takes(group) and all(map(_has_even_gradient, group["params"])):
                group["fused"] = True
                self._changed.append(group)

    def takes(self, group: dict[str, Any]) -> bool:
        """Whether the kernel is what takes a group's steps, here or because the user chose it."""
        if group["fused"]:
            return True
        chosen = group["fused"] is not None or group["foreach"] is not None
        return not (chosen or group["capturable"] or group["differentiable"]) and self._runs_on(group["params"])

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


def _has_even_gradient(parameter: torch.nn.Parameter) -> bool:
    """Whether a gradient lies in memory as its parameter does: the kernel doesn't look, and would read past it."""
    return parameter.grad is None or parameter.grad.stride() == parameter.stride()


class _Tensors(NamedTuple):
    """What the fused kernel works on in a group, a list of each; the counts also as views of memory."""

    parameters: list[Tensor]
    gradients: list[Tensor]
    means: list[Tensor]
    mean_squares: list[Tensor]
    counts: list[Tensor]
    views_of_counts: list[Any]


class DirectSteps:
    """Takes an optimizer's steps with the fused kernel, and looks its tensors up only once where it can.

    On small networks torch's Adam takes longer to gather its tensors than to work on them. Hooks run as always. Make a
    new one when the parameters or their gradients are other tensors than before.

    :param optimizer: the optimizer; the steps of others than ``torch.optim.Adam`` and ``AdamW`` are their own
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._fused = FusedSteps(optimizer)
        self._states: list[tuple[Tensor, Any]] = []
        self._tensors: list[_Tensors] = []

    def step(self) -> None:
        """Take a step."""
        if self._knows_tensors() or self._look_up():
            self._step_between_hooks()
            return
        self._fused.begin()
        try:
            self.optimizer.step()
        finally:
            self._fused.end()

    def _knows_tensors(self) -> bool:
        states = self.optimizer.state
        return bool(self._states) and all(states.get(parameter) is state for parameter, state in self._states)

    def _look_up(self) -> bool:
        """Find the tensors; say whether the next step is one that the kernel alone can take."""
        optimizer = self.optimizer
        self._states, self._tensors = [], []
        if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW) or "step" in vars(optimizer):
            return False
        if _global_optimizer_pre_hooks or _global_optimizer_post_hooks:
            return False
        if getattr(optimizer, "grad_scale", None) is not None or getattr(optimizer, "found_inf", None) is not None:
            return False
        for group in optimizer.param_groups:
            parameters = [each for each in group["params"] if each.grad is not None]
            states = [optimizer.state.get(each, {}) for each in parameters]
            kinds = {(each.device.type, each.dtype) for each in parameters}
            usual = self._fused.takes(group) and not group["amsgrad"] and not isinstance(group["lr"], Tensor)
            usual = usual and all(map(_has_even_gradient, parameters))
            if not (usual and all(states) and len(kinds) == 1 and kinds.pop()[0] == "cpu"):
                return False
            means, mean_squares, counts = ([state[name] for state in states] for name in STATE)
            views = [memoryview(count.numpy()) for count in counts]  # counting with torch takes half a kernel's time
            gradients = [each.grad for each in parameters]
            self._tensors.append(_Tensors(parameters, gradients, means, mean_squares, counts, views))
            self._states += zip(parameters, states, strict=True)
        return True

    def _step_between_hooks(self) -> None:
        """What torch does around each step, but for its profiler's label, which costs half as much as the kernel."""
        optimizer, step = self.optimizer, self._step
        for hook in optimizer._optimizer_step_pre_hooks.values():
            instead = hook(optimizer, (optimizer,), {})
            if instead is not None:  # arguments for torch's ``step``: an optimizer with nothing to do, and a closure
                (_, step), _ = instead
        step()
        for hook in optimizer._optimizer_step_post_hooks.values():
            hook(optimizer, (optimizer,), {})

    def _step(self) -> None:
        """What ``step`` of torch's Adam does between the hooks."""
        with torch.no_grad():
            for group, tensors in zip(self.optimizer.param_groups, self._tensors, strict=True):
                for count in tensors.views_of_counts:
                    count[()] += 1
                kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
                kernel(
                    tensors.parameters,
                    tensors.gradients,
                    tensors.means,
                    tensors.mean_squares,
                    [],
                    tensors.counts,
                    amsgrad=False,
                    lr=group["lr"],
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    maximize=group["maximize"],
                )
