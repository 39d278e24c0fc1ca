"""Copies of agents and of their policies."""

import copy
import pickle

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.logger import configure

from tests.cppo.agents import CASES, assert_same, case_of, networks, parameters, tensors

WITHOUT_SDE = [case for case in CASES if not case.options.get("use_sde")]
"""The noise of gSDE has a graph, so that plain agents with it can't be copied either."""


def train(model):
    """Let an agent learn a little from what it has collected; the same for everyone who has collected the same."""
    np.random.seed(0)
    torch.manual_seed(0)
    model.train(**({"gradient_steps": 4, "batch_size": 8} if hasattr(model, "replay_buffer") else {}))
    return [*parameters(model), *tensors(networks_state(model))]


def networks_state(model):
    return {name: network.state_dict() for name, network in networks(model).items()}


@pytest.mark.parametrize("case", WITHOUT_SDE, ids=lambda case: case.algorithm.__name__)
def test_the_copy_of_an_agent_learns_on_as_the_agent_does(case):
    model = case.build().learn(64)
    model.set_logger(configure(None, []))
    model.predict(np.zeros(3, np.float32))  # a distribution that still has a graph couldn't be copied, CBP or not
    twin = copy.deepcopy(model)
    before = model.continual_backprop.total_replaced
    assert_same(train(model), train(twin))
    assert twin.continual_backprop.total_replaced == model.continual_backprop.total_replaced > before > 0


@pytest.mark.parametrize("algorithm", [TD3, SAC])
def test_what_happens_to_a_copy_leaves_the_agent_alone(algorithm):
    model = case_of(algorithm).build().learn(64)
    model.set_logger(configure(None, []))
    twin, third = copy.deepcopy(model), copy.deepcopy(model)
    twin.continual_backprop.remove()
    train(twin)
    assert not any(module._forward_pre_hooks for module in twin.policy.modules())
    assert_same(train(third), train(model))


@pytest.mark.parametrize("copying", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))])
@pytest.mark.parametrize("case", WITHOUT_SDE, ids=lambda case: case.algorithm.__name__)
def test_a_copied_or_pickled_policy_is_a_plain_policy(case, copying):
    """Nothing of continual backpropagation goes along: a function in its settings couldn't be pickled."""
    model = case.build(utility=lambda signals: signals.mean_magnitude, replacement_rate=1.0, maturity_threshold=0)
    policy = copying(model.policy)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in policy.modules())
    assert not any("__getstate__" in module.__dict__ for module in policy.modules())
    optimizers = [module.optimizer for module in policy.modules() if hasattr(module, "optimizer")]
    assert optimizers
    for optimizer in optimizers:
        assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_a_copied_policy_learns_as_a_plain_one():
    policy, plain = copy.deepcopy(case_of(PPO).build(replacement_rate=1.0, maturity_threshold=0).policy), None
    plain = case_of(PPO).plain().policy
    for each in (policy, plain):
        for _ in range(3):
            each.optimizer.zero_grad()
            each.evaluate_actions(torch.ones(4, 3), torch.zeros(4, 2))[0].sum().backward()
            each.optimizer.step()
    assert_same(policy.parameters(), plain.parameters())


def test_what_an_optimizer_of_one_s_own_starts_from_can_be_given_to_an_agent():
    model = case_of(SAC).build(fresh_state={"exp_avg": 0.25}).learn(64)
    found = 0
    for network in networks(model).values():
        for layer in network.layers:
            state = network._optimizer.state[layer.hidden_layer.incoming.weight]
            found += int((state["exp_avg"][layer.replaced] == 0.25).all()) * len(layer.replaced)
    assert found == sum(len(layer.replaced) for layer in model.continual_backprop.layers)
