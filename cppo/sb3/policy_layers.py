"""Finds the hidden layers of a stable-baselines3 policy, for each of its optimizers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from gymnasium.vector.utils import create_empty_array
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn

from cppo.layers.find import never_seen, trace
from cppo.layers.hidden_layer import HiddenLayer
from cppo.layers.leaks import Way, leave_out_what_leaks
from cppo.layers.observe import unwrapped
from cppo.layers.records import replaceable
from cppo.layers.snapshot import Snapshot
from cppo.layers.traced_units import merge
from cppo.sb3.policy_runs import run_network, ways_to_run

if TYPE_CHECKING:
    from cppo.layers.traced_units import TracedUnits

ADVICE = "give net_arch at least one hidden layer"
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
    """

    of_network: dict[str, list[HiddenLayer]]
    left_out: dict[str, str]


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
    for layer in replaceable(traced, type(policy).__name__, ADVICE):
        parameters = {part.parameter for part in layer.parts()}
        owner = next((name for name, theirs in trained.items() if parameters <= theirs), None)
        if owner is not None:
            del left_out[layer.name]
            found[owner].append(layer)
    if not any(found.values()):
        names = ", ".join(left_out)
        raise ValueError(f"no optimizer of {type(policy).__name__} trains a hidden layer whole (found: {names})")
    left_out |= _not_seen(policy, traced)
    return PolicyLayers(found, left_out)


def trace_policy(policy: BasePolicy) -> list[TracedUnits]:
    """Follow the units of all networks of a policy that have an optimizer.

    :return: the units of every linear layer and convolution that ran; their names begin at the policy
    :raises ValueError: if there is no such network, or one can't be run
    """
    return merge(_trace_network(policy, each.network) for each in trained_networks(policy).values())


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
                    f"{type(policy).__name__}: {what} could not be run on an observation to follow its data ({error})"
                ) from error
            mode = "training" if run.training else "evaluation"
            warnings.warn(
                f"{what} could not be run on an observation in {mode} mode ({error}), so hidden units are replaced "
                "without regard to readers that run only there",
                stacklevel=2,
            )
    return merge(traces)
