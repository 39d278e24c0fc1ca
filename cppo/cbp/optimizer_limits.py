"""What of an optimizer's state is out of reach, or can't be made that of a new parameter; and whoever wraps it."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from cppo.cbp.fresh_values import KNOWN, are_slow_weights, is_tf_like


def what_stays_old(optimizer: torch.optim.Optimizer) -> str | None:
    """Say what of a weight's state can't be made that of a new parameter; None if all of it can."""
    kind = type(optimizer).__name__
    if inner := find_wrapped(optimizer):
        name, wrapped = inner
        return (
            f"{kind} takes its steps by the {wrapped} inside of it, whose state is out of reach: the weights of "
            "replaced units keep their old moments there, and are pulled back to old values where it keeps slow "
            f"weights; give ContinualBackprop that optimizer (its attribute {name!r}) instead"
        )
    if isinstance(optimizer, torch.optim.LBFGS):
        return f"{kind} keeps one history for all weights together: it goes on when units are replaced"
    if isinstance(optimizer, torch.optim.Adagrad) and any(group["lr_decay"] for group in optimizer.param_groups):
        kind += " with lr_decay"
    elif isinstance(optimizer, torch.optim.SGD) and any(
        group["momentum"] and group["dampening"] for group in optimizer.param_groups
    ):
        kind += " with dampening"
    elif isinstance(optimizer, KNOWN) or is_tf_like(optimizer):
        return None
    return (
        f"{kind} is not an optimizer whose state can be made new for single weights: for the weights of replaced units "
        "its state tensors of the parameter's shape are set to what they were when they were made, and its step count "
        "goes on"
    )


def what_lies_elsewhere(optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor]) -> str:
    """Say what an optimizer that has taken a step keeps otherwise than as tensors of its parameters' shapes."""
    kept = [(each, name, value) for each in parameters for name, value in optimizer.state.get(each, {}).items()]
    whole = [each for each in kept if isinstance(each[2], Tensor) and each[2].shape == each[0].shape]
    if not whole:
        return "; it keeps no such tensor where they are looked for, so whatever it keeps elsewhere goes on"
    names = {str(name) for parameter, name, value in kept if not _is_number_or_fits(value, parameter)}
    return f"; {', '.join(sorted(names))} of another form go on" if names else ""


def _is_number_or_fits(value: Any, parameter: Tensor) -> bool:
    if isinstance(value, Tensor):
        return value.shape == parameter.shape or value.numel() == 1
    return value is None or isinstance(value, (int, float, str))


def what_was_unseen(optimizer: torch.optim.Optimizer, names: Sequence[str]) -> str:
    """Say of which state tensors it isn't known what they start from."""
    tensors = ", ".join(names)
    example = ", ".join(f'"{name}": ...' for name in names)
    return (
        f"what a new parameter's state in {type(optimizer).__name__} starts from could not be seen of {tensors}: set "
        f"to zero for the weights of replaced units; if that is wrong pass fresh_state={{{example}}}"
    )


def find_wrapped(optimizer: torch.optim.Optimizer) -> tuple[str, str] | None:
    """Find an optimizer inside of another: the attribute's name and the kind."""
    for name, value in vars(optimizer).items():
        if isinstance(value, torch.optim.Optimizer) and value is not optimizer:
            return name, type(value).__name__
    return None


def refuse_slow_weights(optimizer: torch.optim.Optimizer) -> None:
    """Refuse a step that a wrapper has an optimizer take, if it keeps slow weights; to be called in a step hook.

    Nothing but the call tells who wraps an optimizer.

    :raises RuntimeError: if that is so
    """
    frame = sys._getframe(1)
    while (caller := frame.f_back) is not None:
        frame = caller
        code = frame.f_code
        wrapper: Any = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None  # as a rule: self
        held = getattr(wrapper, "__dict__", {}) if wrapper is not optimizer else {}
        if any(value is optimizer for value in held.values()) and _keeps_slow_weights(wrapper):
            raise RuntimeError(
                f"{type(wrapper).__name__} keeps slow weights, which would pull new units back to those that they "
                f"replace, so the step was not taken: use the {type(optimizer).__name__} inside of it alone"
            )


def _keeps_slow_weights(wrapper: Any) -> bool:
    kind = type(wrapper).__name__.lower().replace("_", "")
    states = getattr(wrapper, "state", None)
    entries = {
        str(name)
        for state in (states.values() if isinstance(states, dict) else ())
        if isinstance(state, dict)
        for name in state
    }
    return "lookahead" in kind or "schedulefree" in kind or any(map(are_slow_weights, [*entries, *vars(wrapper)]))
