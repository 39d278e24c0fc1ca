"""The ways in which algorithms run the networks of a policy, each on an observation drawn at random."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from torch import Tensor, nn

METHODS = (
    ("forward", False),
    ("forward", True),
    ("evaluate_actions", True),
    ("action_log_prob", True),
    ("get_distribution", False),
    ("predict_values", False),
)
"""What algorithms call, and whether in training mode."""


class Run(NamedTuple):
    """One way to run a network."""

    method: str
    training: bool
    call: Callable[[], Any]


def ways_to_run(policy: BasePolicy, network: nn.Module) -> Iterator[Run]:
    """List how algorithms run a network of a policy: forward, which comes first, and what it has besides."""
    space = batch_space(copy.deepcopy(policy.observation_space), n=2)  # a copy, whose generator may move
    space.seed(0)
    observation = policy.obs_to_tensor(space.sample())[0]
    for method, training in METHODS:
        if hasattr(network, method):
            yield Run(method, training, partial(run_network, policy, network, observation, method=method))


def run_network(
    policy: BasePolicy, network: nn.Module, observation: Any, actions: Tensor | None = None, method: str = "forward"
) -> Any:
    """Run a network of a policy as it acts, without noise; memory, if it has any, begins empty at each sample.

    :param policy: of stable-baselines3 or sb3-contrib
    :param network: one of its ``trained_networks``
    :param observation: a batch as the policy's own ``obs_to_tensor`` makes it
    :param actions: what a critic judges, zeros by default
    """
    first = next(iter(observation.values())) if isinstance(observation, dict) else observation
    call = getattr(network, method) if method != "forward" else network
    wanted = inspect.signature(getattr(network, method)).parameters
    with _without_noise(network):
        return call(observation, **_arguments(policy, set(wanted), len(first), actions))


class _States(tuple[Tensor, ...]):
    """The state of an LSTM, which is the actor's and the critic's at once."""

    @property
    def pi(self) -> _States:
        return self

    @property
    def vf(self) -> _States:
        return self


def _arguments(policy: Any, wanted: set[str], samples: int, actions: Tensor | None) -> dict[str, Any]:
    """Make the arguments besides the observation that a method of stable-baselines3 or sb3-contrib wants."""
    arguments: dict[str, Any] = {"deterministic": True} if "deterministic" in wanted else {}
    for name in {"action", "actions"} & wanted:
        arguments[name] = _zero_actions(policy, samples) if actions is None else actions
    if "lstm_states" in wanted:
        layers, _, units = policy.lstm_hidden_state_shape
        state = torch.zeros(layers, samples, units, device=policy.device)
        arguments["lstm_states"] = _States((state, state))
        arguments["episode_starts"] = torch.zeros(samples, device=policy.device)
    return arguments


def _zero_actions(policy: BasePolicy, samples: int) -> Tensor:
    """Actions as algorithms pass them on."""
    space = policy.action_space
    if isinstance(space, spaces.Discrete):
        return torch.zeros(samples, dtype=torch.int64, device=policy.device)
    return torch.zeros(samples, get_action_dim(space), device=policy.device)


class _NoNoise(StateDependentNoiseDistribution):
    """Stands in for gSDE while a policy is traced.

    gSDE's exploration noise reads the last hidden layer through a matrix that is drawn, not learned, so it is no reader
    whose weights could be set to zero.
    """

    def __init__(self) -> None:
        super().__init__(action_dim=1)

    def proba_distribution(self, mean_actions: Tensor, *_: Any) -> _NoNoise:
        self.mean_actions = mean_actions
        return self

    def get_actions(self, deterministic: bool = False) -> Tensor:
        return self.mean_actions

    def log_prob(self, actions: Tensor, *_: Any) -> Tensor:
        return actions

    def entropy(self) -> None:
        return None

    def actions_from_params(self, mean_actions: Tensor, *_: Any, **__: Any) -> Tensor:
        return mean_actions


@contextmanager
def _without_noise(network: Any) -> Iterator[None]:
    """Run a network as it is without gSDE."""
    noise = getattr(network, "action_dist", None)
    if not isinstance(noise, StateDependentNoiseDistribution):
        yield
        return
    network.action_dist = _NoNoise()
    try:
        yield
    finally:
        network.action_dist = noise
