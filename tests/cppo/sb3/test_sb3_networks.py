"""Features extractors, shared or not, images and dictionaries."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

import cppo
from cppo.sb3.algorithms import ContinualA2C, ContinualDDPG, ContinualDQN, ContinualSAC, ContinualTD3
from tests.cppo.agents import BOX, BUSY, DISCRETE, OFF_POLICY, ON_POLICY, PPO_LIKE, Target, networks


class TwoLayers(BaseFeaturesExtractor):
    """A features extractor with an inner layer, read inside, and an outer one, read by whoever uses it."""

    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=7)
        self.net = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU())

    def forward(self, observations):
        return self.net(observations)


def extracting(algorithm, action_space, options, **policy):
    policy = {"net_arch": [12], "features_extractor_class": TwoLayers} | policy
    return algorithm("MlpPolicy", Target(action_space), **(options | BUSY | {"policy_kwargs": policy}))


def watched(model):
    return {name: [layer.name for layer in network.layers] for name, network in networks(model).items()}


@pytest.mark.parametrize("algorithm", [ContinualSAC, ContinualTD3])
def test_a_shared_extractor_belongs_to_the_actor_as_far_as_the_actor_can_replace_it(algorithm):
    """The outer layer's readers are trained by two optimizers, so it is left out; the inner layer's by the actor's."""
    model = extracting(algorithm, BOX, OFF_POLICY, share_features_extractor=True).learn(96)
    hidden = "actor.latent_pi.0" if algorithm is ContinualSAC else "actor.mu.0"
    assert watched(model) == {
        "actor": ["actor.features_extractor.net.0", hidden],
        "critic": ["critic.qf0.0", "critic.qf1.0"],
    }
    assert all(layer.total_replaced > 0 for layer in model.continual_backprop.layers)
    assert "no single optimizer trains both" in model.layers_left_out["actor.features_extractor.net.2"]


def test_extractors_of_their_own_belong_to_each_network():
    """A critic's outer units are read by both of its value networks."""
    model = extracting(ContinualSAC, BOX, OFF_POLICY).learn(96)
    for name in ("actor", "critic"):
        inner, outer = (layer for layer in model.continual_backprop[name].layers if "extractor" in layer.name)
        assert len(inner.hidden_layer.outgoing) == 1
        assert len(outer.hidden_layer.outgoing) == (1 if name == "actor" else 2)
        assert inner.total_replaced > 0 and outer.total_replaced > 0


def test_an_extractor_shared_under_one_optimizer_counts_once_with_all_readers():
    model = extracting(ContinualA2C, BOX, ON_POLICY)
    names = watched(model)["policy"]
    assert len(names) == len(set(names)) == 4
    outer = next(layer for layer in model.continual_backprop.layers if layer.name == "features_extractor.net.2")
    assert set(outer.hidden_layer.outgoing) == {
        model.policy.mlp_extractor.policy_net[0],
        model.policy.mlp_extractor.value_net[0],
    }


def outputs(policy):
    """All that the networks of a policy compute from some observations (and actions)."""
    torch.manual_seed(0)
    observations, actions = torch.rand(6, 3), torch.rand(6, 2)
    if isinstance(policy, DQNPolicy):
        return [policy.q_net(observations)]
    if isinstance(policy, ActorCriticPolicy):
        return [policy.get_distribution(observations).mode(), policy.predict_values(observations)]
    return [policy.actor(observations), *policy.critic(observations, actions)]


@torch.no_grad()
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("algorithm", [ContinualA2C, ContinualDDPG, ContinualDQN, ContinualSAC, ContinualTD3])
def test_no_reader_is_left_behind(algorithm, share):
    """With the outgoing weights of a layer set to zero, as recorded, nothing depends on its units any more."""
    sharing = {} if algorithm is ContinualDQN else {"share_features_extractor": share}
    action_space = DISCRETE if algorithm is ContinualDQN else BOX
    model = extracting(algorithm, action_space, ON_POLICY if algorithm is ContinualA2C else OFF_POLICY, **sharing)
    for layer in model.continual_backprop.layers:
        for part in layer.hidden_layer.outgoing_weights:
            part.view().zero_()
        before = outputs(model.policy)
        layer.hidden_layer.incoming.bias += 5
        torch.testing.assert_close(before, outputs(model.policy))


IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
DICT = spaces.Dict({"image": IMAGE, "vector": spaces.Box(-1, 1, (3,), np.float32), "number": spaces.Discrete(4)})
SMALL_CNN = {"CnnPolicy": {"features_dim": 16}, "MultiInputPolicy": {"cnn_output_dim": 16}}


@pytest.mark.parametrize(("policy", "space"), [("CnnPolicy", IMAGE), ("MultiInputPolicy", DICT)], ids=["cnn", "dict"])
@pytest.mark.parametrize(
    ("algorithm", "action_space", "options", "n_layers"),
    [
        (cppo.CPPO, DISCRETE, PPO_LIKE, {"policy": 4 + 2}),
        (ContinualDQN, DISCRETE, OFF_POLICY | {"buffer_size": 50}, {"policy": 4 + 1}),
        (ContinualSAC, BOX, OFF_POLICY | {"buffer_size": 50}, {"actor": 4 + 1, "critic": 4 + 2}),
    ],
    ids=["CPPO", "DQN", "SAC"],
)
def test_images_and_dictionaries(policy, space, algorithm, action_space, options, n_layers):
    """NatureCNN has four layers of units: three convolutions, and a linear layer that other layers read."""
    kwargs = {"net_arch": [12], "features_extractor_kwargs": SMALL_CNN[policy]}
    settings = options | BUSY | {"policy_kwargs": kwargs, "replacement_rate": 0.1}
    model = algorithm(policy, Target(action_space, space), **settings).learn(64)
    assert {name: len(network.layers) for name, network in networks(model).items()} == n_layers
    assert all(layer.total_replaced > 0 for layer in model.continual_backprop.layers)
    assert action_space.contains(model.predict(space.sample())[0])
