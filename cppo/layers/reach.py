"""Finds what can be reached from an object: through attributes, slots, containers of any kind, closures, partials."""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FrameType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MOST_OBJECTS = 20_000
"""Objects looked at: a module may hold an environment or a data set, which is not to be searched through."""

NUMBERS = (bool, int, float, complex, np.number)

_ENDS = (
    *(str, bytes, type, ModuleType, CodeType, FrameType, BuiltinFunctionType, GetSetDescriptorType),
    *(torch.dtype, torch.device, torch.Size, torch.optim.Optimizer, torch.jit.ScriptFunction),
)
"""Where the search ends: what holds no data, or another's."""


def reachable(*roots: Any) -> Iterator[Any]:
    """Everything that can be reached from some objects, nearest first, each object once, but numbers each time.

    An object's ``__dict__`` and a function's cells are objects too; a module's attributes are reached at once, but for
    its hooks. What an optimizer or a global name holds is not
    looked at, and of more than ``MOST_OBJECTS`` only the nearest.
    """
    seen: dict[int, Any] = {}  # to hold an object keeps its id its own
    ahead = deque(roots)
    while ahead and len(seen) < MOST_OBJECTS:
        thing = ahead.popleft()
        if isinstance(thing, NUMBERS):
            yield thing
        elif id(thing) not in seen:
            seen[id(thing)] = thing
            if thing is not None and not isinstance(thing, _ENDS):
                yield thing
                ahead.extend(parts_of(thing))


def parts_of(thing: Any) -> tuple[Any, ...]:
    """What an object holds, one step away."""
    if type(thing) in _PLAIN:
        return tuple(thing.values() if isinstance(thing, dict) else thing)
    if isinstance(thing, nn.Module):
        return tuple(value for name, value in vars(thing).items() if name not in _HOOKS)
    if isinstance(thing, (Tensor, np.ndarray)):
        return ()
    parts = next((parts for kind, parts in _PARTS if isinstance(thing, kind)), None)
    return (*(parts(thing) if parts else ()), getattr(thing, "__dict__", None), *slots_of(thing).values())


def contents_of(cell: CellType) -> tuple[Any, ...]:
    """What a closure's cell holds: one thing, or nothing yet."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


_HOOKS = frozenset(name for name in vars(nn.Module()) if "hooks" in name)
_PLAIN = frozenset((dict, OrderedDict, list, tuple, set, frozenset, deque))
_PARTS: tuple[tuple[Any, Callable[[Any], Iterable[Any]]], ...] = (
    (dict, lambda thing: tuple(dict.values(thing))),
    ((list, tuple, set, frozenset, deque), tuple),
    (FunctionType, lambda thing: (thing.__closure__, thing.__defaults__, thing.__kwdefaults__)),
    (MethodType, lambda thing: (thing.__self__, thing.__func__)),
    (CellType, contents_of),
    (partial, lambda thing: (thing.func, thing.args, thing.keywords)),
    (GeneratorType, lambda thing: tuple(thing.gi_frame.f_locals.values()) if thing.gi_frame else ()),
)


def slots_of(thing: Any) -> dict[str, Any]:
    """The attributes that an object keeps in slots."""
    kind: Any = type(thing)
    names = _slots(kind)
    return {name: object.__getattribute__(thing, name) for name in names if _has(thing, name)} if names else {}


@lru_cache(maxsize=4096)
def _slots(kind: type) -> tuple[str, ...]:
    names: list[str] = []
    for base in kind.__mro__:
        given = base.__dict__.get("__slots__", ()) if base.__module__ != "builtins" else ()
        for name in (given,) if isinstance(given, str) else tuple(given):
            is_private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{base.__name__.lstrip('_')}{name}" if is_private else name)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _has(thing: Any, name: str) -> bool:
    try:
        object.__getattribute__(thing, name)
    except AttributeError:
        return False
    return True


def is_counter(thing: Any) -> bool:
    """Whether something is an iterator that counts, which has no state but what is next."""
    return isinstance(thing, itertools.count)
