"""Checks of arguments: numbers in range, seeds, types. An error names the value and what is allowed."""

from __future__ import annotations

import math
import numbers
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

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
    """Check that the module is a module and the optimizer an optimizer whose step calls hooks.

    :raises TypeError: if one isn't
    """
    import torch  # takes seconds; who reads numbers only doesn't need it
    from torch import nn

    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
    if not (getattr(type(optimizer).step, "hooked", False) and hasattr(optimizer, "_optimizer_step_post_hooks")):
        raise TypeError(
            f"{type(optimizer).__name__} calls no hooks at its steps, for its __init__ does not call "
            "torch.optim.Optimizer's: if it wraps another optimizer, give that one"
        )
