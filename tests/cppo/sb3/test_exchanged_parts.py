"""A policy of which a part was exchanged is refused before it learns, and can be set up anew."""

import pytest
import torch
from torch import nn

from cppo import CPPO
from cppo.sb3.algorithms import ContinualSAC
from tests.cppo.agents import BOX, BUSY, OFF_POLICY, PPO_LIKE, assert_same, make, networks, parameters


def exchange_optimizer(policy):
    policy.optimizer = torch.optim.SGD(policy.parameters(), lr=1e-3)


def exchange_module(policy):
    policy.action_net = nn.Linear(10, 2)


def exchange_actors_optimizer(policy):
    policy.actor.optimizer = torch.optim.SGD(policy.actor.parameters(), lr=1e-3)


def exchange_inside_the_critic(policy):
    policy.critic.qf1[2] = nn.Linear(12, 10)


@pytest.mark.parametrize(
    ("algorithm", "options", "change", "what"),
    [
        (CPPO, PPO_LIKE, exchange_optimizer, "the optimizer of 'policy'"),
        (CPPO, PPO_LIKE, exchange_module, "action_net"),
        (ContinualSAC, OFF_POLICY, exchange_actors_optimizer, "the optimizer of 'actor'"),
        (ContinualSAC, OFF_POLICY, exchange_inside_the_critic, r"qf1\.2"),
    ],
)
def test_it_is_refused_and_can_be_set_up_anew(algorithm, options, change, what):
    model = make(algorithm, BOX, options | BUSY).learn(64)
    change(model.policy)
    before = [value.clone() for value in parameters(model)]
    with pytest.raises(RuntimeError, match=rf"^{what} was exchanged or taken away since .*set_up_continual_backprop"):
        model.learn(64)
    assert_same(before, parameters(model))
    for network in (model.policy,) if algorithm is CPPO else (model.actor, model.critic):
        network.optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    model.set_up_continual_backprop()
    assert not any(network.age.any() for network in networks(model).values())
    assert model.learn(96).continual_backprop.total_replaced > 0


@pytest.mark.parametrize("what", ["policy", "mlp_extractor"])
def test_compiling_is_no_exchange(what):
    model = make(CPPO, BOX, PPO_LIKE | BUSY)
    if what == "policy":
        model.policy = torch.compile(model.policy, backend="eager")
    else:
        model.policy.mlp_extractor = torch.compile(model.policy.mlp_extractor, backend="eager")
    assert model.learn(64).continual_backprop.total_replaced > 0


@pytest.mark.parametrize(("seed", "error"), [("a", TypeError), (True, TypeError), (-1, ValueError)])
def test_a_seed_that_is_none_is_named(seed, error):
    with pytest.raises(error, match=f"seed={seed!r} is not allowed"):
        make(CPPO, BOX, PPO_LIKE | {"seed": seed})
