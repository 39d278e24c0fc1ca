"""The update with the gradient written down: stable-baselines3's, to rounding."""

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from torch import nn

from cppo import CPPO
from cppo.fast.closed_form import with_closed_form
from cppo.remedies import RemediedCPPO

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
CONTINUAL = {"maturity_threshold": 3, "replacement_rate": 0.02}


def with_rollout(kind: type[PPO], n_steps: int = 100, **arguments: Any) -> PPO:
    """An agent with a rollout of Pendulum whose probabilities, advantages and values are spread far."""
    policy = {"net_arch": [32, 24], "activation_fn": nn.ReLU} | arguments.pop("policy_kwargs", {})
    model = kind(
        "MlpPolicy",
        "Pendulum-v1",
        n_steps=n_steps,
        seed=0,
        device="cpu",
        policy_kwargs=policy,
        **({"batch_size": 40, "n_epochs": 1} | arguments),
    )
    _, callback = model._setup_learn(n_steps)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, n_steps)
    rng, buffer = np.random.default_rng(0), model.rollout_buffer
    buffer.log_probs += rng.normal(scale=0.4, size=buffer.log_probs.shape).astype(np.float32)
    buffer.advantages[:] = rng.normal(size=buffer.advantages.shape)
    buffer.returns[:] = buffer.values + rng.normal(size=buffer.returns.shape)
    buffer.values += rng.normal(scale=0.3, size=buffer.values.shape).astype(np.float32)
    return model


def update(model: PPO) -> dict[str, Any]:
    """Update with fixed draws; return what was logged."""
    np.random.seed(0)
    torch.manual_seed(0)
    model.train()
    return dict(model.logger.name_to_value)


SETTINGS = {
    "as it comes": {},
    "tanh, three layers": {"policy_kwargs": {"activation_fn": nn.Tanh, "net_arch": [16, 16, 16]}},
    "actor and critic differ": {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [16, 8]}}},
    "all terms": {"ent_coef": 0.02, "clip_range_vf": 0.2, "vf_coef": 0.7, "max_grad_norm": 0.1},
    "no clipping of gradients": {"max_grad_norm": float("inf")},
    "advantages as they are": {"normalize_advantage": False, "clip_range": lambda left: 0.1 * left},
    "a last minibatch of one": {"n_steps": 81},
    "stopped early": {"target_kl": 1e-5, "n_epochs": 3},
    "weight decay": {"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.01, "eps": 1e-5}}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_one_update_is_that_of_stable_baselines3(name: str) -> None:
    theirs, ours = with_rollout(PPO, **SETTINGS[name]), with_rollout(with_closed_form(PPO), **SETTINGS[name])
    before = [parameter.detach().clone() for parameter in ours.policy.parameters()]
    expected, got = update(theirs), update(ours)
    for one, other, old in zip(ours.policy.parameters(), theirs.policy.parameters(), before, strict=True):
        # A step of Adam is about 3e-4 long.
        assert (one - other).abs().max() < 3e-6
        assert torch.equal(one, old) == (name == "stopped early")
        if other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)
    assert set(got) == set(expected)
    for key, value in expected.items():
        assert got[key] == pytest.approx(value, rel=1e-3, abs=1e-6), key


@pytest.mark.parametrize("utility", ["contribution", "gradient", "mean_corrected_contribution"])
def test_continual_backpropagation_sees_and_replaces_the_same(utility: str) -> None:
    arguments = {"utility": utility, "n_epochs": 3} | CONTINUAL
    theirs, ours = with_rollout(CPPO, **arguments), with_rollout(with_closed_form(CPPO), **arguments)
    update(theirs)
    update(ours)
    expected, got = theirs.continual_backprop, ours.continual_backprop
    assert got.total_replaced == expected.total_replaced > 0
    assert torch.equal(got.age, expected.age)
    for layer, other in zip(got.layers, expected.layers, strict=True):
        torch.testing.assert_close(layer.utility, other.utility, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(layer.mean_activation, other.mean_activation, rtol=1e-3, atol=1e-6)


def frozen(model: PPO) -> None:
    model.policy.log_std.requires_grad_(False)


def hooked(model: PPO) -> None:
    model.policy.value_net.register_forward_hook(lambda *_: None)


@pytest.mark.parametrize("change", [frozen, hooked])
def test_what_it_does_not_cover_is_left_to_stable_baselines3(change) -> None:
    theirs, ours = with_rollout(PPO), with_rollout(with_closed_form(PPO))
    for model in (theirs, ours):
        change(model)
        update(model)
    for one, other in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        assert torch.equal(one, other)


def test_remedies_that_act_at_steps_go_with_it() -> None:
    arguments = {"remedies": {"shrink-perturb": {}}} | CONTINUAL
    theirs, ours = with_rollout(RemediedCPPO, **arguments), with_rollout(with_closed_form(RemediedCPPO), **arguments)
    update(theirs)
    update(ours)
    for one, other in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        assert (one - other).abs().max() < 3e-6


def test_a_gradient_that_is_not_a_number_is_not_hidden() -> None:
    model = with_rollout(with_closed_form(PPO), normalize_advantage=False, batch_size=100)
    model.rollout_buffer.advantages[7] = np.nan
    update(model)
    assert model.policy.action_net.weight.isnan().any()


def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cppo.compiled.numba", None)


@pytest.mark.parametrize("name", ["as it comes", "all terms", "a last minibatch of one"])
def test_without_numba_torch_finds_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loops, calls = (with_rollout(with_closed_form(PPO), **SETTINGS[name]) for _ in range(2))
    expected = update(loops)
    without_numba(monkeypatch)
    got = update(calls)
    for one, other in zip(calls.policy.parameters(), loops.policy.parameters(), strict=True):
        assert (one - other).abs().max() < 3e-6
    for key, value in expected.items():
        assert got[key] == pytest.approx(value, rel=1e-3, abs=1e-6), key


class OwnBuffer(RolloutBuffer):
    """A buffer of the user's, whose minibatches may be drawn in another way."""


def test_a_users_buffer_draws_its_own_minibatches() -> None:
    plain, own = with_rollout(with_closed_form(PPO)), with_rollout(with_closed_form(PPO))
    own.rollout_buffer.__class__ = OwnBuffer
    for model in (plain, own):
        update(model)
    for one, other in zip(own.policy.parameters(), plain.policy.parameters(), strict=True):
        assert torch.equal(one, other)
