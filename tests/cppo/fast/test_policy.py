"""The policies of runs: stable-baselines3's MlpPolicy, bit for bit, and as one loop to rounding."""

import copy
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from cppo import CPPO
from cppo.fast.policy import LeanMlpPolicy, QuickMlpPolicy

OBSERVATIONS, ACTIONS = gym.spaces.Box(-5, 5, (28,), np.float32), gym.spaces.Box(-1, 1, (8,), np.float32)
NETWORKS = {
    "relu": {"activation_fn": nn.ReLU, "net_arch": [64, 32]},
    "tanh, three layers": {"net_arch": [16, 16, 16]},
    "actor and critic differ": {"activation_fn": nn.ReLU, "net_arch": {"pi": [8], "vf": [16, 8]}},
    "an activation that it doesn't know": {"activation_fn": nn.ELU},
}


def learn(kind: type[PPO], policy: object, env: str, **policy_arguments: object) -> PPO:
    arguments = {"maturity_threshold": 5, "replacement_rate": 0.01} if kind is CPPO else {}
    model = kind(
        policy, env, n_steps=64, batch_size=32, n_epochs=2, seed=1, policy_kwargs=policy_arguments, **arguments
    )
    return model.learn(192)


@pytest.mark.parametrize("kind", [PPO, CPPO])
@pytest.mark.parametrize(
    ("env", "policy_arguments"),
    [
        ("Pendulum-v1", {}),
        ("Pendulum-v1", {"activation_fn": nn.ReLU, "net_arch": [32, 16]}),
        ("Pendulum-v1", {"activation_fn": nn.ELU}),  # not known to the lean pass
        ("Pendulum-v1", {"net_arch": []}),
        ("CartPole-v1", {}),
    ],
)
def test_learning_is_the_same_bit_for_bit(kind: type[PPO], env: str, policy_arguments: dict) -> None:
    if kind is CPPO and policy_arguments == {"net_arch": []}:
        pytest.skip("no hidden units")
    plain, lean = learn(kind, "MlpPolicy", env, **policy_arguments), learn(kind, LeanMlpPolicy, env, **policy_arguments)
    for name in ("observations", "actions", "values", "log_probs", "rewards"):
        np.testing.assert_array_equal(getattr(lean.rollout_buffer, name), getattr(plain.rollout_buffer, name))
    for ours, theirs in zip(lean.policy.parameters(), plain.policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_gradients_pass_through_it_as_through_its_parent() -> None:
    policy = learn(PPO, LeanMlpPolicy, "Pendulum-v1").policy
    policy.set_training_mode(False)
    actions, values, log_prob = policy(torch.zeros(2, 3))
    assert actions.shape == (2, 1) and values.requires_grad and log_prob.requires_grad


def test_a_hook_on_a_module_is_called_in_rollouts() -> None:
    policy = learn(PPO, LeanMlpPolicy, "Pendulum-v1").policy
    seen = []
    policy.action_net.register_forward_hook(lambda *_: seen.append(1))
    policy.set_training_mode(False)
    with torch.no_grad():
        policy(torch.zeros(2, 3))
    assert seen == [1]


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


@pytest.mark.parametrize("kind", [LeanMlpPolicy, QuickMlpPolicy])
def test_a_mean_that_is_not_a_number_is_refused_as_by_their_parent(kind: type[LeanMlpPolicy], monkeypatch) -> None:
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)  # torch.compile switches it off
    ours = kind(OBSERVATIONS, ACTIONS, lambda _: 1e-3)
    ours.set_training_mode(False)
    with torch.no_grad(), pytest.raises(ValueError, match="found invalid values"):
        ours.action_net.bias.fill_(np.nan)
        ours(torch.zeros(4, 28))
