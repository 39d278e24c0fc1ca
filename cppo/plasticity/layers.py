"""The hidden layers of a module, their features on a batch, and the measures of these."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from cppo.layers.find import find_hidden_layers
from cppo.layers.hidden_layer import HiddenLayer, UnitModule, n_inputs, unit_features
from cppo.layers.observe import observing
from cppo.plasticity import measures

SAMPLES_AT_ONCE = 250
"""Samples a network is run on at a time, so that images don't eat the memory up."""


@dataclass(frozen=True, eq=False)
class MeasuredLayer:
    """A hidden layer to measure.

    :param name: network and number, as ``actor.0``
    :param incoming: the module that computes the units
    :param reader: the first module that is given their features
    :param record: which inputs of the reader are the units; None: all of them
    :param bounded: the units' activation, if it is one that saturates
    """

    name: str
    incoming: UnitModule
    reader: UnitModule
    record: HiddenLayer | None = None
    bounded: str | None = None

    def features(self, given: Tensor, first_sample: int = 0) -> Tensor:
        """Take the units' features out of what the reader was given.

        Of a feature map each sample contributes one position, and all positions get their turn.
        :param first_sample: number of the first sample in a larger batch
        :return: shape (samples, units)
        """
        if self.record is None:
            features = unit_features(self.reader, given, n_inputs(self.reader), 0, 1)
        else:
            features = self.record.features(given)
        samples = len(given)
        positions = len(features) // samples
        if positions == 1:
            return features
        stride = next(step for step in range(round(0.618 * positions), 2 * positions) if math.gcd(step, positions) == 1)
        number = torch.arange(samples, device=features.device)
        return features[number * positions + (number + first_sample) * stride % positions]

    def measure(self, features: Tensor) -> dict[str, float]:
        """All measures of features of shape (samples, units), by name."""
        features = features.cpu()  # double precision isn't to be had, or is slow, elsewhere
        values = measures.singular_values(features)
        figures = {
            "dead_share": measures.share(measures.dead_units(features)),
            "dormant_share": measures.share(measures.dormant_units(features)),
            "tau_dormant_share": measures.share(measures.tau_dormant_units(features)),
            "effective_rank": measures.effective_rank(values),
            "stable_rank": measures.stable_rank(values),
        }
        if self.bounded is not None:
            figures["saturated_share"] = measures.share(measures.saturated_units(features, self.bounded))
        return figures


def measure_module(module: nn.Module, inputs: Tensor) -> dict[str, dict[str, float]]:
    """Measure all hidden layers of any torch module on a batch, without touching the module or any random generator.

    :param module: takes one tensor; its hidden layers are found by following the data
    :param inputs: shape (samples, ...), on the module's device
    :return: for each layer, by name, all measures of its features and the magnitude of the weights that feed it
    :raises ValueError: if no hidden layer is found
    """
    layers = [
        MeasuredLayer(record.name, record.incoming, record.outgoing[0], record, bounded(record.activation))
        for record in find_hidden_layers(module, inputs[:2])
    ]
    features = features_of(module, layers, lambda part: module(inputs[part]), len(inputs))
    return {
        layer.name: layer.measure(features[layer.name])
        | {"weight_magnitude": measures.weight_magnitude(layer.incoming.weight)}
        for layer in layers
    }


def features_of(
    module: nn.Module, layers: Sequence[MeasuredLayer], run: Callable[[slice], object], count: int
) -> dict[str, Tensor]:
    """Take down the features of layers while a module runs on a batch, in parts.

    :param module: the module, which is run in evaluation mode and without gradients
    :param run: runs it on the samples of a slice
    :return: for each layer that ran, by name, its features of shape (samples, units)
    """
    found: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    now: dict[str, Tensor] = {}
    first = 0

    def note(layer: MeasuredLayer, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        if layer.name not in now:  # several networks may share it
            now[layer.name] = layer.features(given[0], first)

    with observing(module), torch.no_grad():
        handles = [layer.reader.register_forward_pre_hook(partial(note, layer)) for layer in layers]
        try:
            for first in range(0, count, SAMPLES_AT_ONCE):
                run(slice(first, first + SAMPLES_AT_ONCE))
                for name, features in now.items():
                    found[name].append(features)
                now.clear()
        finally:
            for handle in handles:
                handle.remove()
    return {name: torch.cat(parts) for name, parts in found.items() if parts}


def bounded(activation: nn.Module | Callable[[Tensor], Tensor] | None) -> str | None:
    """The name of an activation, if it is one that saturates at two bounds."""
    kind = type(activation).__name__ if isinstance(activation, nn.Module) else getattr(activation, "__name__", "")
    name = kind.lower().strip("_")
    return name if name in measures.BOUNDS else None
