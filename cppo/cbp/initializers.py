"""Where a new unit's incoming weights come from: the layer's own initial distribution, one function each.

An initializer takes the layer's record, how many units are new and a generator, and returns their incoming weights,
shape (count, *weight.shape[1:]), on the CPU.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cppo.layers.hidden_layer import HiddenLayer, UnitModule

Initializer = Callable[[HiddenLayer, int, torch.Generator], Tensor]

INITIALIZERS: dict[str, Initializer] = {}
"""Every initializer that can be asked for by name."""


def register_initializer(initializer: Initializer) -> Initializer:
    """Make an initializer available under its function's name; use it as a decorator."""
    INITIALIZERS[initializer.__name__] = initializer
    return initializer


@register_initializer
def lecun_uniform(layer: HiddenLayer, count: int, generator: torch.Generator) -> Tensor:
    """Uniform with variance 1 / fan in (LeCun et al., "Efficient BackProp", 1998)."""
    return _uniform(layer, count, math.sqrt(3 / fan_in(layer)), generator)


@register_initializer
def kaiming_uniform(layer: HiddenLayer, count: int, generator: torch.Generator) -> Tensor:
    """Uniform with variance gain^2 / fan in, the gain being the activation's (He et al., 2015, equation 10)."""
    return _uniform(layer, count, activation_gain(layer) * math.sqrt(3 / fan_in(layer)), generator)


@register_initializer
def xavier_uniform(layer: HiddenLayer, count: int, generator: torch.Generator) -> Tensor:
    """Uniform with variance 2 gain^2 / (fan in + fan out) (Glorot & Bengio, 2010, equation 16)."""
    weight = layer.incoming.weight
    fan_out = weight.shape[0] * weight[0, 0].numel()
    return _uniform(layer, count, activation_gain(layer) * math.sqrt(6 / (fan_in(layer) + fan_out)), generator)


@register_initializer
def torch_default(layer: HiddenLayer, count: int, generator: torch.Generator) -> Tensor:
    """What ``nn.Linear`` and the convolutions start with: uniform within 1 / sqrt(fan in)."""
    return _uniform(layer, count, 1 / math.sqrt(fan_in(layer)), generator)


@register_initializer
def orthogonal(layer: HiddenLayer, count: int, generator: torch.Generator) -> Tensor:
    """Rows of a random orthogonal matrix times sqrt(2), as stable-baselines3 starts its hidden layers.

    ``count`` rows of an orthogonal (n_units, fan in) matrix are distributed like the first columns of ``count``
    orthonormal vectors of length max(n_units, fan in), so only those are drawn.
    """
    inputs = fan_in(layer)
    length = max(layer.n_units, inputs)
    directions, triangle = torch.linalg.qr(torch.randn(length, count, generator=generator, device=generator.device))
    rows = (directions * triangle.diagonal().sign()).T[:, :inputs]
    return math.sqrt(2) * rows.reshape(count, *layer.incoming.weight.shape[1:])


def draw_weights(
    module: UnitModule, initializer: Initializer, generator: torch.Generator, activation: nn.Module | None = None
) -> Tensor:
    """New weights for a whole module, whether its units are hidden or not.

    :param module: the module
    :param initializer: where they come from
    :param generator: what they are drawn with
    :param activation: behind the module; None for none
    :return: shape of its weight
    """
    n_units = module.weight.shape[0]
    reader = nn.Linear(n_units, 1, device="meta")  # there, its own weights are never drawn
    return initializer(HiddenLayer(module, [reader], activation), n_units, generator)


def find_initializer(initializer: str | Initializer) -> Initializer:
    """Look an initializer up by name, or accept a function.

    :raises ValueError: for a name that isn't registered; the message lists those that are
    """
    if callable(initializer):
        return initializer
    if initializer not in INITIALIZERS:
        names = ", ".join(sorted(INITIALIZERS))
        raise ValueError(f"initializer={initializer!r} is unknown; choose one of {names}, or a function")
    return INITIALIZERS[initializer]


def fan_in(layer: HiddenLayer) -> int:
    """Number of weights that feed one unit."""
    return layer.incoming.weight[0].numel()


def activation_gain(layer: HiddenLayer) -> float:
    """The gain torch recommends for the layer's activation (``nn.init.calculate_gain``); 1 where it names none."""
    kind = layer.activation
    name = (type(kind).__name__ if isinstance(kind, nn.Module) else getattr(kind, "__name__", "linear")).lower()
    name = {"leakyrelu": "leaky_relu"}.get(name, name)
    if name == "leaky_relu":
        return nn.init.calculate_gain("leaky_relu", getattr(kind, "negative_slope", 0.01))
    gains = {"relu": math.sqrt(2), "tanh": 5 / 3, "selu": 3 / 4}
    return gains.get(name, 1.0)


def _uniform(layer: HiddenLayer, count: int, bound: float, generator: torch.Generator) -> Tensor:
    shape = (count, *layer.incoming.weight.shape[1:])
    return torch.empty(shape, device=generator.device).uniform_(-bound, bound, generator=generator)
