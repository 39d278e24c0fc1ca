"""Finds the hidden layers of a stable-baselines3 policy, for each of its optimizers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from gymnasium.vector.utils import create_empty_array
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch import Tensor, nn

from cppo.layers.find import find_trained_layers, never_seen, trace
from cppo.layers.gradient_graph import find_first_readers
from cppo.layers.hidden_layer import LAYERS_WITH_UNITS, HiddenLayer
from cppo.layers.leaks import Way, leave_out_what_leaks
from cppo.layers.observe import unwrapped
from cppo.layers.snapshot import Snapshot
from cppo.layers.sort_out import replaceable
from cppo.layers.traced_units import merge
from cppo.sb3.policy_runs import run_network, ways_to_run

if TYPE_CHECKING:
    from cppo.layers.traced_units import TracedUnits

LayersOf = Callable[[Any], Sequence[HiddenLayer] | Mapping[str, Sequence[HiddenLayer]]]
"""A function of a policy that names the layers to watch; by network where there are several optimizers."""

NO_HIDDEN_LAYER = "give net_arch at least one hidden layer"
BY_HAND = (
    "name all layers by hand: hidden_layers=, a function of the policy that returns "
    "[HiddenLayer(incoming=..., outgoing=[...], activation=...), ...]"
)
WRAPPERS = ("_orig_mod", "module")
"""How a module is called inside of ``torch.compile`` and of (distributed) data parallelism."""

CANNOT_RUN = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)


class Trained(NamedTuple):
    """A network and the optimizer that trains it."""

    network: nn.Module
    optimizer: torch.optim.Optimizer

    def parameters(self) -> set[Tensor]:
        """What the optimizer changes."""
        groups = self.optimizer.param_groups
        return {parameter for group in groups for parameter in group["params"] if parameter.requires_grad}


def trained_networks(policy: BasePolicy) -> dict[str, Trained]:
    """Find the modules of a policy that have an optimizer: the policy itself, or its actor and its critic.

    Target networks have none, and the optimizer of an entropy coefficient belongs to the algorithm.

    :return: the modules by name; the policy itself is called "policy"
    :raises ValueError: if there is none, as in algorithms that don't follow a gradient
    """
    found = {}
    for name, module in unwrapped(policy).named_modules():
        optimizer = getattr(module, "optimizer", None)
        if isinstance(optimizer, torch.optim.Optimizer) and unwrapped(module) is module:
            name = ".".join(part for part in name.split(".") if part not in WRAPPERS)
            found[name.replace(".", "_") or "policy"] = Trained(module, optimizer)
    if not found:
        raise ValueError(f"{type(policy).__name__} has no optimizer, so no step after which units could be replaced")
    return found


def runs_on_zeros(policy: BasePolicy) -> list[Callable[[], Any]]:
    """For each of a policy's ``trained_networks`` a function that runs it on one observation, all zeros."""
    zeros: Any = create_empty_array(policy.observation_space, n=1)
    observation = policy.obs_to_tensor(zeros)[0]
    return [partial(run_network, policy, each.network, observation) for each in trained_networks(policy).values()]


class PolicyLayers(NamedTuple):
    """What was found in a policy.

    :param of_network: the layers whose units can be replaced, by the name of the network with the optimizer
    :param left_out: why each other layer can't be, by its name; output layers and target networks are among them
    :param unwatched: a line for each network of which no hidden layer can be, though it has some
    """

    of_network: dict[str, list[HiddenLayer]]
    left_out: dict[str, str]
    unwatched: Sequence[str] = ()


def find_policy_layers(policy: BasePolicy) -> PolicyLayers:
    """Find the hidden layers of a policy by running each network that has an optimizer on an observation.

    Each is run in all ways that algorithms do (``cppo.sb3.policy_runs``), in evaluation and in training mode.

    What the networks share is followed through all of them. A layer belongs to the optimizer that trains all its
    weights, incoming and outgoing. Where no single one does (the last layer of a features extractor that actor and
    critic share but only the actor's loss trains), the layer is left out: replacing its units would need both.

    :raises ValueError: if the policy has no hidden layer that can be replaced; the message says what was found
    """
    networks = trained_networks(policy)
    traced = trace_policy(policy)
    leave_out_what_leaks(policy, traced, _ways(policy))
    trained = {name: each.parameters() for name, each in networks.items()}
    found: dict[str, list[HiddenLayer]] = {name: [] for name in networks}
    left_out = {
        units.name: units.obstacle or "no single optimizer trains both it and all layers that read it"
        for units in traced
    }
    ends = _ends(policy)
    for layer in replaceable(traced, type(policy).__name__, _by_hand(networks) if ends else NO_HIDDEN_LAYER):
        parameters = {part.parameter for part in layer.parts()}
        owner = next((name for name, theirs in trained.items() if parameters <= theirs), None)
        if owner is not None:
            del left_out[layer.name]
            found[owner].append(layer)
    if not any(found.values()):
        names = ", ".join(left_out)
        raise ValueError(f"no optimizer of {type(policy).__name__} trains a hidden layer whole (found: {names})")
    unwatched = list(_unwatched(traced, left_out, ends, _by_hand(networks)))
    left_out |= _not_seen(policy, traced)
    return PolicyLayers(found, left_out, unwatched)


def layers_of(network: Literal["actor", "critic"], policy: ActorCriticPolicy) -> list[HiddenLayer]:
    """Find the hidden layers of the actor or of the critic alone, without what they share; for ``hidden_layers``."""
    extractor = policy.mlp_extractor
    inside = set((extractor.policy_net if network == "actor" else extractor.value_net).modules())
    found = find_policy_layers(policy).of_network.values()
    return [layer for layers in found for layer in layers if layer.incoming in inside]


def layers_by_hand(policy: BasePolicy, layers_of: LayersOf) -> PolicyLayers:
    """Take the hidden layers of a policy that a function names.

    :param layers_of: the function; a network that it leaves out isn't watched
    :raises TypeError: if it is none, or returns something else
    :raises ValueError: if it names no layer, an unknown network, or a layer that the network's optimizer doesn't train
        whole
    """
    if not callable(layers_of):
        kind = type(layers_of).__name__
        raise TypeError(f"hidden_layers must be a function of the policy, which is built later, not a {kind}")
    networks, given = trained_networks(policy), layers_of(policy)
    if not isinstance(given, Mapping):
        if len(networks) > 1:
            raise TypeError(
                f"hidden_layers must return a dict of lists of HiddenLayer, by network ({', '.join(networks)}): "
                "each has an optimizer of its own"
            )
        given = dict.fromkeys(networks, given)
    if not given or (unknown := given.keys() - networks.keys()):
        what = f"the network {min(unknown)!r}, which isn't there" if given else "no network"
        raise ValueError(f"hidden_layers names {what}; it may name {', '.join(networks)}")
    names = {module: name for name, module in policy.named_modules()}
    found: dict[str, list[HiddenLayer]] = {}
    for name, layers in given.items():
        trained, untrained = find_trained_layers(*networks[name], layers)
        if untrained:
            raise ValueError(f"{names.get(untrained[0].module, untrained[0].name)}: {untrained[0].reason}")
        found[name] = [replace(layer, name=names.get(layer.incoming, layer.name)) for layer in trained]
    named = {layer.incoming for layers in found.values() for layer in layers}
    others = (name for module, name in names.items() if isinstance(module, LAYERS_WITH_UNITS) and module not in named)
    return PolicyLayers(found, dict.fromkeys(others, "not among the layers named"))


def trace_policy(policy: BasePolicy) -> list[TracedUnits]:
    """Follow the units of all networks of a policy that have an optimizer.

    :return: the units of every linear layer and convolution that ran; their names begin at the policy
    :raises ValueError: if there is no such network, or one can't be run
    """
    return merge(_trace_network(policy, each.network) for each in trained_networks(policy).values())


def _ends(policy: BasePolicy) -> dict[nn.Module, nn.Module]:
    """The output layer to which each hidden layer leads, by way of its first reader, whatever lies in between."""
    runs = [next(ways_to_run(policy, each.network)).call for each in trained_networks(policy).values()]
    try:
        readers = find_first_readers(policy, runs)
    except CANNOT_RUN:  # with gradients on, though it could without
        return {}
    ends: dict[nn.Module, nn.Module] = {}
    for layer in readers:
        passed: dict[nn.Module, None] = {}  # a layer that is used twice may read itself
        end: nn.Module = layer
        while end in readers and end not in passed:
            passed[end] = None
            end = readers[end]
        ends[layer] = end
    return ends


def _unwatched(
    traced: Sequence[TracedUnits], left_out: Mapping[str, str], ends: Mapping[nn.Module, nn.Module], advice: str
) -> Iterator[str]:
    """Yield a line for each output layer none of whose hidden layers is watched."""
    names: dict[nn.Module, str] = {units.incoming: units.name for units in traced}
    hidden: dict[nn.Module, list[str]] = {}
    for layer, name in names.items():
        if layer in ends:
            hidden.setdefault(ends[layer], []).append(name)
    for end, its_layers in hidden.items():
        if all(name in left_out for name in its_layers):
            reasons = "; ".join(f"{name}: {left_out[name]}" for name in its_layers)
            yield (
                f"continual backpropagation leaves out the whole network that ends in {names.get(end, 'a loop')} "
                f"({reasons}); to have it watched, {advice}"
            )


def _by_hand(networks: Mapping[str, Trained]) -> str:
    """How to name layers by hand."""
    return BY_HAND + (f", in a dict by network ({', '.join(networks)})" if len(networks) > 1 else "")


def _ways(policy: BasePolicy) -> list[Way]:
    """All ways in which algorithms run the networks of a policy."""
    networks = [each.network for each in trained_networks(policy).values()]
    return [Way(run.call, run.training) for network in networks for run in ways_to_run(policy, network)]


def _not_seen(policy: BasePolicy, traced: list[TracedUnits]) -> dict[str, str]:
    """Say why what didn't run is left out, in one line for a target network."""
    reasons = {}
    for layer in never_seen(policy, traced):
        head, target, _ = layer.name.partition("_target.")
        if layer.module is policy:
            continue  # its logarithm of a standard deviation belongs to no unit
        if target:
            reasons[f"{head}_target"] = "a target network, which follows its network"
        else:
            reasons[layer.name] = layer.reason
    return reasons


def _trace_network(policy: BasePolicy, network: nn.Module) -> list[TracedUnits]:
    """Follow the data through a network in each of the ways in which algorithms run it."""
    traces: list[list[TracedUnits]] = []
    runs = list(ways_to_run(policy, network))
    before = Snapshot(policy, runs)
    for run in runs:
        try:
            traces.append(trace(policy, run.call, run.training, before))
        except CANNOT_RUN as error:
            what = f"{type(network).__name__}.{run.method}"
            if not traces:
                raise ValueError(
                    f"{type(policy).__name__}: {what} could not be run on an observation to follow its data "
                    f"({error}); {_by_hand(trained_networks(policy))}"
                ) from error
            mode = "training" if run.training else "evaluation"
            warnings.warn(
                f"{what} could not be run on an observation in {mode} mode ({error}), so hidden units are replaced "
                "without regard to readers that run only there",
                stacklevel=2,
            )
    return merge(traces)
