"""Where the trace leaves out a whole network, a warning says so, and its layers can be named by hand."""

import warnings

import pytest
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import nn

from cppo import CPPO, ContinualSAC, HiddenLayer
from tests.cppo.agents import BOX, BUSY, OFF_POLICY, PPO_LIKE, Target, assert_same, make, tensors


class Sinc(nn.Module):
    """An activation that the trace doesn't know."""

    def forward(self, x):
        return torch.sinc(x)


class SincPolicy(ActorCriticPolicy):
    def _build(self, lr_schedule):
        super()._build(lr_schedule)
        net = self.mlp_extractor.policy_net
        net[1], net[3] = Sinc(), Sinc()


class SincActor(Actor):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.latent_pi[1], self.latent_pi[3] = Sinc(), Sinc()


class SincSACPolicy(SACPolicy):
    def make_actor(self, features_extractor=None):
        return SincActor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)


def chain(net, *ends):
    return [HiddenLayer(net[0], [net[2]], net[1]), HiddenLayer(net[2], ends, net[3])]


def of_ppo(policy):
    nets = policy.mlp_extractor
    return chain(nets.policy_net, policy.action_net) + chain(nets.value_net, policy.value_net)


def of_sac(policy):
    actor, critic = policy.actor, policy.critic
    return {
        "actor": chain(actor.latent_pi, actor.mu, actor.log_std),
        "critic": chain(critic.qf0, critic.qf0[4]) + chain(critic.qf1, critic.qf1[4]),
    }


CASES = [(CPPO, SincPolicy, PPO_LIKE, of_ppo), (ContinualSAC, SincSACPolicy, OFF_POLICY, of_sac)]


@pytest.mark.parametrize(
    ("algorithm", "policy", "end"), [(CPPO, SincPolicy, "action_net"), (ContinualSAC, SincSACPolicy, "actor.mu")]
)
def test_a_network_that_is_left_out_is_warned_of_by_name(algorithm, policy, end):
    options = PPO_LIKE if algorithm is CPPO else OFF_POLICY
    with pytest.warns(
        UserWarning, match=rf"leaves out the whole network that ends in {end} \(.*sinc.*hidden_layers="
    ) as told:
        make(algorithm, BOX, options, policy)
    assert len(told) == 1


@pytest.mark.parametrize(("algorithm", "policy", "options", "layers_of"), CASES)
def test_layers_named_by_hand_are_watched_saved_and_asked_for_again(algorithm, policy, options, layers_of, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = make(algorithm, BOX, options | BUSY, policy, hidden_layers=layers_of).learn(96)
    assert len({layer.name for layer in model.continual_backprop.layers}) == 4 + 2 * (algorithm is ContinualSAC)
    assert all(layer.total_replaced > 0 for layer in model.continual_backprop.layers)
    model.save(tmp_path / "agent")
    with pytest.raises(ValueError, match=rf"{algorithm.__name__}\.load\(\.\.\., hidden_layers=\.\.\.\)"):
        algorithm.load(tmp_path / "agent")
    loaded = algorithm.load(tmp_path / "agent", env=Target(BOX), hidden_layers=layers_of)
    assert_same(tensors(model.continual_backprop.state_dict()), tensors(loaded.continual_backprop.state_dict()))


def test_no_hidden_layer_is_found_for_another_reason_than_net_arch():
    with pytest.raises(
        ValueError, match=r"no hidden layer whose units.*hidden_layers=, a function of the policy"
    ) as end:
        make(CPPO, BOX, PPO_LIKE | {"policy_kwargs": {"activation_fn": Sinc, "net_arch": [12]}})
    assert "net_arch" not in str(end.value)


@pytest.mark.parametrize(
    ("layers_of", "error", "words"),
    [
        ([], TypeError, "must be a function of the policy"),
        (lambda policy: chain(policy.actor.latent_pi, policy.actor.mu), TypeError, r"by network \(actor, critic\)"),
        (lambda policy: {"q": []}, ValueError, "the network 'q', which isn't there; it may name actor, critic"),
        (lambda policy: {}, ValueError, "names no network"),
        (lambda policy: {"actor": []}, ValueError, "names no layer"),
        (lambda policy: {"actor": [1]}, TypeError, r"not \['int'\]"),
        (
            lambda policy: {"actor": chain(policy.actor.latent_pi, policy.critic.qf0[4])},
            ValueError,
            "actor.latent_pi.2: the optimizer does not train a reader's weight",
        ),
    ],
)
def test_what_names_no_layers_is_refused(layers_of, error, words):
    with pytest.raises(error, match=words):
        make(ContinualSAC, BOX, OFF_POLICY, hidden_layers=layers_of)
