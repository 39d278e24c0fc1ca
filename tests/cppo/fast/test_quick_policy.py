"""The policy's pass as one loop: stable-baselines3's to rounding, with the same random numbers."""

import copy
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from cppo.fast.quick_policy import QuickMlpPolicy

OBSERVATIONS, ACTIONS = gym.spaces.Box(-5, 5, (28,), np.float32), gym.spaces.Box(-1, 1, (8,), np.float32)
NETWORKS = {
    "relu": {"activation_fn": nn.ReLU, "net_arch": [64, 32]},
    "tanh, three layers": {"net_arch": [16, 16, 16]},
    "actor and critic differ": {"activation_fn": nn.ReLU, "net_arch": {"pi": [8], "vf": [16, 8]}},
    "an activation that it doesn't know": {"activation_fn": nn.ELU},
}


def policies(**arguments: object) -> tuple[ActorCriticPolicy, QuickMlpPolicy]:
    """stable-baselines3's policy and ours with the same weights, ready for a rollout."""
    torch.manual_seed(0)
    theirs = ActorCriticPolicy(OBSERVATIONS, ACTIONS, lambda _: 1e-3, log_std_init=-0.7, **arguments)
    ours = QuickMlpPolicy(OBSERVATIONS, ACTIONS, lambda _: 1e-3, log_std_init=-0.7, **arguments)
    ours.load_state_dict(theirs.state_dict())
    for policy in (theirs, ours):
        policy.set_training_mode(False)
    return theirs, ours


def passed(policy: ActorCriticPolicy, observations: Tensor) -> tuple[Tensor, ...]:
    """What the policy gives out, and the next random number."""
    torch.manual_seed(1)
    with torch.no_grad():
        return *policy(observations), torch.rand(())


def assert_close(ours: QuickMlpPolicy, theirs: ActorCriticPolicy, observations: Tensor) -> None:
    for one, other in zip(passed(ours, observations), passed(theirs, observations), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 16, 17])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_pass_is_that_of_stable_baselines3(name: str, rows: int) -> None:
    theirs, ours = policies(**NETWORKS[name])
    assert_close(ours, theirs, torch.randn(rows, 28))


def test_it_sees_weights_that_change_in_place() -> None:
    theirs, ours = policies()
    observations = torch.randn(4, 28)
    passed(ours, observations)
    for policy in (theirs, ours):
        with torch.no_grad():
            policy.action_net.weight.add_(0.1)
            policy.log_std.add_(0.1)
    assert_close(ours, theirs, observations)


def load_from_vector(policy: ActorCriticPolicy, source: ActorCriticPolicy) -> None:
    policy.load_from_vector(source.parameters_to_vector())


def assign_data(policy: ActorCriticPolicy, source: ActorCriticPolicy) -> None:
    for one, other in zip(policy.parameters(), source.parameters(), strict=True):
        one.data = other.data.clone()


def assign_parameters(policy: ActorCriticPolicy, source: ActorCriticPolicy) -> None:
    policy.load_state_dict(copy.deepcopy(source.state_dict()), assign=True)


@pytest.mark.parametrize("way", [load_from_vector, assign_data, assign_parameters])
def test_it_sees_weights_that_move_elsewhere_in_the_middle_of_a_rollout(way: Callable[..., None]) -> None:
    theirs, ours = policies()
    observations = torch.randn(4, 28)
    passed(ours, observations)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(0.5).add_(0.01)
    way(ours, theirs)
    assert_close(ours, theirs, observations)


def test_a_copy_has_weights_of_its_own() -> None:
    theirs, ours = policies()
    observations = torch.randn(4, 28)
    copied = copy.deepcopy(ours)
    with torch.no_grad():
        ours.action_net.weight.zero_()
        ours.value_net.weight.zero_()
    copied.set_training_mode(False)
    assert_close(copied, theirs, observations)


def test_without_numba_it_is_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cppo.compiled.numba", None)
    theirs, ours = policies()
    observations = torch.randn(4, 28)
    for one, other in zip(passed(ours, observations), passed(theirs, observations), strict=True):
        assert torch.equal(one, other)


def test_a_mean_that_is_not_a_number_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)  # torch.compile switches it off
    _, ours = policies()
    with torch.no_grad(), pytest.raises(ValueError, match="found invalid values"):
        ours.action_net.bias.fill_(np.nan)
        ours(torch.zeros(4, 28))
