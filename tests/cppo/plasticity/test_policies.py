"""The hidden layers of policies: their names, and their features on a batch."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN, TQC, CrossQ, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from torch import nn

from cppo.plasticity.policies import collect_features, find_measured_layers

SMALL = {"net_arch": [4, 3]}
CRITICS = ["critic.qf0.0", "critic.qf0.1", "critic.qf1.0", "critic.qf1.1"]


class ConcatenatedReLU(nn.Module):
    def forward(self, x):
        return torch.cat([x.relu(), (-x).relu()], dim=-1)


def make(algorithm, policy="MlpPolicy", env="Pendulum-v1", **options):
    if algorithm not in (PPO, A2C, RecurrentPPO):
        options["buffer_size"] = 10
    options["policy_kwargs"] = dict(options.get("policy_kwargs", SMALL))  # the algorithm adds to it
    return algorithm(policy, env, device="cpu", seed=0, **options)


class Pictures(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (1, 36, 36), np.uint8)
    action_space = gym.spaces.Discrete(2)


@pytest.mark.parametrize(
    ("algorithm", "policy", "env", "names"),
    [
        (PPO, "MlpPolicy", "Pendulum-v1", ["actor.0", "actor.1", "critic.0", "critic.1"]),
        (A2C, "MlpPolicy", "CartPole-v1", ["actor.0", "actor.1", "critic.0", "critic.1"]),
        (RecurrentPPO, "MlpLstmPolicy", "CartPole-v1", ["actor.0", "actor.1", "critic.0", "critic.1"]),
        (SAC, "MlpPolicy", "Pendulum-v1", ["actor.0", "actor.1", *CRITICS]),
        (TD3, "MlpPolicy", "Pendulum-v1", ["actor.0", "actor.1", *CRITICS]),
        (TQC, "MlpPolicy", "Pendulum-v1", ["actor.0", "actor.1", *CRITICS]),
        (CrossQ, "MlpPolicy", "Pendulum-v1", ["actor.0", "actor.1", *CRITICS]),
        (DQN, "MlpPolicy", "CartPole-v1", ["q_net.0", "q_net.1"]),
        (QRDQN, "MlpPolicy", "CartPole-v1", ["quantile_net.0", "quantile_net.1"]),
    ],
)
def test_layers_are_named_by_network_and_number(algorithm, policy, env, names):
    assert [layer.name for layer in find_measured_layers(make(algorithm, policy, env).policy)] == names


def test_features_are_what_the_readers_are_given():
    """More samples than run at once; reckoned again layer by layer."""
    policy = make(PPO, policy_kwargs=SMALL | {"activation_fn": nn.ReLU}).policy
    inputs = torch.randn(600, 3)
    features = collect_features(policy, find_measured_layers(policy), inputs)
    expected = inputs
    for number, linear in enumerate(policy.mlp_extractor.value_net[::2]):
        expected = linear(expected).relu()
        assert torch.allclose(features[f"critic.{number}"], expected)


def test_critics_judge_the_actions_given():
    policy = make(SAC).policy
    inputs, actions = torch.randn(5, 3), torch.randn(5, 1)
    features = collect_features(policy, find_measured_layers(policy), inputs, actions)
    first = policy.critic.qf1[0](torch.cat([inputs, actions], dim=1)).relu()
    assert torch.allclose(features["critic.qf1.0"], first)


def test_taking_features_leaves_everything_as_it_was():
    """Modes of each module, random numbers, running statistics, hooks."""
    policy = make(CrossQ).policy
    policy.train()
    policy.critic.eval()
    layers = find_measured_layers(policy)
    modes = [module.training for module in policy.modules()]
    state = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    generator = torch.get_rng_state()
    collect_features(policy, layers, torch.randn(5, 3, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in policy.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in policy.state_dict().items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in policy.modules())


def test_pictures_give_one_position_a_sample():
    policy = make(PPO, "CnnPolicy", Pictures(), n_steps=2, batch_size=2, policy_kwargs={}).policy
    pictures = torch.randint(256, (7, 1, 36, 36), dtype=torch.uint8)
    features = collect_features(policy, find_measured_layers(policy), pictures)
    assert {name: tuple(each.shape) for name, each in features.items()} == {
        "features.0": (7, 32),
        "features.1": (7, 64),
        "features.2": (7, 64),
        "features.3": (7, 512),
    }


@pytest.mark.parametrize(
    ("activation", "bounded"), [(nn.Tanh, "tanh"), (nn.Sigmoid, "sigmoid"), (nn.ReLU, None), (nn.SiLU, None)]
)
def test_saturation_is_measured_where_there_are_bounds(activation, bounded):
    layers = find_measured_layers(make(PPO, policy_kwargs=SMALL | {"activation_fn": activation}).policy)
    assert [layer.bounded for layer in layers] == [bounded] * 4
    assert ("saturated_share" in layers[0].measure(torch.ones(2, 4))) == (bounded is not None)


def test_layers_that_can_not_be_replaced_are_measured_by_all_that_is_read():
    """Behind a concatenated ReLU four units are eight features, half of them 0 on each sample."""
    policy = make(PPO).policy
    policy.mlp_extractor.policy_net = nn.Sequential(
        nn.Linear(3, 4), ConcatenatedReLU(), nn.Linear(8, 3), ConcatenatedReLU(), nn.Linear(6, 3)
    )
    layers = find_measured_layers(policy)
    assert [layer.name for layer in layers] == ["actor.0", "actor.1", "actor.2", "critic.0", "critic.1"]
    features = collect_features(policy, layers, torch.randn(5, 3))
    assert [features[f"actor.{number}"].shape[1] for number in range(3)] == [8, 6, 3]
    assert ((features["actor.0"] != 0).sum(dim=1) == 4).all()
