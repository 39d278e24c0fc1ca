"""Sees the features of training passes, by a forward pre-hook on each module that reads hidden units."""

import gc
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from cppo.cbp.hooks import StayingHook
from cppo.layers.hidden_layer import HiddenLayer, UnitModule, input_of, mean_over_rows, unit_features

MOST_PASSES = 1000
"""Passes kept for one optimizer step. A network trained on without a step of the watched optimizer must not eat the
memory up, and of more passes than these the last ones say enough."""


class Pass(NamedTuple):
    """What one training pass tells of a layer's units.

    :param n_samples: number of samples; positions of a feature map count
    :param mean: mean h of each unit, shape (n_units,)
    :param magnitude: mean |h| of each unit, likewise
    :param features: shape (samples, n_units), where they are kept
    """

    n_samples: int
    mean: Tensor
    magnitude: Tensor
    features: Tensor | None


class Watcher(Protocol):
    """One who replaces or changes the units of hidden layers after the steps of an optimizer."""

    @property
    def watched_modules(self) -> set[nn.Module]:
        """Every module that has weights of those units."""


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor holds values of this world: none of a transform, an export or a trace."""
    if torch.compiler.is_dynamo_compiling():
        return True
    if type(tensor) not in (Tensor, nn.Parameter) or torch.jit.is_tracing():
        return False
    return peek_interpreter_stack() is None and get_proxy_mode() is None


class FeatureHook(StayingHook):
    """Keeps what an outgoing layer is given in training passes, those with gradients in training mode.

    The means are taken at once, while the features are still in the processor's cache; the features themselves are
    kept until the optimizer's step only if asked for.

    Copies and pickles of the module alone go without it; a copy of the watcher attaches its own to the copied module.

    Passes of another world are passed by: per-sample gradients by ``vmap``, ``torch.func``'s transforms, an export, a
    trace of ``torch.jit``. Their tensors are no features of a training pass, and mustn't outlive it.

    Under ``torch.compile`` it becomes part of the compiled graph, once for each number of passes seen since the last
    step. Beyond torch's limit of recompilations (8) a module runs uncompiled, of which torch warns.

    :param hidden_layer: the layer whose units are read, with one outgoing layer alone
    :param keeps_features: whether the features are needed later
    """

    def __init__(self, hidden_layer: HiddenLayer, keeps_features: bool) -> None:
        self.passes: deque[Pass] = deque(maxlen=MOST_PASSES)
        self.awake = True
        self.watcher: weakref.ref[Watcher] | None = None
        self._inputs: deque[weakref.ref[Tensor]] = deque(maxlen=MOST_PASSES)
        self._has_warned = False
        self._columns = (hidden_layer.n_units, *hidden_layer.columns[0])
        self._is_nonnegative = hidden_layer.is_nonnegative
        self._keeps_features = keeps_features

    def listen(self, reader: UnitModule, watcher: Watcher) -> None:
        """Listen to the outgoing layer, for one who watches."""
        self.watcher = weakref.ref(watcher)
        if not self.is_attached:
            self.attach(reader)

    def __call__(self, reader: UnitModule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called by torch before the reader runs, with what it was called with."""
        if not (self.awake and reader.training and torch.is_grad_enabled()):
            return
        given = input_of(args, kwargs)
        if given is not None and is_plain(given) and given.numel():  # an empty batch says nothing
            features = unit_features(reader, given.detach(), *self._columns)
            if torch.is_autocast_enabled("cpu" if given.is_cpu else given.device.type):  # means in 16 bits
                with torch.autocast(features.device.type, enabled=False):
                    self._keep(self._summarise(features), given)
            else:
                self._keep(self._summarise(features), given)

    def _keep(self, seen: Pass, given: Tensor) -> None:
        """Keep a pass, unless it only recomputes during a backward pass what the forward pass didn't save.

        Some ways to checkpoint activations take the gradient through the recomputed pass, for the first one had none;
        others took it through the first, which has been counted. So it counts once it gets a gradient.
        """
        if torch.compiler.is_compiling():
            self._append(seen)
        elif not given.requires_grad or torch._C._current_graph_task_id() == -1:
            self._append(seen)
            self._inputs.append(weakref.ref(given))
        elif all(each() is not given for each in self._inputs):
            given.register_hook(lambda _: self._append(seen))

    def _append(self, seen: Pass) -> None:
        self.passes.append(seen)
        if len(self.passes) == MOST_PASSES:
            self._warn_of_no_step()

    def see(self, features: Tensor, mean: Tensor, magnitude: Tensor) -> None:
        """Take in a training pass that doesn't go through the reader.

        :param features: shape (samples, n_units); a copy is made where they are kept
        :param mean: see ``Pass``
        :param magnitude: likewise
        """
        if self.awake:
            self._append(Pass(features.shape[0], mean, magnitude, features.clone() if self._keeps_features else None))

    def _summarise(self, features: Tensor) -> Pass:
        if features.dtype.itemsize < 4:
            features = features.float()
        mean = mean_over_rows(features)
        magnitude = mean if self._is_nonnegative else mean_over_rows(features.abs())
        return Pass(len(features), mean, magnitude, features if self._keeps_features else None)

    def _warn_of_no_step(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{MOST_PASSES} training passes without a step of the optimizer that ContinualBackprop was given: if "
                "another one is used now, no unit is replaced",
                stacklevel=2,
            )

    def remove(self) -> None:
        """Stop listening."""
        self.passes.clear()
        self.detach()

    def __getstate__(self) -> dict[str, Any]:
        empty = deque[Any](maxlen=MOST_PASSES)
        return super().__getstate__() | {"passes": empty, "_inputs": empty.copy(), "watcher": None}


def watch_exclusively(watcher: Watcher, optimizer: torch.optim.Optimizer, layers: Sequence[HiddenLayer]) -> None:
    """Make sure that nobody else watches any of some layers, and rid them of hooks that nobody listens to any more.

    Whoever watches is known by the hooks that it has on these layers and on the optimizer.

    :raises ValueError: if another one watches a module of theirs, and so would replace or correct the same weights
    """
    modules = {module: layer.name for layer in layers for module in layer.modules()}
    if any(_others(watcher, optimizer, modules)):
        gc.collect()  # one that was dropped together with its optimizer doesn't count; they refer to each other
    for other in _others(watcher, optimizer, modules):
        for module in modules.keys() & other.watched_modules:
            which = "another" if type(other) is type(watcher) else "a"
            raise ValueError(
                f"{modules[module]}: {module} is watched by {which} {type(other).__name__}; call that one's remove() "
                "first"
            )
    for hook in _feature_hooks(modules):
        hook.remove()


def _others(watcher: Watcher, optimizer: torch.optim.Optimizer, modules: Iterable[nn.Module]) -> list[Watcher]:
    by_layer = [hook.watcher() for hook in _feature_hooks(modules) if hook.watcher is not None]
    by_optimizer = [getattr(hook, "__self__", None) for hook in optimizer._optimizer_step_post_hooks.values()]
    found = {id(each): each for each in by_layer + by_optimizer if hasattr(each, "watched_modules")}
    return [each for each in found.values() if each is not None and each is not watcher]


def _feature_hooks(modules: Iterable[nn.Module]) -> list[FeatureHook]:
    hooks = [hook for module in modules for hook in module._forward_pre_hooks.values()]
    return [hook for hook in hooks if isinstance(hook, FeatureHook)]
