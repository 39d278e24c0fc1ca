"""The hidden layers of a policy of stable-baselines3: what they are called, and their features on a batch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn

from cppo.layers.find import sort_out
from cppo.layers.hidden_layer import LAYERS_WITH_UNITS, HiddenLayer, UnitModule
from cppo.layers.observe import observing
from cppo.plasticity.layers import MeasuredLayer, bounded, features_of
from cppo.sb3.policy_layers import trace_policy, trained_networks
from cppo.sb3.policy_runs import run_network, zero_observation

if TYPE_CHECKING:
    from torch.autograd.graph import Node
    from torch.utils.hooks import RemovableHandle

SHORT_NAMES = (
    (r"^mlp_extractor\.policy_net\b", "actor"),
    (r"^mlp_extractor\.value_net\b", "critic"),
    (r"^(pi_|vf_|)features_extractor\b", lambda found: "critic.features" if found[1] == "vf_" else "features"),
    (r"\bfeatures_extractor\b", "features"),
    (r"\.(latent_pi|mu|cnn|linear|extractors)\b", ""),
    (r"^(\w+)\.\1\b", r"\1"),
    (r"(\.\d+)+$", ""),
)
"""From a module's path in a policy to the name of the network it is part of: ``mlp_extractor.policy_net.2`` is part of
``actor``, ``critic.qf0.0`` of ``critic.qf0``, ``q_net.q_net.0`` of ``q_net``."""


def find_measured_layers(policy: BasePolicy) -> list[MeasuredLayer]:
    """Find the hidden layers of a policy, of all networks that have an optimizer.

    Layers that continual backpropagation leaves out (behind a concatenated ReLU, with a residual connection, of an
    extractor that two optimizers share) are measured too, by all that their first reader is given.

    :return: the layers in the order in which they are computed
    :raises ValueError: if the policy has no optimizer, or can't be run on zeros
    """
    readers: dict[nn.Module, UnitModule] = {}
    found: list[tuple[str, UnitModule, UnitModule, HiddenLayer | None]] = []
    for units in trace_policy(policy):
        records, left_out = sort_out([units])
        if records:
            found.append((units.name, units.incoming, records[0].outgoing[0], records[0]))
        else:
            readers = readers or find_readers(policy)
            if left_out[0].module in readers:
                found.append((units.name, units.incoming, readers[units.incoming], None))
    numbers: Counter[str] = Counter()
    layers = []
    for path, incoming, reader, record in found:
        network = network_name(path)
        saturates = None if record is None else bounded(record.activation)
        layers.append(MeasuredLayer(f"{network}.{numbers[network]}", incoming, reader, record, saturates))
        numbers[network] += 1
    return layers


def network_name(path: str) -> str:
    """The name of the network that a module is part of, from the module's path in a policy."""
    for pattern, name in SHORT_NAMES:
        path = re.sub(pattern, name, path)
    return path


def find_readers(policy: BasePolicy) -> dict[nn.Module, UnitModule]:
    """Which module reads each layer first, whatever lies between them, by following gradients back.

    :return: for each linear layer or convolution whose output another one's input depends on, that other one
    """
    made_by: dict[Node, nn.Module] = {}
    readers: dict[nn.Module, UnitModule] = {}

    def note_output(module: nn.Module, _: Any, output: Tensor) -> None:
        if output.grad_fn is not None:
            made_by[output.grad_fn] = module

    def note_reader(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        for source in _nearest(given[0].grad_fn, made_by):
            readers.setdefault(source, module)  # type: ignore[arg-type]

    modules = [module for module in policy.modules() if isinstance(module, LAYERS_WITH_UNITS)]
    handles: list[RemovableHandle] = [module.register_forward_hook(note_output) for module in modules]
    handles += [module.register_forward_pre_hook(note_reader) for module in modules]
    try:
        with observing(policy), torch.enable_grad():
            observation = zero_observation(policy)
            for trained in trained_networks(policy).values():
                run_network(policy, trained.network, observation)
    finally:
        for handle in handles:
            handle.remove()
    return readers


def _nearest(start: Node | None, made_by: dict[Node, nn.Module]) -> Iterator[nn.Module]:
    """The modules whose outputs a tensor depends on without another module in between."""
    waiting, seen = [start], {start, None}
    while waiting:
        node = waiting.pop()
        if node in made_by:
            yield made_by[node]
        elif node is not None:
            following = {each for each, _ in node.next_functions} - seen
            seen |= following
            waiting += following


def collect_features(
    policy: BasePolicy, layers: Sequence[MeasuredLayer], observations: Any, actions: Tensor | None = None
) -> dict[str, Tensor]:
    """Run the networks of a policy on a batch and take down the features, without touching the policy or any generator.

    :param policy: of stable-baselines3 or sb3-contrib
    :param layers: what ``find_measured_layers`` found in it
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
