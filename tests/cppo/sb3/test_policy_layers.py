"""The hidden layers of a policy are found in all ways in which an algorithm runs it."""

import gc
import re

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import nn

from cppo import CPPO
from cppo.sb3.policy_layers import find_policy_layers
from tests.cppo.agents import BUSY, Target


class Extractor(BaseFeaturesExtractor):
    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=6)
        self.layer = nn.Linear(observation_space.shape[0], 6)

    def forward(self, observations):
        return torch.relu(self.layer(observations))


@pytest.mark.parametrize("shared", [True, False])
def test_an_actor_critic_policy(shared):
    policy = PPO(
        "MlpPolicy",
        "Pendulum-v1",
        policy_kwargs={
            "net_arch": {"pi": [8], "vf": [5]},
            "features_extractor_class": Extractor,
            "share_features_extractor": shared,
        },
    ).policy
    layers = {layer.incoming: layer for layer in find_policy_layers(policy).of_network["policy"]}
    actor, critic = policy.mlp_extractor.policy_net[0], policy.mlp_extractor.value_net[0]
    assert layers[actor].outgoing == (policy.action_net,)
    assert layers[critic].outgoing == (policy.value_net,)
    if shared:
        assert layers[policy.features_extractor.layer].outgoing == (actor, critic)
    else:
        assert layers[policy.pi_features_extractor.layer].outgoing == (actor,)
        assert layers[policy.vf_features_extractor.layer].outgoing == (critic,)


def test_finding_them_takes_no_full_collection(monkeypatch):
    """Which takes a quarter of a second, each of five traces; of the units only actions, an output, are kept."""
    policy, collected = PPO("MlpPolicy", Target()).policy, []
    monkeypatch.setattr(gc, "collect", lambda generation=2: collected.append(generation))
    find_policy_layers(policy)
    assert 2 not in collected


def test_a_policy_with_gsde_keeps_its_last_hidden_layer():
    policy = PPO("MlpPolicy", "Pendulum-v1", use_sde=True, policy_kwargs={"net_arch": [8, 8]}).policy
    assert len(find_policy_layers(policy).of_network["policy"]) == 4


def test_a_policy_with_discrete_observations():
    class Corridor(gym.Env):
        observation_space, action_space = spaces.Discrete(5), spaces.Discrete(2)

    policy = PPO("MlpPolicy", Corridor(), policy_kwargs={"net_arch": [8]}).policy
    assert len(find_policy_layers(policy).of_network["policy"]) == 2


class Auxiliary(ActorCriticPolicy):
    """Has a head that is run for the loss alone."""

    def _build(self, lr_schedule):
        self.auxiliary = nn.Linear(10, 4)
        super()._build(lr_schedule)

    def evaluate_actions(self, obs, actions):
        values, log_prob, entropy = super().evaluate_actions(obs, actions)
        return values, log_prob + self.predicted(self.mlp_extractor.forward_actor(self.extract_features(obs))), entropy

    def predicted(self, latent):
        return self.auxiliary(latent).sum(dim=1)


class Corridor(Target):
    def __init__(self):
        super().__init__(observation_space=spaces.Box(-1, 1, (1,)))


def test_features_that_the_loss_computes_anew_are_the_same_even_of_a_single_number():
    policy = PPO(Auxiliary, Corridor(), policy_kwargs=SMALL.copy()).policy
    assert len(find_policy_layers(policy).of_network["policy"]) == 4


class Added(Auxiliary):
    def predicted(self, latent):
        return latent.sum(dim=1) * latent[:, 0]


class OtherFunction(Auxiliary):
    def predicted(self, latent):
        return self.auxiliary(latent.abs()).sum(dim=1)


class OtherArguments(Auxiliary):
    def evaluate_actions(self, obs, actions, something):
        return super().evaluate_actions(obs, actions)


SMALL = {"net_arch": [12, 10]}


def test_a_head_that_only_the_loss_runs_is_a_reader():
    model = CPPO(Auxiliary, Target(), n_steps=32, batch_size=16, policy_kwargs=SMALL.copy(), **BUSY)
    layer = next(layer for layer in model.continual_backprop.layers if layer.name == "mlp_extractor.policy_net.2")
    assert layer.hidden_layer.outgoing == (model.policy.action_net, model.policy.auxiliary)
    model.learn(64)
    assert layer.total_replaced > 0
    assert not model.policy.auxiliary.weight[:, layer.age == 0].any()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Added, "read by sum"), (OtherFunction, r"different functions of its units.*\(tanh; tanh, abs\)")],
)
def test_what_the_loss_does_besides_leaves_units_out(kind, reason):
    found, left_out, _ = find_policy_layers(A2C(kind, Target(), policy_kwargs=SMALL.copy()).policy)
    assert [layer.name for layer in found["policy"]] == [
        "mlp_extractor.policy_net.0",
        "mlp_extractor.value_net.0",
        "mlp_extractor.value_net.2",
    ]
    assert re.search(reason, left_out["mlp_extractor.policy_net.2"])


def test_a_way_to_run_that_cannot_be_followed_is_warned_of():
    policy = PPO(OtherArguments, Target(), policy_kwargs=SMALL.copy()).policy
    with pytest.warns(UserWarning, match=r"OtherArguments\.evaluate_actions could not be run on .* in training"):
        assert len(find_policy_layers(policy).of_network["policy"]) == 4


class LosingActor(Actor):
    """Its loss sees the last hidden layer by another way than its actions do."""

    def action_log_prob(self, obs):
        latent = self.latent_pi(self.extract_features(obs, self.features_extractor))
        actions, log_prob = super().action_log_prob(obs)
        return actions, log_prob + latent.logsumexp(dim=1)


class LosingPolicy(SACPolicy):
    def make_actor(self, features_extractor=None):
        return LosingActor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)


def test_the_loss_of_sac_is_followed():
    policy = SAC(LosingPolicy, Target(), policy_kwargs=SMALL.copy()).policy
    found, left_out, _ = find_policy_layers(policy)
    assert [layer.name for layer in found["actor"]] == ["actor.latent_pi.0"]
    assert left_out["actor.latent_pi.2"] == "read by logsumexp"


def test_every_layer_of_a_policy_is_found_or_left_out_with_a_reason():
    policy = SAC("MlpPolicy", Target(), policy_kwargs=SMALL.copy()).policy
    policy.actor.unused = nn.Linear(3, 3)
    assert find_policy_layers(policy).left_out == {
        "actor.mu": "output of the network, as far as it can be followed (read by broadcast_tensors)",
        "actor.log_std": "output of the network, as far as it can be followed "
        "(its features are multiplied by something else)",
        "critic.qf0.4": "output of the network",
        "critic.qf1.4": "output of the network",
        "actor.unused": "it did not run by itself when the network was traced",
        "critic_target": "a target network, which follows its network",
    }


def test_a_head_that_no_known_method_runs_raises_an_alarm():
    unknown = nn.Linear(10, 4)

    class Elsewhere(Auxiliary):
        def _build(self, lr_schedule):
            super()._build(lr_schedule)
            self.unknown = unknown

    model = CPPO(Elsewhere, Target(), n_steps=32, batch_size=16, policy_kwargs=SMALL.copy(), **BUSY)
    assert model.layers_left_out["unknown"] == "it did not run by itself when the network was traced"
    model.policy.train()
    with pytest.warns(UserWarning, match="unknown runs in training, but did not when"):
        unknown(torch.randn(2, 10))
