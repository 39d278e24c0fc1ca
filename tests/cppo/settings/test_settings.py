"""Settings: where their values come from, what is refused, and that they survive a file."""

import dataclasses
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cppo.settings.limits import REMEDY_FIELDS
from cppo.settings.presets import METHODS, preset
from cppo.settings.settings import Settings

CELLS = [(protocol, algo) for protocol in METHODS for algo in METHODS[protocol]]


def numbers(lowest: float, highest: float) -> st.SearchStrategy[float]:
    return st.floats(lowest, highest, allow_nan=False)


VALID = st.fixed_dictionaries(
    {"protocol": st.sampled_from(["talk", "nature", "quick"])},
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "total_timesteps": st.integers(1, 10**12),
        "n_envs": st.integers(1, 64),
        "processes": st.booleans(),
        "friction_range": st.tuples(numbers(1e-6, 1), numbers(1, 1e6)),
        "learning_rate": numbers(0, 1),
        "n_steps": st.integers(2, 10**6),
        "clip_range_vf": numbers(1e-3, 10),
        "max_grad_norm": st.just(math.inf) | numbers(0, 1e3),
        "target_kl": numbers(0, 1),
        "net_arch": st.lists(st.integers(1, 512), max_size=4).map(tuple),
        "activation": st.sampled_from(["relu", "tanh", "elu", "leaky_relu", "silu"]),
        "betas": st.tuples(numbers(0, 0.999), numbers(0, 0.9999)),
        "bias_transfer": st.booleans(),
        "utility": st.sampled_from(["gradient", "weight", "random"]),
    },
)


@given(VALID)
@settings(deadline=None, max_examples=60)
def test_settings_survive_yaml_and_resolving_again(values):
    resolved = Settings(**values).resolved()
    assert Settings.from_dict(yaml.safe_load(yaml.safe_dump(resolved.as_dict()))) == resolved
    assert resolved.resolved() == resolved
    for key, value in values.items():
        assert getattr(resolved, key) == value


@pytest.mark.parametrize(("protocol", "algo"), CELLS)
def test_every_key_of_a_preset_arrives_in_the_settings(protocol, algo):
    resolved = Settings(protocol=protocol, algo=algo).resolved()
    unused = (
        set()
        if resolved.is_continual
        else {key for key in preset(protocol, algo) if "replacement" in key}
        | {
            "maturity_threshold",
            "decay_rate",
            "utility",
            "bias_transfer",
            "reset_optimizer_state",
        }
    )
    unused |= {key for name, keys in REMEDY_FIELDS.items() for key in keys if name not in resolved.remedies}
    for key, value in preset(protocol, algo).items():
        if key == "rollout_steps":
            assert resolved.n_steps * resolved.n_envs == value
        else:
            assert getattr(resolved, key) == (None if key in unused else value), key


def test_every_setting_has_a_value_but_those_that_are_off_by_default():
    resolved = Settings(protocol="nature", algo="cppo-l2").resolved()
    without = {field.name for field in dataclasses.fields(Settings) if getattr(resolved, field.name) is None}
    of_remedies = {key for keys in REMEDY_FIELDS.values() for key in keys}
    assert without == {"processes", "frictions", "clip_range_vf", "target_kl", "policy"} | of_remedies


def test_what_is_given_beats_the_preset():
    resolved = Settings(protocol="talk", algo="ppo-l2", weight_decay=1e-6, n_steps=7).resolved()
    assert (resolved.weight_decay, resolved.n_steps) == (1e-6, 7)
    assert resolved.activation == "tanh"


@pytest.mark.parametrize(("n_envs", "n_steps"), [(1, 2048), (4, 512), (3, 682), (4096, 1)])
def test_a_rollout_is_shared_by_the_environments(n_envs, n_steps):
    """2048 / 3 = 682.67, rounded down; at least one step each."""
    assert Settings(protocol="nature", n_envs=n_envs).resolved().n_steps == n_steps


def test_frictions_follow_the_seed_unless_they_have_their_own():
    assert Settings(seed=5).resolved().schedule_seed == 5
    assert Settings(seed=5, schedule_seed=0).resolved().schedule_seed == 0


def test_new_units_are_drawn_as_the_initial_weights_unless_told_otherwise():
    assert Settings(algo="cppo", weight_init="xavier_uniform").resolved().initializer == "xavier_uniform"
    assert Settings(algo="cppo", initializer="orthogonal").resolved().initializer == "orthogonal"


def test_what_steers_nothing_is_none():
    resolved = Settings(algo="ppo", env="FastAnt-v0").resolved()
    names = "replacement_rate maturity_threshold utility change_every friction_range change_at schedule_seed"
    assert {getattr(resolved, name) for name in names.split()} == {None}


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"algo": "ppo", "replacement_rate": 0.1}, "--replacement-rate"),
        ({"algo": "ppo-adam", "maturity_threshold": 7}, "--maturity-threshold"),
        ({"algo": "ppo-l2", "utility": "weight"}, "--utility"),
        ({"algo": "ppo", "decay_rate": 0.5}, "--decay-rate"),
        ({"algo": "ppo", "initializer": "orthogonal"}, "--initializer"),
        ({"algo": "ppo", "bias_transfer": False}, "--bias-transfer"),
        ({"algo": "ppo", "reset_optimizer_state": False}, "--reset-optimizer-state"),
        ({"env": "FastAnt-v0", "change_every": 5}, "--change-every"),
        ({"env": "CartPole-v1", "friction_range": (0.1, 1.0)}, "--friction-range"),
        ({"env": "CartPole-v1", "frictions": (0.1,)}, "--frictions"),
        ({"env": "CartPole-v1", "change_at": "step"}, "--change-at"),
        ({"env": "CartPole-v1", "schedule_seed": 1}, "--schedule-seed"),
        ({"frictions": (0.5,), "friction_range": (0.1, 1.0)}, "--friction-range"),
        ({"frictions": (0.5,), "schedule_seed": 1}, "--schedule-seed"),
        ({"sde_sample_freq": 4}, "--sde-sample-freq"),
    ],
)
def test_a_value_that_would_have_no_effect_is_refused(values, flag):
    with pytest.raises(ValueError, match=f"^{flag} has no effect (in|with|without|together with) "):
        Settings(**values).resolved()


@given(
    st.sampled_from(["learning_rate", "ent_coef", "vf_coef", "weight_decay", "adam_eps", "clip_range", "target_kl"]),
    st.floats(max_value=0, exclude_max=True) | st.sampled_from([math.inf, math.nan]),
)
@settings(deadline=None, max_examples=40)
def test_numbers_that_must_be_finite_and_not_negative(key, value):
    with pytest.raises(ValueError, match=f"--{key.replace('_', '-')} .* must be at least 0 and at most 1e"):
        Settings(**{key: value}).resolved()


@given(st.sampled_from(["gamma", "gae_lambda", "replacement_rate"]), st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_shares_lie_between_0_and_1(key, value):
    assert getattr(Settings(**{key: value}).resolved(), key) == value
    for outside in (-0.1 - value, 1.1 + value, math.nan):
        with pytest.raises(ValueError, match=r"at least 0 and at most 1$"):
            Settings(**{key: outside}).resolved()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"total_timesteps": 0}, "--total-timesteps 0 is not allowed: it must be at least 1"),
        ({"change_every": 0}, "--change-every 0 is not allowed"),
        ({"n_envs": 0}, "--n-envs 0 is not allowed"),
        ({"n_envs": 5000}, "--n-envs 5000 is not allowed: it must be at least 1 and at most 4096"),
        ({"n_epochs": -1}, "--n-epochs -1 is not allowed"),
        ({"batch_size": 1}, "--batch-size 1 is not allowed: it must be at least 2"),
        ({"seed": -1}, "--seed -1 is not allowed"),
        ({"seed": 2**32}, "at least 0 and at most 4294967295"),
        ({"schedule_seed": -1}, "--schedule-seed -1 is not allowed"),
        ({"net_arch": (8, 0)}, "--net-arch 0 is not allowed"),
        ({"betas": (0.9, 1.0)}, "--betas 1.0 is not allowed: it must be at least 0 and below 1"),
        ({"decay_rate": 1.0}, "--decay-rate 1.0 is not allowed: it must be at least 0 and below 1"),
        ({"maturity_threshold": -1}, "--maturity-threshold -1 is not allowed"),
        ({"max_grad_norm": -1.0}, "--max-grad-norm -1.0 is not allowed"),
        ({"clip_range_vf": 0.0}, "--clip-range-vf 0.0 is not allowed: it must be above 0 and at most 1e"),
        ({"plasticity_every": -1}, "--plasticity-every -1 is not allowed: it must be at least 0 and at most 1e"),
        ({"maturity_threshold": 10**30, "algo": "cppo"}, "--maturity-threshold 10*? is not allowed: .* at most 1e"),
        ({"clip_range": 1e308}, "--clip-range 1e.308 is not allowed: it must be at least 0 and at most 1e.30"),
        ({"net_arch": (10**9,)}, "--net-arch 1000000000 is not allowed: it must be at least 1 and at most 65536"),
        ({"net_arch": (65_536,) * 2}, "--net-arch 65536 65536 is not allowed: it has 4,294,967,296 weights"),
        ({"torch_threads": 0}, "--torch-threads 0 is not allowed"),
        ({"n_envs": 1, "n_steps": 1}, "--n-steps times --n-envs must be at least 2"),
        ({"activation": "sigmoid"}, "--activation 'sigmoid' is not allowed: it must be one of relu, tanh"),
        ({"utility": "contributions"}, "--utility 'contributions' is not allowed: it must be one of contribution,"),
        ({"learning_rate": "fast"}, "--learning-rate 'fast' is not allowed: it must be of type float"),
        ({"n_steps": 2.5}, "--n-steps 2.5 is not allowed: it must be of type int"),
        ({"n_steps": True}, "--n-steps True is not allowed"),
        ({"net_arch": 64}, "--net-arch 64 is not allowed: it must be a list of int"),
        ({"betas": (0.9,)}, "is not allowed: it must be 2 numbers"),
        ({"use_sde": 1}, "--use-sde 1 is not allowed: it must be of type bool"),
        ({"env": 3}, "'int' object has no attribute|--env 3 is not allowed"),
        ({"protocol": "talks"}, "protocol='talks' is unknown"),
        ({"algo": "dqn"}, "algo='dqn' with protocol='nature' is unknown"),
    ],
)
def test_values_out_of_range_are_refused_with_what_is_allowed(values, message):
    with pytest.raises((ValueError, AttributeError), match=message):
        Settings(**values).resolved()


def test_an_unknown_key_is_refused():
    values = Settings().resolved().as_dict() | {"mt": 100, "learning_rat": 1.0}
    with pytest.raises(ValueError, match="unknown setting 'learning_rat', 'mt'"):
        Settings.from_dict(values)


def test_settings_that_were_cut_short_are_refused():
    values = Settings().resolved().as_dict()
    del values["activation"], values["betas"]
    with pytest.raises(ValueError, match="settings are missing: activation, betas"):
        Settings.from_dict(values)
