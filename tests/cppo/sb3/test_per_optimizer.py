"""A policy with several optimizers has a ``ContinualBackprop`` for each."""

import warnings

import pytest
import torch
from stable_baselines3 import DQN, SAC, TD3

from cppo.sb3.algorithms import ContinualSAC
from tests.cppo.agents import BOX, BUSY, OFF_POLICY, case_of, make, networks

TARGET_NETWORK = "left out: a target network, which follows its network"


def test_each_network_counts_the_steps_of_its_own_optimizer():
    """TD3's actor takes a step for every second one of the critic's."""
    case = case_of(TD3)
    model = case.build(replacement_rate=0.0, policy_delay=2).learn(64)
    assert model.continual_backprop["critic"].age.unique().tolist() == [model._n_updates]
    assert model.continual_backprop["actor"].age.unique().tolist() == [model._n_updates // 2]


@pytest.mark.parametrize("actor", [[12], []], ids=["actor watched", "actor without hidden layers"])
def test_passes_for_the_actors_loss_say_nothing_about_the_critic(actor):
    """Passes go own, actor's, own, actor's...; without averaging (decay 0) the mean is that of the last own one."""
    policy = {"net_arch": {"pi": actor, "qf": [12]}}
    model = make(ContinualSAC, BOX, OFF_POLICY | BUSY, policy_kwargs=policy, decay_rate=0.0)
    passes = []
    model.critic.qf0[2].register_forward_pre_hook(
        lambda module, args: passes.append(args[0].detach()) if torch.is_grad_enabled() else None
    )
    model.continual_backprop["critic"].replacement_rate = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no unit was replaced
        model.learn(40)
    assert len(passes) == 2 * model._n_updates > 0
    layer = model.continual_backprop["critic"].layers[0]
    torch.testing.assert_close(layer.mean_activation, passes[-2].mean(dim=0))


def test_networks_draw_different_units():
    first, second = (network.generator.get_state() for network in networks(case_of(SAC).build()).values())
    assert not torch.equal(first, second)


def test_the_mapping_stops_when_removed():
    model = case_of(SAC).build()
    model.continual_backprop.remove()
    with pytest.warns(UserWarning, match="ended without a single replaced unit"):
        model.learn(64)
    assert not any(module._forward_pre_hooks for module in model.policy.modules())
    assert not model.actor.optimizer._optimizer_step_post_hooks


def test_it_describes_every_network():
    actor, critic, others = case_of(SAC).build().continual_backprop.describe().split("\n\n")
    assert actor.startswith("actor") and "actor.latent_pi.0" in actor and "critic" not in actor
    assert critic.startswith("critic") and "critic.qf1.2" in critic
    assert all("left out: output of the network" in line for line in actor.splitlines()[-2:])
    assert TARGET_NETWORK in others and others.splitlines()[2].startswith("critic_target")
    assert "not among the layers named" not in actor + critic, "the reasons are those that were found"


def test_it_describes_a_network_in_which_nothing_is_watched():
    model = make(ContinualSAC, BOX, OFF_POLICY, policy_kwargs={"net_arch": {"pi": [], "qf": [12]}})
    critic, actor, _ = model.continual_backprop.describe().split("\n\n")
    assert critic.startswith("critic")
    assert [line.split()[0] for line in actor.splitlines()] == ["actor", "layer", "actor.mu", "actor.log_std"]


def test_one_optimizer_s_target_network_is_called_one():
    *_, row = case_of(DQN).build().continual_backprop.describe().splitlines()
    assert row.startswith("q_net_target ") and row.endswith(TARGET_NETWORK)
