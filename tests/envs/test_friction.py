"""The friction schedule: pure, in range, repeating, and changing where the sum of steps says so."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cppo_envs.friction import FrictionSchedule

seeds = st.integers(0, 2**70)
phases = st.integers(0, 2**40)
frictions = st.floats(1e-6, 1e6)


@given(seeds, st.lists(phases, min_size=1, max_size=8))
def test_friction_depends_on_seed_and_phase_alone(seed: int, asked: list[int]) -> None:
    schedule = FrictionSchedule(seed=seed)
    in_order = {phase: schedule.friction(phase) for phase in sorted(asked)}
    assert {phase: FrictionSchedule(seed=seed).friction(phase) for phase in asked} == in_order


@given(seeds, phases, frictions, frictions)
def test_friction_lies_in_its_range(seed: int, phase: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert low <= FrictionSchedule(friction_range=(low, high), seed=seed).friction(phase) <= high


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=6), phases)
def test_frictions_by_hand_repeat(by_hand: list[float], phase: int) -> None:
    schedule = FrictionSchedule(frictions=by_hand)
    assert schedule.friction(phase) == by_hand[phase % len(by_hand)]
    assert schedule.friction(phase + len(by_hand)) == schedule.friction(phase)


def test_the_sequence_never_changes_between_versions() -> None:
    # Written down once: runs of different versions are compared at these frictions.
    drawn = [FrictionSchedule(seed=0).friction(phase) for phase in range(3)]
    assert drawn == pytest.approx([0.574803208650011, 0.01309746512453246, 1365.2612516374008], rel=1e-12)


def test_seeds_and_phases_give_different_frictions() -> None:
    drawn = {FrictionSchedule(seed=seed).friction(phase) for seed in range(20) for phase in range(20)}
    assert len(drawn) == 400


def test_draws_are_uniform_in_the_logarithm() -> None:
    schedule = FrictionSchedule(friction_range=(1e-4, 1e4))
    logs = np.array([math.log10(schedule.friction(phase)) for phase in range(4000)])
    # Eight decades of equal width should each get 500 draws; 4.5 standard deviations are 4.5 * sqrt(500 * 7 / 8) = 94.
    counts, _ = np.histogram(logs, bins=8, range=(-4, 4))
    assert np.abs(counts - 500).max() < 94


def test_phase_changes_when_the_sum_of_steps_reaches_the_next_multiple() -> None:
    schedule = FrictionSchedule(change_every=10)
    assert [schedule.phase(total) for total in (0, 9, 10, 19, 20, 105)] == [0, 0, 1, 1, 2, 10]


@pytest.mark.parametrize("change_every", [None, math.inf])
def test_without_change_there_is_one_phase(change_every: float | None) -> None:
    assert FrictionSchedule(change_every=change_every).phase(10**15) == 0


def test_numpy_numbers_and_whole_floats_are_taken() -> None:
    schedule = FrictionSchedule(np.int64(5), np.array([0.1, 1.0]), np.uint32(3), np.array([0.5, 2.0]))
    assert schedule == FrictionSchedule(5.0, (0.1, 1.0), 3, [0.5, 2.0])


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"change_every": 0}, ValueError, "0"),
        ({"change_every": -5}, ValueError, "-5"),
        ({"change_every": 1.5}, TypeError, "1.5"),
        ({"change_every": math.nan}, TypeError, "nan"),
        ({"change_every": True}, TypeError, "True"),
        ({"change_every": "10"}, TypeError, "'10'"),
        ({"friction_range": (0, 1)}, ValueError, "0"),
        ({"friction_range": (2.0, 1.0)}, ValueError, "2.0, 1.0"),
        ({"friction_range": (-1.0, 1.0)}, ValueError, "-1.0"),
        ({"friction_range": (0.1, math.inf)}, ValueError, "inf"),
        ({"friction_range": (math.nan, 1.0)}, ValueError, "nan"),
        ({"friction_range": (0.1, 1.0, 2.0)}, ValueError, "0.1, 1.0, 2.0"),
        ({"friction_range": (True, 2.0)}, TypeError, "True"),
        ({"friction_range": 1.0}, TypeError, "1.0"),
        ({"friction_range": "ab"}, TypeError, "'ab'"),
        ({"seed": -1}, ValueError, "-1"),
        ({"seed": 0.5}, TypeError, "0.5"),
        ({"seed": None}, TypeError, "None"),
        ({"frictions": []}, ValueError, "non-empty"),
        ({"frictions": [0.8, -0.1]}, ValueError, "-0.1"),
        ({"frictions": [math.nan]}, ValueError, "nan"),
        ({"frictions": 0.8}, TypeError, "0.8"),
    ],
)
def test_bad_arguments_are_named_in_one_line(arguments: dict, error: type[Exception], named: str) -> None:
    with pytest.raises(error) as raised:
        FrictionSchedule(**arguments)
    message = str(raised.value)
    assert "must be" in message
    assert named in message
    assert "\n" not in message


def test_a_negative_phase_is_refused() -> None:
    with pytest.raises(ValueError, match="phase must be a whole number of at least 0, got -1"):
        FrictionSchedule().friction(-1)
