"""The update with the gradient written down: stable-baselines3's, to rounding."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import threadpoolctl
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import RolloutBufferSamples
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


class TwoActivations(ActorCriticPolicy):
    """A policy with two activations in its critic."""

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        self.mlp_extractor.value_net[1] = nn.ReLU()


class Dropping(ActorCriticPolicy):
    """A policy with a dropout in its critic."""

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        self.mlp_extractor.value_net[1] = nn.Sequential(nn.Tanh(), nn.Dropout())


class OwnExtractor(FlattenExtractor):
    """A features extractor that may do anything."""


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


REFUSED = {
    "gSDE": ({"use_sde": True}, "actions are drawn with gSDE"),
    "discrete actions": ({"env": "CartPole-v1"}, "drawn from a CategoricalDistribution, not from a Gaussian"),
    "observations that are numbers": ({"env": "FrozenLake-v1"}, r"observations are no vectors, but Discrete\(16\)"),
    "another activation": ({"policy_kwargs": {"activation_fn": nn.ELU}}, "the actor has a ELU"),
    "another layer": ({"policy": Dropping}, "the critic has a Dropout"),
    "no hidden layers": ({"policy_kwargs": {"net_arch": []}}, "the actor is no chain of hidden layers"),
    "two activations": ({"policy": TwoActivations}, "the critic is no chain of hidden layers with one activation"),
    "a features extractor": (
        {"policy_kwargs": {"features_extractor_class": OwnExtractor}},
        "the policy has a features extractor, OwnExtractor",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_cover_is_refused_at_setup(name: str) -> None:
    arguments, reason = REFUSED[name]
    arguments = {"policy": "MlpPolicy", "env": "Pendulum-v1"} | arguments
    with pytest.raises(ValueError, match=f"the closed-form update can't run: .*{reason}.*; use --update autograd"):
        with_closed_form(PPO)(**arguments)


@pytest.mark.parametrize("package", ["numba", "threadpoolctl"])
def test_without_the_extra_fast_it_is_refused(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr({"numba": "cppo.compiled"}.get(package, "cppo.fast.closed_form") + f".{package}", None)
    with pytest.raises(ValueError, match=rf"can't run: {package} is missing \(pip install 'cppo\[fast\]'\)"):
        with_closed_form(PPO)("MlpPolicy", "Pendulum-v1")


CHANGES = {
    "frozen": (lambda policy: policy.log_std.requires_grad_(False), "parameters are frozen"),
    "hooked": (lambda policy: policy.value_net.register_forward_hook(print), "somebody's hook listens to the critic"),
    "moved": (lambda policy: policy.to("meta"), "the policy is on meta, not on the cpu"),
    "widened": (lambda policy: policy.register_parameter("own", nn.Parameter(torch.zeros(1))), "parameters besides"),
    "shortened": (lambda policy: policy.half(), "no plain tensors of single or double precision"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_policy_that_was_changed_since_is_refused_before_it_is_updated(name: str) -> None:
    change, reason = CHANGES[name]
    model = with_rollout(with_closed_form(PPO))
    change(model.policy)
    with pytest.raises(ValueError, match=reason):
        model.train()
    assert not model.policy.optimizer.state


def kernels_of(model: PPO, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often an update of three minibatches calls torch's fused kernel."""
    calls, kernel = [], torch._fused_adam_
    with monkeypatch.context() as patch:
        patch.setattr(torch, "_fused_adam_", lambda *args, **kwargs: calls.append(kernel(*args, **kwargs)))
        update(model)
    return len(calls)


def test_steps_are_fused_also_after_loading_a_state_that_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels_of(with_rollout(PPO), monkeypatch) == 0
    model = with_rollout(with_closed_form(PPO))
    assert kernels_of(model, monkeypatch) == 3
    for saved in (None, False):
        state = model.policy.optimizer.state_dict()
        state["param_groups"][0]["fused"] = saved
        model.policy.optimizer.load_state_dict(state)
        assert kernels_of(model, monkeypatch) == 3


def test_an_implementation_that_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    policy_kwargs = {"optimizer_kwargs": {"foreach": True}}
    assert kernels_of(with_rollout(with_closed_form(PPO), policy_kwargs=policy_kwargs), monkeypatch) == 0


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


class OwnBuffer(RolloutBuffer):
    """A buffer of the user's, whose minibatches may be drawn in another way."""


def test_a_users_buffer_draws_its_own_minibatches() -> None:
    plain, own = with_rollout(with_closed_form(PPO)), with_rollout(with_closed_form(PPO))
    own.rollout_buffer.__class__ = OwnBuffer
    for model in (plain, own):
        update(model)
    for one, other in zip(own.policy.parameters(), plain.policy.parameters(), strict=True):
        assert torch.equal(one, other)


class Large(RolloutBuffer):
    """A buffer that gives out larger minibatches than were asked for, of other numbers."""

    def get(self, batch_size: int | None = None):
        for data in super().get(2 * (batch_size or 0)):
            yield RolloutBufferSamples(*(column.double() for column in data))


def test_a_users_minibatches_may_be_larger_and_of_other_numbers() -> None:
    theirs, ours = with_rollout(PPO, batch_size=80), with_rollout(with_closed_form(PPO))
    ours.rollout_buffer.__class__ = Large
    update(theirs)
    update(ours)
    for one, other in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        assert (one - other).abs().max() < 3e-6


def forget_gradients(policy: ActorCriticPolicy) -> None:
    policy.optimizer.zero_grad(set_to_none=True)


def move(policy: ActorCriticPolicy) -> None:
    for parameter in policy.parameters():
        parameter.data = parameter.data.clone()


@pytest.mark.parametrize("change", [forget_gradients, move])
def test_hooks_of_the_optimizer_may_move_what_it_works_on(change: Callable[[ActorCriticPolicy], None]) -> None:
    theirs, ours = with_rollout(PPO, n_epochs=2), with_rollout(with_closed_form(PPO), n_epochs=2)
    ours.policy.optimizer.register_step_post_hook(lambda *_: change(ours.policy))
    update(theirs)
    update(ours)
    for one, other in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        assert (one - other).abs().max() < 3e-6


def test_features_of_a_step_that_was_not_taken_are_kept_for_the_next() -> None:
    """With early stopping, the minibatch that was too far off is seen but not learned from."""
    arguments = {"utility": "mean_corrected_contribution", "target_kl": 1e-5, "n_epochs": 3} | CONTINUAL
    theirs, ours = with_rollout(CPPO, **arguments), with_rollout(with_closed_form(CPPO), **arguments)
    for model in (theirs, ours):
        update(model)
        model.target_kl = None
        update(model)
    for layer, other in zip(ours.continual_backprop.layers, theirs.continual_backprop.layers, strict=True):
        torch.testing.assert_close(layer.utility, other.utility, rtol=1e-3, atol=1e-6)


def test_blas_has_one_thread_in_an_update_and_its_own_number_afterwards() -> None:
    def counts() -> set[int]:
        found = threadpoolctl.threadpool_info()
        return {each["num_threads"] for each in found if each["user_api"] == "blas"}

    model, seen = with_rollout(with_closed_form(PPO)), []
    model.policy.optimizer.register_step_post_hook(lambda *_: seen.append(counts()))
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = counts()
        update(model)
        assert seen == [{1}, {1}, {1}]
        assert counts() == before
