"""Finds what can be reached from an object: through attributes, slots, containers of any kind, closures, iterators."""

import gc
import itertools
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from types import BuiltinFunctionType, CellType, CodeType, FrameType, FunctionType, GetSetDescriptorType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MOST_OBJECTS = 20_000
"""Objects looked at: a module may hold an environment or a data set, which is not to be searched through."""

VALUES = (bool, int, float, complex, np.number, str, bytes)
"""What says all there is to say by itself."""

_ENDS = (
    *(type, ModuleType, CodeType, FrameType, BuiltinFunctionType, GetSetDescriptorType),
    *(torch.dtype, torch.device, torch.Size, torch.optim.Optimizer, torch.jit.ScriptFunction),
)
"""Where the search ends: what holds no data, or another's."""


def reachable(*roots: Any) -> Iterator[Any]:
    """Everything that can be reached from some objects, nearest first, each object once, but text and numbers always.

    An object's ``__dict__`` and a function's cells are objects too; a module's attributes are reached at once, but for
    its hooks. What an optimizer, a class or a global name holds is not looked at: it is shared with others. Of more
    than ``MOST_OBJECTS`` only the nearest are reached.
    """
    seen: dict[int, Any] = {}  # to hold an object keeps its id its own
    ahead = deque(roots)
    while ahead and len(seen) < MOST_OBJECTS:
        thing = ahead.popleft()
        if isinstance(thing, VALUES):
            yield thing
        elif thing is not None and not isinstance(thing, _ENDS) and id(thing) not in seen:
            seen[id(thing)] = thing
            yield thing
            ahead.extend(parts_of(thing))


def parts_of(thing: Any) -> tuple[Any, ...]:
    """What an object holds, one step away, in whatever way: containers, iterators and closures of any kind."""
    if isinstance(thing, nn.Module):
        return tuple(value for name, value in vars(thing).items() if name not in _HOOKS)
    if isinstance(thing, FunctionType):
        return thing.__closure__, thing.__defaults__, thing.__kwdefaults__, thing.__dict__
    if isinstance(thing, np.ndarray):
        return tuple(thing.flat) if thing.dtype == object else ()
    parts = () if isinstance(thing, Tensor) else gc.get_referents(thing)
    return (*parts, getattr(thing, "__dict__", None))


def hooks_of(module: nn.Module) -> list[Any]:
    """What a module and its parts call before and after they run."""
    kinds = ("_forward_pre_hooks", "_forward_hooks")
    return [hook for part in module.modules() for kind in kinds for hook in getattr(part, kind, {}).values()]


def contents_of(cell: CellType) -> tuple[Any, ...]:
    """What a closure's cell holds: one thing, or nothing yet."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


_HOOKS = frozenset(name for name in vars(nn.Module()) if "hooks" in name)


def address(tensor: Tensor) -> int:
    """Where the memory of a tensor begins; 0 where it has none of its own."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0


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


def is_place(thing: Any) -> bool:
    """Whether something is an iterator that has no state but its place, so that its copy keeps that."""
    return isinstance(thing, _PLACES)


_ITERATED: tuple[Any, ...] = ((), [], range(0), "", b"")
_PLACES: Any = (itertools.count, *(type(iter(each)) for each in _ITERATED))
