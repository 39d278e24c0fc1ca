"""Checks of constructor arguments: each error names the argument, the value and what is allowed."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np


def whole_number(name: str, value: object, minimum: int) -> int:
    """Return ``value`` as an int.

    A float counts where it is whole (``1e7``); a bool does not.

    Raises:
        TypeError: if the value is not a whole number.
        ValueError: if it is under ``minimum``.
    """
    is_whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
    if isinstance(value, bool) or not is_whole:
        raise TypeError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
    number = int(value)  # type: ignore[call-overload]
    if number < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
    return number


def friction_coefficient(name: str, value: object, *, allow_zero: bool = True) -> float:
    """Return ``value`` as a float.

    Raises:
        TypeError: if the value is not a real number (a bool is not one here).
        ValueError: if it is negative, infinite, NaN, or zero without ``allow_zero``.
    """
    allowed = "a finite number of at least 0" if allow_zero else "a finite number above 0"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {allowed}, got {value!r}")
    number = float(value)
    if not math.isfinite(number) or number < 0 or (number == 0 and not allow_zero):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def plain(value: Any) -> Any:
    """Return an argument, or a mapping of arguments, in types that JSON knows; what it can't translate as it is.

    Infinity, which only ``change_every`` may be, becomes ``None``, which says the same there.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(each) for each in value]
    if isinstance(value, Real) and not isinstance(value, int):
        return None if value == math.inf else float(value)
    return value
