"""Agents are saved, loaded and given the parameters of others."""

import copy
import zipfile
from pathlib import Path

import gymnasium as gym
import pytest
from stable_baselines3 import PPO, SAC

from cppo import CPPO
from tests.cppo.agents import BUSY, Target, assert_same, case_of, every_algorithm, networks, parameters, tensors


@every_algorithm
def test_saved_and_loaded_it_continues_as_if_nothing_had_happened(case, tmp_path):
    """As far as stable-baselines3 goes on: its replay buffer is saved apart, and loading resets the environment."""
    whole = case.build().learn(64)
    whole.save(tmp_path / "half")
    loaded = case.continual.load(tmp_path / "half", env=Target(case.action_space))
    assert_same(tensors(whole.continual_backprop.state_dict()), tensors(loaded.continual_backprop.state_dict()))
    if hasattr(whole, "replay_buffer"):
        whole.save_replay_buffer(tmp_path / "buffer")
        loaded.load_replay_buffer(tmp_path / "buffer")
    if hasattr(whole, "_last_lstm_states"):
        whole._last_lstm_states = copy.deepcopy(loaded._last_lstm_states)
    replaced = whole.continual_backprop.total_replaced
    for model in (whole, loaded):
        model._last_obs = None
        model.set_random_seed(7)
        if model.use_sde:
            model.policy.reset_noise()
        model.learn(32, reset_num_timesteps=False)
    assert whole.continual_backprop.total_replaced > replaced > 0
    assert_same(parameters(whole), parameters(loaded))
    assert_same(tensors(whole.continual_backprop.state_dict()), tensors(loaded.continual_backprop.state_dict()))


def test_set_parameters_carries_the_state_of_every_network():
    trained, other = case_of(SAC).build().learn(64), case_of(SAC).build(seed=99)
    other.set_parameters(copy.deepcopy(trained.get_parameters()), exact_match=True)
    assert other.continual_backprop.total_replaced == trained.continual_backprop.total_replaced > 0
    assert_same(tensors(trained.continual_backprop.state_dict()), tensors(other.continual_backprop.state_dict()))


def test_set_parameters_exact_match_misses_what_is_missing():
    model = case_of(SAC).build()
    parameters = model.get_parameters()
    del parameters["continual_backprop"]
    with pytest.raises(ValueError, match="continual_backprop"):
        model.set_parameters(parameters)
    model.set_parameters(parameters, exact_match=False)


@every_algorithm
def test_a_file_of_the_plain_algorithm_is_loaded_with_new_units(case, tmp_path):
    plain = case.plain().learn(40)
    plain.save(tmp_path / "plain")
    with pytest.warns(UserWarning, match=r"holds no state of continual backpropagation: all units begin at age 0"):
        model = case.continual.load(tmp_path / "plain", env=Target(case.action_space), **BUSY)
    assert_same(parameters(plain), parameters(model))
    assert not any(network.age.any() for network in networks(model).values())
    model.learn(96)
    assert all(layer.total_replaced > 0 for layer in model.continual_backprop.layers)


@every_algorithm
def test_without_its_state_a_file_is_one_of_the_plain_algorithm(case, tmp_path):
    model = case.build().learn(64)
    model.save(tmp_path / "plain", exclude=["continual_backprop"])
    plain = case.algorithm.load(tmp_path / "plain", env=Target(case.action_space))
    assert_same(parameters(plain), parameters(model))
    assert type(plain.learn(16)) is case.algorithm
    model.save(tmp_path / "whole")
    assert case.continual.load(tmp_path / "whole").continual_backprop.total_replaced > 0


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_the_plain_algorithm_says_what_to_do_with_a_file_that_holds_the_state(algorithm, tmp_path):
    case = case_of(algorithm)
    case.build().save(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"saved it \(Continual\w+; .* save with exclude=\['continual_backprop'\]"):
        algorithm.load(tmp_path / "whole")


def test_a_file_from_before_the_modules_moved_is_loaded():
    """A run of ``train.py --env Pendulum-v1 --algo cppo --update closed-form`` wrote it: it names modules of then."""
    path = Path(__file__).parents[1] / "model_before_the_rooms.zip"
    with zipfile.ZipFile(path) as file:
        assert all(f"cppo.{module}" in file.read("data").decode() for module in ("quick_policy", "lean_buffer"))
    model = CPPO.load(path, env=gym.make("Pendulum-v1"))
    assert [len(layer.age) for layer in model.continual_backprop.layers] == [6, 5, 6, 5]
    replaced = model.continual_backprop.total_replaced
    assert replaced > 0
    model.learn(192, reset_num_timesteps=False)
    assert model.continual_backprop.total_replaced > replaced
