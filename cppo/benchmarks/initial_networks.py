"""The benchmarks' networks, their initial weights, and those of the new units in them."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cppo.benchmarks.learner_settings import LearnerSettings
from cppo.cbp.initializers import activation_gain, draw_weights, fan_in
from cppo.layers.hidden_layer import LAYERS_WITH_UNITS, HiddenLayer
from cppo.remedies import OnlineNorm

GAINS_OF_RELU = (nn.ELU, nn.SiLU)
"""Activations that torch names no gain for; the published code takes that of ReLU."""

NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "online": OnlineNorm}


def kaiming_gain(layer: HiddenLayer) -> float:
    """The published gain of a layer's activation."""
    return math.sqrt(2) if isinstance(layer.activation, GAINS_OF_RELU) else activation_gain(layer)


def kaiming(layer: HiddenLayer, count: int, generator: torch.Generator) -> Tensor:
    """Kaiming-uniform weights of hidden units with the published gains; an initializer of ``ContinualBackprop``."""
    bound = kaiming_gain(layer) * math.sqrt(3 / fan_in(layer))
    shape = (count, *layer.incoming.weight.shape[1:])
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def draw_initial_weights(network: nn.Module, activation: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew: ``kaiming`` in hidden layers, variance 1 / fan in for the output; biases are zero.

    :param network: a chain of layers
    :param activation: of the hidden layers
    :param generator: where the numbers come from
    """
    layers = [module for module in network.modules() if isinstance(module, LAYERS_WITH_UNITS)]
    for layer in layers:
        layer.weight.copy_(draw_weights(layer, kaiming, generator, None if layer is layers[-1] else activation))
        if layer.bias is not None:
            layer.bias.zero_()


def chain(sizes: Sequence[int], activation: type[nn.Module], settings: LearnerSettings) -> nn.Sequential:
    """Build a network of linear layers.

    :param sizes: inputs, units of each hidden layer, outputs
    :param activation: of the hidden layers
    :param settings: say whether hidden layers are normalised, before the activation, and dropped out of, behind it
    """
    *pairs, last = itertools.pairwise(sizes)
    modules: list[nn.Module] = []
    for inputs, units in pairs:
        modules.append(nn.Linear(inputs, units))
        if settings.norm is not None:
            modules.append(NORMS[settings.norm](units))
        modules.append(activation())
        if settings.dropout is not None:
            modules.append(nn.Dropout(settings.dropout))
    return nn.Sequential(*modules, nn.Linear(*last))
