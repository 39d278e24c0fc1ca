"""Checks of what ``ContinualBackprop`` is given, before anything is set up."""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from cppo.layers.hidden_layer import HiddenLayer
from cppo.layers.traced_units import LeftOut

LARGEST = sys.float_info.max
BELOW_ONE = math.nextafter(1, 0)


def check_hyperparameters(
    replacement_rate: float, maturity_threshold: int, decay_rate: float, seed: int | None = None
) -> None:
    """Check the numbers that steer generate-and-test, and the seed of its generator.

    :raises TypeError: for something that is no number
    :raises ValueError: for a number out of range, or a fraction where a whole number is wanted; both name the value and
        what is allowed
    """
    check_number("replacement_rate", replacement_rate, 0, 1, "a number from 0 to 1")
    words = "a whole number of optimizer steps, 0 or more"
    check_number("maturity_threshold", maturity_threshold, 0, math.inf, words, whole=True)
    check_number("decay_rate", decay_rate, 0, BELOW_ONE, "a number from 0 to less than 1")
    check_seed(seed)


def check_number(name: str, value: float, lowest: float, highest: float, allowed: str, whole: bool = False) -> None:
    """Check one number.

    :param name: of the argument
    :param value: its value
    :param lowest: lowest value allowed
    :param highest: highest value allowed
    :param allowed: how to say so
    :param whole: whether fractions are refused
    :raises TypeError: if it is no number
    :raises ValueError: if it is out of range or a fraction; both name the value and what is allowed
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} is not allowed: it must be {allowed}")
    if (whole and not isinstance(value, numbers.Integral)) or not lowest <= value <= highest:
        raise ValueError(f"{name}={value!r} is not allowed: it must be {allowed}")


def check_count(name: str, value: int) -> None:
    """Check a whole number of something, one or more (see ``check_number``)."""
    check_number(name, value, 1, math.inf, "a whole number, 1 or more", whole=True)


def check_seed(seed: int | None) -> None:
    """Check the seed of a generator; None is allowed.

    :raises TypeError: if it is no whole number
    :raises ValueError: if torch's generators don't take it
    """
    if seed is None:
        return
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise TypeError(f"seed={seed!r} is not allowed: it must be None or a whole number from 0 to 2**64 - 1")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed={seed!r} is not allowed: it must be None or a whole number from 0 to 2**64 - 1")


def check_modules(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Check that the module is a module and the optimizer an optimizer.

    :raises TypeError: if one isn't
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")


def check_layers(layers: object) -> list[HiddenLayer]:
    """Check layers that were named by hand.

    :raises TypeError: if they aren't a sequence of ``HiddenLayer``
    :raises ValueError: if there is none
    """
    if not isinstance(layers, Sequence) or not all(isinstance(layer, HiddenLayer) for layer in layers):
        given = [type(each).__name__ for each in layers] if isinstance(layers, Sequence) else type(layers).__name__
        raise TypeError(
            f"hidden_layers must be a list of HiddenLayer(incoming=..., outgoing=[...], activation=...), not {given}"
        )
    if not layers:
        raise ValueError("hidden_layers names no layer; leave it out to have them found")
    return list(layers)


def trained_by(
    optimizer: torch.optim.Optimizer, layers: Sequence[HiddenLayer]
) -> tuple[list[HiddenLayer], list[LeftOut]]:
    """Keep the layers all of whose weights the optimizer trains: the others are not its to replace.

    :return: those layers, and the others with the reason
    :raises ValueError: if none is left
    """
    trained = {
        parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.requires_grad
    }
    kept: list[HiddenLayer] = []
    left_out: list[LeftOut] = []
    for layer in layers:
        untrained = [part for part in layer.parts() if part.parameter not in trained]
        if untrained:
            reads = untrained[0].module in layer.outgoing
            whose = "a reader's" if reads else "its own" if untrained[0].module is layer.incoming else "its norm's"
            reason = f"the optimizer does not train {whose} {untrained[0].name}"
            left_out.append(LeftOut(layer.name, layer.n_units, reason, layer.incoming))
        else:
            kept.append(layer)
    if not kept:
        names = ", ".join(each.name for each in left_out)
        raise ValueError(f"the optimizer trains none of the hidden layers whole ({names or 'none given'})")
    return kept, left_out


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself under ``torch.compile`` and (distributed) data parallelism, whose parameters it shares."""
    while True:
        if isinstance(module, (nn.parallel.DistributedDataParallel, nn.parallel.DataParallel)):
            module = module.module
        elif isinstance(compiled := getattr(module, "_orig_mod", None), nn.Module):
            module = compiled
        else:
            return module


def uncompiled(module: nn.Module) -> AbstractContextManager[Any]:
    """Run a module without compiling it, where it is compiled: tracing tries inputs that needn't fit."""
    if any(getattr(part, "_compiled_call_impl", None) is not None for part in module.modules()):
        return torch.compiler.set_stance("force_eager")
    return nullcontext()
