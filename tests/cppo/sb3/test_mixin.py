"""The mixin puts continual backpropagation into every algorithm of stable-baselines3 and sb3-contrib."""

import ast
import copy
from pathlib import Path

import numpy as np
import pytest
from sb3_contrib import QRDQN, CrossQ
from stable_baselines3 import A2C, DDPG, DQN, SAC, TD3

import cppo
from cppo import ContinualBackpropMixin
from cppo.sb3.algorithms import ContinualA2C, ContinualDDPG, ContinualDQN, ContinualSAC, ContinualTD3
from tests.cppo.agents import assert_same, case_of, every_algorithm, networks, parameters, with_targets


@every_algorithm
def test_units_are_replaced_in_every_network(case):
    model = case.build().learn(total_timesteps=96, log_interval=1, tb_log_name="x", progress_bar=False, callback=None)
    assert {name: len(network.layers) for name, network in networks(model).items()} == case.networks
    assert all(layer.total_replaced > 0 for layer in model.continual_backprop.layers)
    assert case.action_space.contains(model.predict(np.zeros(3, np.float32), deterministic=True)[0])


@every_algorithm
def test_rate_zero_is_the_plain_algorithm_bit_for_bit(case):
    plain, continual = case.plain().learn(64), case.build(replacement_rate=0.0).learn(64)
    assert_same(parameters(plain), parameters(continual))


@every_algorithm
def test_its_optimizers_are_those_of_the_plain_algorithm(case):
    """Generate-and-test adds no parameter to train, and hooks into no optimizer of an entropy coefficient."""
    model = case.build()
    assert len(parameters(model)) == len(parameters(case.plain()))
    optimizer = getattr(model, "ent_coef_optimizer", None)
    assert optimizer is None or not optimizer._optimizer_step_post_hooks


def test_a_new_unit_of_crossq_gets_new_normalisation_too():
    """Behind each hidden layer of 12 and 10 units lies a BatchRenorm, whose slice is reset with the unit."""
    layers = case_of(CrossQ).build().continual_backprop.layers
    assert [[norm.num_features for norm in layer.hidden_layer.norms] for layer in layers] == [[12], [10]] * 3


# Target networks ------------------------------------------------------------------------------------------------------


@with_targets
def test_target_networks_are_never_touched(case):
    """With updates of the targets switched off they stay as they were, whatever is replaced in their networks."""
    off = {"tau": 0.0} if hasattr(case.plain(), "tau") and case.algorithm not in (DQN, QRDQN) else {}
    off = off or {"target_update_interval": 10**6}
    model = case.build(**off)
    before = copy.deepcopy([v for name, v in model.policy.state_dict().items() if "_target" in name])
    model.learn(64)
    assert before and model.continual_backprop.total_replaced > 0
    assert_same(before, [value for name, value in model.policy.state_dict().items() if "_target" in name])


# Ready names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ready", "parent"),
    [(ContinualA2C, A2C), (ContinualDDPG, DDPG), (ContinualDQN, DQN), (ContinualSAC, SAC), (ContinualTD3, TD3)],
)
def test_ready_names(ready, parent):
    assert ready.__bases__ == (ContinualBackpropMixin, parent)
    assert ready.__name__ == f"Continual{parent.__name__}"


def test_sb3_contrib_is_optional():
    for path in Path(cppo.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])] + [getattr(node, "module", None) or ""]
            assert not any(str(name).startswith("sb3_contrib") for name in names), path
