"""Sees the features of training passes: a forward pre-hook on a module that reads hidden units."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

MOST_PASSES = 1000
"""Passes kept for one optimizer step. A network trained on without a step of the watched optimizer must not eat the
memory up, and of more passes than these the last ones say enough."""


class ReaderHook:
    """Keeps what a reader is given in training passes, those with gradients in training mode.

    A forward hook is copied and pickled with its module. It holds no reference to the layer that looks at it, so that
    nothing else goes along, and its copy sleeps until a copy of the ``ContinualBackprop`` wakes it: a copy of the
    module alone is a plain module.

    Under ``torch.compile`` it becomes part of the compiled graph, once for each number of passes seen since the last
    step. Beyond torch's limit of recompilations (8) a module runs uncompiled, of which torch warns.

    :param reader: the module to listen to
    """

    def __init__(self, reader: nn.Module) -> None:
        self.passes: deque[Tensor] = deque(maxlen=MOST_PASSES)
        self.awake = True
        self.handle = reader.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, reader: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called by torch before the reader runs, with what it was called with."""
        if not (self.awake and reader.training and torch.is_grad_enabled()):
            return
        given = args[0] if args else kwargs["input"]
        if given.numel():  # an empty batch says nothing
            self.passes.append(given.detach())

    def remove(self) -> None:
        """Stop listening."""
        self.awake = False
        self.passes.clear()
        self.handle.remove()

    def __getstate__(self) -> dict[str, Any]:
        # The handle goes along because restoring it keeps torch from giving its number to another hook.
        return {"passes": deque(maxlen=MOST_PASSES), "awake": False, "handle": self.handle}
