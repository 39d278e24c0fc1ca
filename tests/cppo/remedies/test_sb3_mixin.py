"""Remedies in the algorithms of stable-baselines3."""

import copy

import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.logger import KVWriter, Logger
from torch import nn

from cppo import ContinualBackpropMixin
from cppo.remedies import OnlineNorm, RemediedCPPO, RemediedPPO, RemediesMixin
from cppo.remedies.registry import REMEDIES, STEP_REMEDIES


class RemediedSAC(RemediesMixin, SAC):
    pass


class RemediedTD3(RemediesMixin, TD3):
    pass


class RemediedDQN(RemediesMixin, DQN):
    pass


class RemediedRecurrentPPO(RemediesMixin, RecurrentPPO):
    pass


NETS = {"policy_kwargs": {"net_arch": [12, 10], "activation_fn": nn.ReLU}, "seed": 3}
PPO_LIKE = NETS | {"n_steps": 32, "batch_size": 16, "n_epochs": 3}
OFF_POLICY = NETS | {"learning_starts": 8, "batch_size": 16, "buffer_size": 200, "train_freq": 4}
SOON = {
    "l2": {"weight_decay": 0.1},
    "regenerative": {"strength": 0.1},
    "shrink-perturb": {"decay": 0.01, "noise": 0.01},
    "redo": {"threshold": 0.9, "every": 4},
    "ccbp": {"replacement_rate": 0.5, "every": 4},
    "reset-last": {"every": 5},
    "crelu": {},
    "layer-norm": {},
    "online-norm": {},
    "dropout": {"p": 0.3},
}
"""Settings under which each remedy acts within a few optimizer steps."""
WITHOUT_EFFECT = {
    "l2": {"weight_decay": 0.0},
    "shrink-perturb": {"decay": 0.0, "noise": 0.0},
    "ccbp": {"replacement_rate": 0.0, "every": 1},
    "dropout": {"p": 0.0},
}


def ppo(remedies, kind=RemediedPPO, **settings):
    return kind("MlpPolicy", "Pendulum-v1", remedies=remedies, **copy.deepcopy(PPO_LIKE | settings))


def weights(policy):
    return torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


def train_on(model, buffer):
    """One update from the same rollout, with the same order of minibatches."""
    model.rollout_buffer = copy.deepcopy(buffer)
    torch.manual_seed(0)
    np.random.seed(0)
    model.set_logger(Logger(None, []))
    model.train()


@pytest.mark.parametrize("name", REMEDIES)
def test_every_remedy_trains_ppo_and_a_loaded_model_goes_on_exactly(name, tmp_path):
    model = ppo({name: SOON[name]}).learn(64)
    model.save(tmp_path / "model")
    loaded = RemediedPPO.load(tmp_path / "model", env=model.get_env())
    assert loaded.remedies == {name: SOON[name]}
    assert torch.equal(weights(model.policy), weights(loaded.policy))
    for each in (model, loaded):
        train_on(each, model.rollout_buffer)
    assert torch.equal(weights(model.policy), weights(loaded.policy))


@pytest.mark.parametrize("name", [name for name in STEP_REMEDIES if name != "l2"])
def test_a_loaded_model_needs_the_remedys_state(name, tmp_path):
    model = ppo({name: SOON[name]}).learn(64)
    state = model.get_parameters()
    assert (
        state["interventions"][f"{name}.policy._extra_state"]["n_steps"] == 12
    )  # 2 rollouts of 2 minibatches, 3 times
    other = ppo({name: SOON[name]})
    other.set_parameters(state)
    assert other.interventions[name]["policy"].n_steps == 12


def test_remedies_of_strength_zero_are_ppo_bit_for_bit():
    plain = PPO("MlpPolicy", "Pendulum-v1", **copy.deepcopy(PPO_LIKE)).learn(96)
    model = ppo(WITHOUT_EFFECT).learn(96)
    assert torch.equal(weights(model.policy), weights(plain.policy))


def test_without_remedies_it_is_ppo_bit_for_bit():
    plain = PPO("MlpPolicy", "Pendulum-v1", **copy.deepcopy(PPO_LIKE)).learn(64)
    assert torch.equal(weights(ppo(()).learn(64).policy), weights(plain.policy))


@pytest.mark.parametrize(
    "remedies", [["layer-norm", "shrink-perturb"], ["online-norm", "reset-last"], ["dropout", "l2"], ["regenerative"]]
)
def test_continual_backpropagation_works_with_remedies(remedies, tmp_path):
    cbp = {"replacement_rate": 0.04, "maturity_threshold": 3}
    model = ppo({name: SOON[name] for name in remedies}, RemediedCPPO, **cbp).learn(96)
    names = ["policy_net.0", "policy_net.2", "value_net.0", "value_net.2"]
    assert [layer.name for layer in model.continual_backprop.layers] == [f"mlp_extractor.{name}" for name in names]
    assert (model.continual_backprop.n_replaced > 0).all()
    model.save(tmp_path / "model")
    loaded = RemediedCPPO.load(tmp_path / "model", env=model.get_env())
    for each in (model, loaded):
        train_on(each, model.rollout_buffer)
    assert torch.equal(weights(model.policy), weights(loaded.policy))


@pytest.mark.parametrize("name", REMEDIES)
def test_every_remedy_trains_sac_in_actor_and_critic(name):
    model = RemediedSAC("MlpPolicy", "Pendulum-v1", remedies={name: SOON[name]}, **copy.deepcopy(OFF_POLICY)).learn(40)
    if name in STEP_REMEDIES:
        assert {network: each.n_steps for network, each in model.interventions[name].items()} == {
            "actor": 8,
            "critic": 8,
        }
    assert [each.shape for each in model.critic.parameters()] == [
        each.shape for each in model.critic_target.parameters()
    ]


def test_running_statistics_of_target_networks_follow():
    model = RemediedSAC("MlpPolicy", "Pendulum-v1", remedies=["online-norm"], **copy.deepcopy(OFF_POLICY)).learn(40)
    norms, targets = (
        [each for each in network.modules() if isinstance(each, OnlineNorm)]
        for network in (model.critic, model.critic_target)
    )
    assert len(norms) == 4 and norms[0].running_mean.abs().sum() > 0
    assert all(torch.equal(one.running_mean, other.running_mean) for one, other in zip(norms, targets, strict=True))


def test_the_squashed_output_of_td3s_actor_is_no_hidden_layer():
    model = RemediedTD3("MlpPolicy", "Pendulum-v1", remedies=["layer-norm"], **copy.deepcopy(OFF_POLICY)).learn(20)
    assert [type(each).__name__ for each in model.actor.mu] == [
        *["Linear", "Sequential"] * 2,
        *["Linear", "Tanh"],
    ]


def test_dqn_with_the_last_layer_reset():
    model = RemediedDQN(
        "MlpPolicy", "CartPole-v1", remedies={"reset-last": {"every": 3}}, **copy.deepcopy(OFF_POLICY)
    ).learn(40)
    remedy = model.interventions["reset-last"]["policy"]
    assert remedy.layers == [model.q_net.q_net[4]] and remedy.n_resets == 2


def test_the_last_layers_of_ppo_are_the_action_and_the_value_layer():
    model = ppo({"reset-last": {}})
    assert set(model.interventions["reset-last"]["policy"].layers) == {model.policy.action_net, model.policy.value_net}


def test_recurrent_ppo_with_remedies():
    settings = copy.deepcopy(PPO_LIKE) | {"policy_kwargs": NETS["policy_kwargs"] | {"lstm_hidden_size": 8}}
    model = RemediedRecurrentPPO("MlpLstmPolicy", "CartPole-v1", remedies=["layer-norm", "redo"], **settings)
    model.learn(64)
    assert model.interventions["redo"]["policy"].n_steps > 0


def test_what_remedies_did_is_logged(tmp_path):
    model = ppo({"redo": SOON["redo"]})
    logged = {}

    class Keep(KVWriter):
        def write(self, key_values, key_excluded, step=0):
            logged.update(key_values)

        def close(self):
            pass

    model.set_logger(Logger(None, [Keep()]))
    model.learn(64)
    assert logged["remedies/redo_policy_total_replaced"] > 0


@pytest.mark.parametrize(
    ("kind", "remedies", "message"),
    [
        (RemediedPPO, ["redu"], "remedy 'redu' is unknown; choose from l2, regenerative"),
        (RemediedPPO, {"redo": {"tau": 0.1}}, "remedy 'redo' has no setting 'tau'; it has threshold, every"),
        (RemediedPPO, {"redo": {"hidden_layers": []}}, "remedy 'redo' has no setting 'hidden_layers'"),
        (RemediedPPO, ["redo", "ccbp"], "redo and ccbp can't be combined"),
        (RemediedPPO, ["layer-norm", "online-norm"], "one normalisation is enough"),
        (RemediedPPO, ["l2", "regenerative"], "they pull the same weights to different places"),
        (RemediedPPO, ["crelu", "redo"], "crelu and redo can't be combined"),
        (RemediedCPPO, ["crelu"], "crelu and continual backpropagation can't be combined"),
        (RemediedCPPO, ["redo"], "redo and continual backpropagation can't be combined"),
        (RemediedPPO, {"dropout": {"p": 7}}, "p=7 is not allowed"),
    ],
)
def test_what_does_not_exist_or_go_together_is_one_clear_line(kind, remedies, message):
    with pytest.raises(ValueError, match=message):
        ppo(remedies, kind)


def test_the_mixins_order_is_checked():
    with pytest.raises(TypeError, match="must name RemediesMixin before the algorithm"):
        type("Wrong", (PPO, RemediesMixin), {})
    with pytest.raises(TypeError, match="ContinualBackpropMixin before RemediesMixin"):
        type("Wrong", (RemediesMixin, ContinualBackpropMixin, PPO), {})


def test_a_mixin_without_an_algorithm_is_refused():
    with pytest.raises(TypeError, match=r"class Alone.* needs an algorithm behind the mixin"):
        type("Alone", (RemediesMixin,), {})()


def test_a_file_of_plain_ppo_is_read_as_a_model_without_remedies(tmp_path):
    plain = PPO("MlpPolicy", "Pendulum-v1", **copy.deepcopy(PPO_LIKE))
    plain.save(tmp_path / "plain")
    loaded = RemediedPPO.load(tmp_path / "plain")
    assert loaded.remedies == {} and torch.equal(weights(loaded.policy), weights(plain.policy))
