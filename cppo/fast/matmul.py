"""The matrix products of a linear layer, by the library that is faster on this processor.

torch leaves them to MKL, which makes no use of the wide vectors of an AMD processor that has them. There oneDNN, which
comes with torch too, takes half the time, with sums in another order.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

WIDE = 64
"""Features from which on, given and made, oneDNN is faster: it begins more slowly."""


class Torch:
    """The three products of a linear layer in a minibatch, as torch takes them, each written to memory given."""

    def output(self, x: Tensor, weight: Tensor, bias: Tensor, room: Tensor) -> Tensor:
        """Compute the layer's output from its input x, shape (samples, inputs)."""
        return torch.addmm(bias, x, weight.t(), out=room)

    def weight_gradient(self, error: Tensor, x: Tensor, gradient: Tensor) -> None:
        """Write the loss' gradient by the weight, given that by the output."""
        torch.mm(error.t(), x, out=gradient)

    def input_gradient(self, error: Tensor, weight: Tensor, room: Tensor) -> Tensor:
        """Compute the loss' gradient by the input, given that by the output."""
        return torch.mm(error, weight, out=room)


class OneDNN(Torch):
    """The same by oneDNN's linear layer, which torch's compiler uses; it writes to memory of its own."""

    def output(self, x: Tensor, weight: Tensor, bias: Tensor, room: Tensor) -> Tensor:
        """See ``Torch``."""
        return _linear(x, weight, bias)

    def weight_gradient(self, error: Tensor, x: Tensor, gradient: Tensor) -> None:
        """See ``Torch``."""
        gradient.copy_(_linear(error.t(), x.t()))

    def input_gradient(self, error: Tensor, weight: Tensor, room: Tensor) -> Tensor:
        """See ``Torch``."""
        return _linear(error, weight.t())


def matmul_for(weight: Tensor) -> Torch:
    """Choose who takes the products of a layer with this weight, shape (outputs, inputs).

    The processor's name decides, not a measurement: a training that is resumed must go on as it began.
    """
    is_plain = weight.is_cpu and weight.dtype == torch.float32
    return OneDNN() if is_plain and min(weight.shape) >= WIDE and onednn_is_faster() else Torch()


@lru_cache(maxsize=1)
def onednn_is_faster() -> bool:
    """Say whether this is an AMD processor with vectors of 512 bits, and torch has oneDNN."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    processor = torch.cpu.get_capabilities()
    return "AMD" in str(processor.get("cpu_name")) and bool(processor.get("avx512_f"))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
