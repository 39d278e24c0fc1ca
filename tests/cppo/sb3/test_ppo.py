"""CPPO is PPO that replaces units, and nothing else."""

import copy
import warnings

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from cppo import CPPO, ContinualBackprop, ContinualBackpropMixin
from tests.cppo.agents import Rows, Target, assert_same, parameters, tensors

SMALL = {"n_steps": 64, "batch_size": 32, "n_epochs": 4, "seed": 3, "policy_kwargs": {"net_arch": [12, 10]}}
BUSY = {"replacement_rate": 0.02, "maturity_threshold": 5}
"""Settings under which generate-and-test acts within the first update."""


@pytest.mark.parametrize("options", [{}, {"use_sde": True}, {"target_kl": 1e-4}, {"max_grad_norm": float("inf")}])
def test_rate_zero_is_ppo_bit_for_bit(options):
    plain = PPO("MlpPolicy", Target(), **SMALL, **options).learn(256)
    continual = CPPO("MlpPolicy", Target(), replacement_rate=0.0, maturity_threshold=0, **SMALL, **options).learn(256)
    assert_same(parameters(plain), parameters(continual))


def test_until_the_first_replacement_it_is_ppo():
    """The first unit goes at optimizer step 5 + 4 > 8 of each update of 8, so the first update is PPO's."""
    plain = PPO("MlpPolicy", Target(), **SMALL).learn(64)
    continual = CPPO("MlpPolicy", Target(), replacement_rate=0.02, maturity_threshold=5, **SMALL).learn(64)
    assert continual.continual_backprop.total_replaced == 0
    assert_same(parameters(plain), parameters(continual))


@pytest.mark.parametrize(
    "action_space",
    [
        spaces.Box(-1, 1, (2,), np.float32),
        spaces.Discrete(3),
        spaces.MultiDiscrete([3, 2]),
        spaces.MultiBinary(4),
    ],
    ids=lambda space: type(space).__name__,
)
def test_every_action_space(action_space):
    model = CPPO("MlpPolicy", Target(action_space), **SMALL, **BUSY).learn(192)
    assert model.continual_backprop.total_replaced > 0
    assert action_space.contains(model.predict(np.zeros(3, np.float32))[0])


@pytest.mark.parametrize(
    ("options", "policy", "n_layers"),
    [
        ({}, {"net_arch": {"pi": [8, 8, 8], "vf": [6]}}, 4),
        ({}, {"net_arch": {"pi": [8], "vf": []}}, 1),
        ({"use_sde": True}, {"net_arch": [8, 8]}, 4),
        ({"use_sde": True}, {"net_arch": [8], "squash_output": True}, 2),
        ({"target_kl": 1e-3}, {"net_arch": [8]}, 2),
    ],
)
def test_every_network(options, policy, n_layers):
    model = CPPO("MlpPolicy", Target(), **(SMALL | BUSY | options | {"policy_kwargs": policy})).learn(640)
    assert len(model.continual_backprop.layers) == n_layers
    assert all(layer.total_replaced > 0 for layer in model.continual_backprop.layers)


def test_no_hidden_layer_is_a_clear_error():
    with pytest.raises(ValueError, match=r"no hidden layer whose units could be replaced.*net_arch"):
        CPPO("MlpPolicy", Target(), **(SMALL | {"policy_kwargs": {"net_arch": []}}))


def test_normalized_environments():
    env = VecNormalize(DummyVecEnv([Target, Target]))
    assert CPPO("MlpPolicy", env, **SMALL, **BUSY).learn(256).continual_backprop.total_replaced > 0


@pytest.mark.parametrize(
    "algorithm",
    [
        {"utility": "random"},
        {"utility": "gradient"},
        {"utility": "adaptable_contribution", "initializer": "lecun_uniform"},
    ],
)
def test_saved_and_loaded_it_continues_as_if_nothing_had_happened(algorithm, tmp_path):
    """2 x N steps with a save and load in between equal 1 x 2N, once environment and torch go on from one seed."""

    def model():
        return CPPO("MlpPolicy", Target(), **SMALL, **BUSY, **algorithm)

    def second_half(model):
        """SB3's load resets the environment, so both start the second half from the same episode and noise."""
        model._last_obs = None
        model.get_env().seed(7)
        torch.manual_seed(7)
        np.random.seed(7)
        return model.learn(192, reset_num_timesteps=False)

    whole = model().learn(192)
    whole.save(tmp_path / "half")
    loaded = CPPO.load(tmp_path / "half", env=Target())
    assert_same(tensors(whole.continual_backprop.state_dict()), tensors(loaded.continual_backprop.state_dict()))
    second_half(whole), second_half(loaded)
    assert whole.continual_backprop.total_replaced > 0
    assert_same(parameters(whole), parameters(loaded))
    assert_same(tensors(whole.continual_backprop.state_dict()), tensors(loaded.continual_backprop.state_dict()))


def test_set_parameters_carries_the_state():
    trained = CPPO("MlpPolicy", Target(), **SMALL, **BUSY).learn(192)
    other = CPPO("MlpPolicy", Target(), **(SMALL | {"seed": 99}), **BUSY)
    other.set_parameters(copy.deepcopy(trained.get_parameters()))
    assert other.continual_backprop.total_replaced == trained.continual_backprop.total_replaced > 0
    assert torch.equal(other.continual_backprop.age, trained.continual_backprop.age)


def test_the_settings_survive_load(tmp_path):
    model = CPPO("MlpPolicy", Target(), **SMALL, **BUSY, utility="weight", bias_transfer=False, decay_rate=0.9)
    model.save(tmp_path / "agent")
    loaded = CPPO.load(tmp_path / "agent").continual_backprop
    assert (loaded.replacement_rate, loaded.maturity_threshold, loaded.decay_rate) == (0.02, 5, 0.9)
    assert (loaded.utility.__name__, loaded.bias_transfer) == ("weight", False)


def test_new_weights_come_from_the_distribution_the_policy_started_with():
    assert CPPO("MlpPolicy", Target(), **SMALL).continual_backprop.initializer.__name__ == "orthogonal"
    plain = SMALL | {"policy_kwargs": {"net_arch": [8], "ortho_init": False}}
    assert CPPO("MlpPolicy", Target(), **plain).continual_backprop.initializer.__name__ == "torch_default"


def test_it_says_when_the_first_replacement_is_due(capsys):
    """8 optimizer steps per 64 environment steps; 20 to mature, then 1 / (.05 * 12) = 2: 22 steps are 3 updates."""
    model = CPPO("MlpPolicy", Target(), **SMALL, replacement_rate=0.05, maturity_threshold=20, verbose=1)
    model.learn(128)
    assert "first unit after 192 environment steps" in capsys.readouterr().out
    assert model.continual_backprop.total_replaced == 0
    model.learn(64, reset_num_timesteps=False)
    assert model.continual_backprop.total_replaced > 0
    assert "after 64 environment steps" in capsys.readouterr().out


def test_it_warns_when_no_unit_will_be_replaced():
    with pytest.warns(UserWarning, match="no unit will be replaced in 64 environment steps"):
        CPPO("MlpPolicy", Target(), **SMALL).learn(64)


def test_it_warns_when_none_was_replaced_after_all():
    """With a KL limit the updates stop early, so fewer optimizer steps are taken than were due."""
    model = CPPO("MlpPolicy", Target(), **SMALL, replacement_rate=0.05, maturity_threshold=20, target_kl=1e-9)
    with pytest.warns(UserWarning, match="ended without a single replaced unit"):
        model.learn(192)


@pytest.mark.parametrize(("rate", "maturity"), [(1.0, 10), (0.5, 100)])
def test_it_warns_when_all_mature_units_are_replaced_at_once(rate, maturity):
    """With rate .5 and maturity 100 a layer of 10 has 10 / (1 + .5 * 100) = .2 mature units at a time."""
    with pytest.warns(UserWarning, match="replaces all mature units at once"):
        CPPO("MlpPolicy", Target(), **SMALL, replacement_rate=rate, maturity_threshold=maturity).learn(2048)


def test_sensible_settings_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        CPPO("MlpPolicy", Target(), **SMALL, **BUSY).learn(192)
        CPPO("MlpPolicy", Target(), **SMALL, replacement_rate=0.0).learn(64)


def test_each_update_logs_what_was_replaced_in_each_layer():
    model, rows = CPPO("MlpPolicy", Target(), **SMALL, **BUSY), Rows()
    model.set_logger(Logger(None, [rows]))
    model.learn(256)
    last = rows.rows[-1]  # written when the fourth rollout is done: it tells of the third update
    layers = [f"cbp/{network}.{number}" for network in ("actor", "critic") for number in (0, 1)]
    figures = ["replaced", "total_replaced"] + [
        f"{k}_{q}" for k in ("age", "utility") for q in ("min", "median", "max")
    ]
    assert all(f"{layer}/{figure}" in last for layer in layers for figure in figures)
    assert sum(last[f"{layer}/total_replaced"] for layer in layers) == last["cbp/total_replaced"] > 0
    assert sum(row.get("cbp/replaced", 0) for row in rows.rows) == last["cbp/total_replaced"]
    assert last[f"{layers[0]}/age_max"] <= 24  # three updates of eight optimizer steps


def test_seeds_repeat():
    first, second = (CPPO("MlpPolicy", Target(), **SMALL, **BUSY).learn(256) for _ in range(2))
    assert_same(parameters(first), parameters(second))
    assert first.continual_backprop.total_replaced > 0


def test_the_optimizer_is_that_of_ppo():
    plain, continual = PPO("MlpPolicy", Target(), **SMALL), CPPO("MlpPolicy", Target(), **SMALL)
    assert type(plain.policy.optimizer) is type(continual.policy.optimizer)
    assert plain.policy.optimizer.defaults == continual.policy.optimizer.defaults


def test_another_algorithm_in_one_line():
    class ContinualA2C(ContinualBackpropMixin, A2C):
        pass

    model = ContinualA2C("MlpPolicy", Target(), seed=0, **BUSY, policy_kwargs={"net_arch": [12, 10]}).learn(200)
    assert isinstance(model.continual_backprop, ContinualBackprop)
    assert model.continual_backprop.total_replaced > 0


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [("replacement_rate", 2, "replacement_rate=2"), ("utility", "x", "'x' is unknown"), ("initializer", "x", "'x' is")],
)
def test_bad_arguments_are_named_before_anything_is_built(argument, value, message):
    with pytest.raises(ValueError, match=message):
        CPPO("MlpPolicy", "NoSuchEnvironment-v0", **{argument: value})


def test_settings_changed_on_the_model_hold_from_the_next_learn_on():
    model = CPPO("MlpPolicy", Target(), **SMALL, **BUSY).learn(192)
    before = model.continual_backprop.total_replaced
    model.replacement_rate = 0.0
    assert model.learn(192).continual_backprop.total_replaced == before > 0
    model.replacement_rate = -1
    with pytest.raises(ValueError, match="replacement_rate=-1"):
        model.learn(64)
