"""The hidden layers of a policy of stable-baselines3: what they are called, and their features on a batch."""

from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from cppo.layers.gradient_graph import find_first_readers
from cppo.layers.sort_out import sort_out
from cppo.plasticity.layers import MeasuredLayer, bounded, features_of
from cppo.sb3.layer_names import layer_names
from cppo.sb3.policy_layers import runs_on_zeros, trace_policy, trained_networks
from cppo.sb3.policy_runs import run_network


def find_measured_layers(policy: BasePolicy) -> list[MeasuredLayer]:
    """Find the hidden layers of a policy, of all networks that have an optimizer.

    Layers that continual backpropagation leaves out (behind a concatenated ReLU, with a residual connection, of an
    extractor that two optimizers share) are measured too, by all that their first reader is given.

    :return: the layers in the order in which they are computed
    :raises ValueError: if the policy has no optimizer, or can't be run on zeros
    """
    traced = trace_policy(policy)
    readers = find_first_readers(policy, runs_on_zeros(policy))
    names = layer_names(policy)
    layers = []
    for units in traced:
        hidden_layer = next(iter(sort_out([units])[0]), None)
        reader = readers.get(units.incoming) if hidden_layer is None else hidden_layer.outgoing[0]
        if reader is not None:
            saturates = None if hidden_layer is None else bounded(hidden_layer.activation)
            layers.append(MeasuredLayer(names[units.incoming], units.incoming, reader, hidden_layer, saturates))
    return layers


def collect_features(
    policy: BasePolicy, layers: Sequence[MeasuredLayer], observations: Any, actions: Tensor | None = None
) -> dict[str, Tensor]:
    """Run the networks of a policy on a batch and take down the features, without touching the policy or any generator.

    :param observations: a tensor, or a dict of tensors, as they lie in the buffers of stable-baselines3
    :param actions: what critics judge, zeros by default
    :return: for each layer that ran, by name, its features of shape (samples, units)
    """
    networks = [trained.network for trained in trained_networks(policy).values()]
    parts = observations if isinstance(observations, dict) else {None: observations}

    def run(part: slice) -> None:
        batch = {key: value[part] for key, value in parts.items()}
        for network in networks:
            run_network(policy, network, batch.get(None, batch), None if actions is None else actions[part])

    return features_of(policy, layers, run, len(next(iter(parts.values()))))
