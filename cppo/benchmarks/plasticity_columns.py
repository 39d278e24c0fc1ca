"""Plasticity of one layer, as columns of a table."""

import torch
from torch import Tensor, nn

from cppo.benchmarks.problem import Row
from cppo.layers.hidden_layer import LAYERS_WITH_UNITS
from cppo.plasticity.measures import dead_units, effective_rank, share, singular_values, weight_magnitude


def measure_layer(features: Tensor | None, weights: Tensor) -> Row:
    """Measure the share of dead units, mean |w| and the effective rank.

    :param features: shape (samples, units); None for a learner without hidden units
    :param weights: the incoming weights
    """
    return {
        "dead_units": 0.0 if features is None else share(dead_units(features)),
        "weight_magnitude": weight_magnitude(weights),
        "effective_rank": 0.0 if features is None else effective_rank(singular_values(features)),
    }


@torch.no_grad()
def measure_units(network: nn.Sequential, inputs: Tensor) -> Row:
    """Measure the plasticity of the ReLU units of a network: means over its hidden layers.

    The channels of a convolution are its units, and positions count as samples.

    :param network: a chain of layers
    :param inputs: samples
    """
    network.eval()
    found, features = [], inputs
    weights: Tensor = next(network.parameters())
    for module in network:
        features = module(features)
        if isinstance(module, LAYERS_WITH_UNITS):
            weights = module.weight
        elif isinstance(module, nn.ReLU):
            units = features.movedim(1, -1).flatten(0, -2) if features.ndim > 2 else features
            found.append(measure_layer(units, weights))
    network.train()
    if not found:
        return measure_layer(None, weights)
    return {name: sum(layer[name] for layer in found) / len(found) for name in found[0]}
