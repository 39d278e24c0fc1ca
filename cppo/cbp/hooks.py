"""Forward pre-hooks that stay where they are: copies and pickles of their module go without them."""

import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict
from functools import partial
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

SCRIPTING = "__prepare_scriptable__"
"""What ``torch.jit.script`` calls on each module before it looks at it."""

HOOKS = ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")


class StayingHook(ABC):
    """A forward pre-hook that no copy or pickle of its module takes along, so that a copy alone is a plain module.

    Whoever has such hooks attaches copies of them to the copied modules, once he is copied or unpickled himself.
    """

    _handle: RemovableHandle | None = None
    _module: weakref.ref[nn.Module] | None = None

    @property
    def is_attached(self) -> bool:
        """Whether it runs before a module does."""
        return self._handle is not None

    def attach(self, module: nn.Module) -> None:
        """Run before a module does."""
        self._handle = module.register_forward_pre_hook(self, with_kwargs=True)
        self._module = weakref.ref(module)
        if "__getstate__" not in module.__dict__:
            module.__getstate__ = _StateOfCopies(module)  # type: ignore[method-assign]
            module.__dict__[SCRIPTING] = partial(_refuse_scripting, type(module).__name__)

    def detach(self) -> None:
        """Leave the module as if the hook had never been there."""
        module = self._module() if self._module is not None else None
        if self._handle is None or module is None:
            return
        self._handle.remove()
        if not _staying(module) and isinstance(module.__dict__.get("__getstate__"), _StateOfCopies):
            del module.__getstate__
            del module.__dict__[SCRIPTING]
        self._handle = self._module = None

    @abstractmethod
    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called by torch before the module runs, with what it was called with."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None, "_module": None}


class _StateOfCopies:
    """Stands in for a module's ``__getstate__``: what copies and pickles of it consist of.

    There is no other way to keep a hook out of them: torch's modules take their dictionaries of hooks along.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = weakref.ref(module)

    def __call__(self) -> Any:
        module = self._module()
        assert module is not None
        of_class = getattr(type(module), "__getstate__", None)
        is_plain = of_class is None or of_class is getattr(object, "__getstate__", None)
        state = module.__dict__.copy() if is_plain else of_class(module)  # type: ignore[misc]
        if not isinstance(state, dict):
            return state
        staying = _staying(module)
        others = {
            name: OrderedDict((key, hook) for key, hook in state[name].items() if key not in staying)
            for name in HOOKS
            if name in state
        }
        return {name: value for name, value in state.items() if name not in ("__getstate__", SCRIPTING)} | others


def _refuse_scripting(name: str) -> nn.Module:
    """Called by ``torch.jit.script``, which takes no hooks that are objects."""
    raise RuntimeError(
        f"{name} is watched by ContinualBackprop: script a copy, copy.deepcopy(module), or call remove() first"
    )


def _staying(module: nn.Module) -> set[int]:
    """The numbers of a module's hooks that stay."""
    return {key for key, hook in module._forward_pre_hooks.items() if isinstance(hook, StayingHook)}
