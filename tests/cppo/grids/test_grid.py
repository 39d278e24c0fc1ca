"""Every combination of values is a run, each once; what has no effect in some of them is left out there."""

import pytest

from cppo.grids.grid import MOST_RUNS, expand, seeds
from cppo.settings.settings import Settings


def presets(*algos: str, **values) -> list[Settings]:
    return [Settings.from_preset("nature", algo, **values) for algo in algos]


def test_seeds_are_numbers_and_ranges_each_once():
    assert seeds(["0:3", "7", 1, "6:8"]) == [0, 1, 2, 7, 6]


@pytest.mark.parametrize("word", ["many", "", ":", "1:", ":3", "0:3:2", "-1", "1.5", "4294967296", "²", None, True])
def test_what_is_no_seed(word):
    with pytest.raises(ValueError, match=r"--seed .* is not allowed: it must be a seed from 0 .* like 0:10 for 0 to 9"):
        seeds([word])


@pytest.mark.parametrize("word", ["3:3", "3:2", f"0:{MOST_RUNS + 1}"])
def test_an_empty_or_endless_range(word):
    with pytest.raises(ValueError, match=f"--seed {word} is not allowed: a range has at least 1"):
        seeds([word])


def test_no_seed_at_all():
    with pytest.raises(ValueError, match="--seed needs a number or a range"):
        seeds([])


def test_every_combination_is_a_run():
    runs = expand(presets("ppo", "cppo"), {"seed": [0, 1]})
    assert [(run.settings.algo, run.settings.seed) for run in runs] == [
        ("ppo", 0),
        ("ppo", 1),
        ("cppo", 0),
        ("cppo", 1),
    ]
    assert [run.name for run in runs][:2] == ["nature-SlipperyAnt-v0-ppo-seed0", "nature-SlipperyAnt-v0-ppo-seed1"]
    assert runs[3].settings.schedule_seed == 1  # resolved: the same seed, the same frictions
    assert runs[0].settings.betas == (0.9, 0.999) and runs[3].settings.betas == (0.99, 0.99)  # each with its preset


def test_a_run_has_one_process_unless_it_is_asked_for():
    """By default a single run takes a process for each of its environments where there are cores enough."""
    assert expand(presets("ppo"), {})[0].settings.processes is False
    assert expand(presets("ppo", processes=True), {})[0].settings.processes is True


def test_runs_are_named_by_what_differs():
    runs = expand(presets("cppo"), {"seed": [0], "replacement_rate": [1e-4, 1e-5], "net_arch": [(8, 16)]})
    assert [run.name for run in runs] == [
        "nature-SlipperyAnt-v0-cppo-seed0-replacement_rate=0.0001-net_arch=8x16",
        "nature-SlipperyAnt-v0-cppo-seed0-replacement_rate=1e-05-net_arch=8x16",
    ]


def test_a_setting_without_effect_is_left_out_and_equal_runs_are_one():
    runs = expand(presets("ppo", "cppo"), {"replacement_rate": [1e-3, 1e-5]})
    assert [(run.name, run.settings.replacement_rate) for run in runs] == [
        ("nature-SlipperyAnt-v0-ppo-seed0", None),
        ("nature-SlipperyAnt-v0-cppo-seed0-replacement_rate=0.001", 1e-3),
        ("nature-SlipperyAnt-v0-cppo-seed0-replacement_rate=1e-05", 1e-5),
    ]


def test_one_value_without_effect_in_some_runs():
    ppo, cppo = expand(presets("ppo", "cppo", utility="weight"), {})
    assert (ppo.settings.utility, cppo.settings.utility) == (None, "weight")


def test_a_setting_without_effect_anywhere_is_refused():
    with pytest.raises(ValueError, match="--replacement-rate has no effect with --algo ppo"):
        expand(presets("ppo", "ppo-l2"), {"replacement_rate": [1e-3]})


def test_bad_values_are_refused_as_in_a_single_run():
    with pytest.raises(ValueError, match="--gamma 2 is not allowed"):
        expand(presets("ppo"), {"gamma": [0.9, 2]})


def test_too_many_runs():
    with pytest.raises(ValueError, match=f"at most {MOST_RUNS} runs, this one has 10001"):
        expand(presets("ppo"), {"seed": range(MOST_RUNS + 1)})
