"""Each module's units are replaced by one at a time: a ``ContinualBackprop``, or a remedy that works on units."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Iterator

from torch import nn

from cppo.cbp.features import ReaderHook
from cppo.layers.hidden_layer import HiddenLayer

_owners: weakref.WeakKeyDictionary[nn.Module, weakref.ref[nn.Module]] = weakref.WeakKeyDictionary()


def claim(owner: nn.Module, layers: Iterable[HiddenLayer]) -> None:
    """Take layers under watch, and rid them of hooks that one who was dropped without ``remove()`` left behind.

    :raises ValueError: if another one watches any of their modules, and so would replace or correct the same weights
    """
    modules = {module: layer.name for layer in layers for module in _modules(layer)}
    if any(_owner(module) is not None for module in modules):
        gc.collect()  # one that was dropped together with its optimizer doesn't count; they refer to each other
    for module, name in modules.items():
        if (other := _owner(module)) is not None:
            which = "another" if type(other) is type(owner) else "a"
            raise ValueError(
                f"{name}: {module} is watched by {which} {type(other).__name__}; call that one's remove() first"
            )
    for module in modules:
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, ReaderHook):
                hook.remove()
    hold(owner, layers)


def hold(owner: nn.Module, layers: Iterable[HiddenLayer]) -> None:
    """Take layers under watch whose hooks are the owner's own already, as a copy's are."""
    _owners.update(dict.fromkeys((module for layer in layers for module in _modules(layer)), weakref.ref(owner)))


def release(owner: nn.Module) -> None:
    """Give back everything that is claimed by one who stops watching."""
    for module in [module for module, other in _owners.items() if other() is owner]:
        del _owners[module]


def _modules(layer: HiddenLayer) -> Iterator[nn.Module]:
    yield from (layer.incoming, *layer.outgoing, *layer.norms)


def _owner(module: nn.Module) -> nn.Module | None:
    return _owners[module]() if module in _owners else None
