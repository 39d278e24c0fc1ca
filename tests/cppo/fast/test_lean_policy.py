"""The policy of runs: stable-baselines3's MlpPolicy, bit for bit, in rollouts and in updates."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from torch import nn

from cppo import CPPO
from cppo.fast.lean_policy import LeanMlpPolicy


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


def test_a_mean_that_is_not_a_number_is_refused_as_by_its_parent(monkeypatch) -> None:
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)  # torch.compile switches it off
    policy = learn(PPO, LeanMlpPolicy, "Pendulum-v1").policy
    policy.set_training_mode(False)
    with torch.no_grad(), pytest.raises(ValueError, match="found invalid values"):
        policy.action_net.bias.fill_(np.nan)
        policy(torch.zeros(2, 3))


def test_a_saved_agent_is_loaded_with_it(tmp_path) -> None:
    model = learn(PPO, LeanMlpPolicy, "Pendulum-v1")
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=gym.make("Pendulum-v1"))
    assert type(loaded.policy) is LeanMlpPolicy
    assert torch.equal(loaded.policy.value_net.weight, model.policy.value_net.weight)
