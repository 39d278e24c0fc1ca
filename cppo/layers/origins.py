"""Knows where the tensors of a run come from: there before it, or made by a function that was seen."""

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

UNSEEN = "which the trace did not see made (by a scripted function, in a thread, by vmap, dlpack or numpy, ...)"
"""What is said of a tensor of unknown origin."""


class Origins:
    """The tensors of known origin.

    :param known: those that were there before the run
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        self.strangers: list[Tensor] = []
        self._known: dict[int, weakref.ref[Tensor]] = {}
        for tensor in known:
            self.add(tensor)

    def add(self, tensor: Tensor) -> None:
        """Note that a tensor was seen made."""
        self._known[id(tensor)] = weakref.ref(tensor)

    def of_unknown(self, values: Any) -> list[Tensor]:
        """Tensors of unknown origin among some values, nested or not; from now on they are known as strangers."""
        found = [each for each in tree_leaves(values) if isinstance(each, Tensor) and not self.know(each)]
        for tensor in found:
            self.add(tensor)
        self.strangers += found
        return found

    def know(self, tensor: Tensor) -> bool:
        """Whether a tensor was there before, or was seen made."""
        reference = self._known.get(id(tensor))
        return reference is not None and reference() is tensor
