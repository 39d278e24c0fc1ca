"""The presets are the published tables (FACTS.md, sections 1 and 2)."""

import math

import pytest

from cppo.settings.limits import FRICTION_FIELDS
from cppo.settings.presets import METHODS, PROTOCOLS, preset
from cppo.settings.settings import Settings

CELLS = [(protocol, algo) for protocol in METHODS for algo in METHODS[protocol]]

BOTH = {
    "n_epochs": 10,
    "batch_size": 128,
    "learning_rate": 1e-4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "ent_coef": 0.0,
    "adam_eps": 1e-5,
    "net_arch": (256, 256),
}
PUBLISHED = {
    "talk": BOTH
    | {
        "rollout_steps": 4096,
        "activation": "tanh",
        "friction_range": (1e-4, 1e4),
        "change_every": 10_000_000,
        "total_timesteps": 100_000_000,
    },
    "nature": BOTH
    | {
        "rollout_steps": 2048,
        "activation": "relu",
        "weight_init": "lecun_uniform",
        "vf_coef": 1.0,
        "max_grad_norm": math.inf,
        "friction_range": (0.02, 2.0),
        "change_every": 2_000_000,
        "total_timesteps": 20_000_000,
    },
}


@pytest.mark.parametrize("algo", METHODS["talk"])
@pytest.mark.parametrize("protocol", PUBLISHED)
def test_every_method_of_a_protocol_has_the_published_environment_and_ppo_settings(protocol, algo):
    published = PUBLISHED[protocol] | ({"activation": "relu"} if algo == "ppo-crelu" else {})
    settings = preset(protocol, algo)
    assert {key: settings[key] for key in published} == published


@pytest.mark.parametrize(
    ("algo", "betas", "weight_decay"),
    [
        ("ppo", (0.9, 0.999), 0.0),
        ("ppo-adam", (0.99, 0.99), 0.0),
        ("ppo-l2", (0.99, 0.99), 1e-3),
        ("cppo", (0.99, 0.99), 0.0),
        ("cppo-l2", (0.99, 0.99), 1e-4),
    ],
)
def test_nature_methods(algo, betas, weight_decay):
    settings = preset("nature", algo)
    assert (settings["betas"], settings["weight_decay"]) == (betas, weight_decay)


@pytest.mark.parametrize("algo", ["cppo", "cppo-l2"])
def test_nature_continual_backpropagation(algo):
    settings = preset("nature", algo)
    assert settings["replacement_rate"] == 1e-4
    assert settings["maturity_threshold"] == 10_000
    assert settings["utility"] == "contribution"


@pytest.mark.parametrize("algo", ["ppo", "ppo-l2", "cppo"])
def test_talk_methods_share_the_published_adam(algo):
    assert preset("talk", algo)["betas"] == (0.9, 0.999)


def test_talk_continual_backpropagation_is_one_of_the_pairs_tried():
    settings = preset("talk", "cppo")
    tried = [(1e-3, 100), (1e-3, 500), (1e-4, 500), (1e-4, 5000), (1e-5, 10000), (1e-5, 50000)]
    assert (settings["replacement_rate"], settings["maturity_threshold"]) in tried
    assert (settings["utility"], settings["decay_rate"]) == ("adaptable_contribution", 0.99)


@pytest.mark.parametrize("algo", METHODS["talk"])
def test_talk_weight_decay_is_one_of_those_tried_or_none(algo):
    allowed = {1e-3, 1e-4, 1e-5, 1e-6} if algo.endswith("-l2") else {0.0}
    assert preset("talk", algo)["weight_decay"] in allowed


def test_in_nature_cppo_differs_from_an_arm_without_it_in_nothing_but_continual_backpropagation():
    assert preset("nature", "cppo") == preset("nature", "ppo-adam")


@pytest.mark.parametrize(("protocol", "algo"), CELLS)
def test_a_rollout_is_a_whole_number_of_steps_of_each_environment_and_of_minibatches(protocol, algo):
    """Otherwise rollouts would be shorter than published, and stable-baselines3 would warn of a truncated minibatch."""
    settings = preset(protocol, algo)
    assert settings["rollout_steps"] % settings["n_envs"] == 0
    assert settings["rollout_steps"] % settings["batch_size"] == 0


def test_recurring_visits_each_of_its_frictions_twice_and_differs_from_nature_in_four_settings_only():
    recurring = Settings.from_preset("recurring", "cppo").resolved()
    nature = Settings.from_preset("nature", "cppo").resolved()
    changed = {name for name, value in vars(recurring).items() if value != getattr(nature, name)}
    assert recurring.total_timesteps // recurring.change_every == 2 * len(recurring.frictions) + 1
    # the frictions by hand take the place of those drawn
    assert changed >= {"protocol", "total_timesteps", "change_every", "frictions", "learning_rate"}
    assert changed <= {*FRICTION_FIELDS, "protocol", "total_timesteps", "learning_rate"}


def test_quick_comes_back_to_its_first_friction_and_replaces_units_before_it_ends():
    """The first unit is due a maturity after the start, plus the 1 / (256 * rate) steps that accumulate to one unit."""
    settings = preset("quick", "cppo-l2")
    assert settings["total_timesteps"] / settings["change_every"] == len(settings["frictions"]) + 1
    updates_each_rollout = settings["n_epochs"] * settings["rollout_steps"] / settings["batch_size"]
    optimizer_steps = settings["total_timesteps"] / settings["rollout_steps"] * updates_each_rollout
    first = settings["maturity_threshold"] + 1 / (256 * settings["replacement_rate"])
    assert first < optimizer_steps / 2


def test_asking_for_a_preset_hands_out_a_copy():
    preset("nature", "ppo")["gamma"] = 0.5
    assert preset("nature", "ppo")["gamma"] == 0.99
    assert all(settings["gamma"] == 0.99 for settings in PROTOCOLS.values())


def test_redo_is_that_of_nature():
    settings = preset("nature", "ppo-redo-l2")
    assert (settings["redo_threshold"], settings["redo_every"], settings["weight_decay"]) == (0.1, 100, 1e-4)


@pytest.mark.parametrize("algo", [algo for algo in METHODS["nature"] if preset("nature", algo)["remedies"]])
def test_in_nature_a_remedy_is_all_that_distinguishes_its_arm_from_tuned_adam(algo):
    """But for the weight decay that ReDo is published with."""
    settings, plain = preset("nature", algo), preset("nature", "ppo-adam")
    different = {key for key in settings if settings[key] != plain[key]}
    assert different == {"remedies"} | ({"weight_decay"} if algo.endswith("-l2") else set())
