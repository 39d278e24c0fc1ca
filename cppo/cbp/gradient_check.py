"""Refuses a gradient that isn't finite before it reaches the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cppo import compiled

if TYPE_CHECKING:
    from cppo.cbp.watched_layer import WatchedLayer


class GradientCheck:
    """Looks at the gradients of some layers before an optimizer step.

    At every gradient where that is quick (see ``kernels``), else at the smallest that show what is wrong: a bias'
    gradient is the sum of its units' errors. The readers' are looked at too, as behind dead units the layer's own
    errors are zero. A weight's gradient that alone overflowed then shows in the utilities after the step.

    :param layers: the layers
    """

    def __init__(self, layers: Sequence[WatchedLayer]) -> None:
        self._weights: dict[Tensor, tuple[str, bool]] = {}
        for layer in layers:
            for module in (layer.record.incoming, *layer.record.outgoing):
                self._weights.setdefault(module.weight, (layer.name, module.bias is None))
                if module.bias is not None:
                    self._weights.setdefault(module.bias, (layer.name, True))

    def check(self) -> None:
        """Look at the gradients as they are now.

        :raises FloatingPointError: for one that isn't finite; names the layer
        """
        slow = []
        for parameter, (name, is_needed) in self._weights.items():
            gradient = parameter.grad
            if gradient is not None and compiled.can_take(gradient):
                if not compiled.is_finite(gradient):
                    _refuse(name)
            elif gradient is not None and is_needed:
                slow.append((name, gradient.flatten()))
        if slow and not math.isfinite(torch.cat([gradient for _, gradient in slow]).sum().item()):
            for name in [name for name, gradient in slow if not gradient.isfinite().all()]:
                _refuse(name)


def _refuse(name: str) -> None:
    raise FloatingPointError(f"the gradient of {name} or its readers is not finite; no weight was changed")
