"""What a comparison says of runs whose returns are known: two phases of 1000 steps, a row every 100 steps."""

import numpy as np
import pytest

from cppo.report.comparison import Comparison, compare, drawn
from cppo.report.page import page_data
from cppo.report.records import Record
from cppo.statistics import Estimate

TASK = {"total_timesteps": 2000, "change_every": 1000, "frictions": (0.5, 2.0), "n_steps": 100, "batch_size": 100}


@pytest.fixture
def comparison_of(write_run):
    """Compare runs given as (algo, seed, return of each row from its step and phase, last step)."""

    def make(*runs: tuple, **settings) -> Comparison:
        records = []
        for number, (algo, seed, value, last) in enumerate(runs):
            rows = [
                {
                    "time/total_timesteps": step,
                    "environment/phase": (step - 1) // 1000,
                    "episodes/return": value(step),
                    "episodes/ended": 1,
                    "plasticity/actor.0/dead_share": step / 1000 if step % 200 == 0 else "",
                }
                for step in range(100, last + 1, 100)
            ]
            values = {"algo": algo, "seed": seed} | TASK | settings
            records.append(Record.read(write_run(f"run{number}", rows, **values)))
        return compare(records)

    return make


def test_the_return_at_the_end_of_a_phase_is_that_of_its_last_tenth(comparison_of):
    # The last tenth of 1000 steps is 100 steps, the one row at 1000, and that at 2000; return = step
    (method,) = comparison_of(("ppo", 0, float, 2000)).methods
    assert method.phase_ends.tolist() == [[1000.0, 2000.0]]
    assert method.phases == [Estimate(1000.0, None, None, 1), Estimate(2000.0, None, None, 1)]
    assert method.all_phases == Estimate(1500.0, None, None, 1)


def test_the_last_third_is_all_that_ended_in_it(comparison_of):
    # rows after 2000 * 2 / 3 = 1333.3: 1400, 1500, ..., 2000, whose mean is 1700
    (method,) = comparison_of(("ppo", 0, float, 2000)).methods
    assert method.last_part.tolist() == [1700.0]


def test_a_run_that_isnt_done_counts_where_it_has_finished(comparison_of):
    comparison = comparison_of(("ppo", 0, lambda _: 10.0, 2000), ("ppo", 1, lambda _: 20.0, 1500))
    (method,) = comparison.methods
    assert [estimate.value for estimate in method.phases] == [15.0, 10.0]
    assert (method.all_phases, method.last) == (Estimate(10.0, None, None, 1), Estimate(10.0, None, None, 1))
    (note,) = comparison.unfinished
    assert note.endswith("run1 has done 1,500 of 2,000 steps; it counts where it has finished.")
    assert [point.value for point in method.curve] == [15.0] * 15 + [10.0] * 5


def test_phases_have_their_steps_and_frictions(comparison_of):
    phases = comparison_of(("ppo", 0, float, 2000)).phases
    assert [tuple(phase) for phase in phases] == [(0, 0, 1000, [0.5]), (1, 1000, 2000, [2.0])]


def test_a_phase_that_no_run_met_has_no_friction(comparison_of):
    assert comparison_of(("ppo", 0, float, 1000)).phases[1].frictions == []


def test_a_ground_that_never_changes_is_one_phase(comparison_of):
    comparison = comparison_of(("ppo", 0, float, 2000), env="FastAnt-v0", change_every=None, frictions=None)
    assert [tuple(phase) for phase in comparison.phases] == [(0, 0, 2000, [])]


def test_bins_of_the_curve_lie_within_a_phase_and_hold_at_least_a_rollout(comparison_of):
    # 10 rollouts a phase: each bin holds the one row at its end
    comparison = comparison_of(("ppo", 0, float, 2000))
    assert comparison.steps.tolist() == [50.0 + 100 * number for number in range(20)]
    assert comparison.methods[0].curves.tolist() == [[100.0 * number for number in range(1, 21)]]


def test_curves_of_the_insides_are_those_of_the_rows_that_have_them(comparison_of):
    (method,) = comparison_of(("ppo", 0, float, 2000), n_steps=200, batch_size=200).methods
    curve = method.insides["plasticity/dead_share", "actor.0"]
    assert [point.value for point in curve] == pytest.approx([0.2 * number for number in range(1, 11)])


def test_methods_are_compared_by_the_last_third(comparison_of):
    # ppo: 1, 3; cppo: 2, 4: cppo wins three of the four pairs
    runs = [(algo, seed, lambda _, v=v: v, 2000) for algo, seed, v in
            [("ppo", 0, 1.0), ("ppo", 1, 3.0), ("cppo", 0, 2.0), ("cppo", 1, 4.0)]]  # fmt: skip
    superiority = comparison_of(*runs).superiority
    assert superiority["cppo", "ppo"].value == 0.75 and superiority["ppo", "cppo"].value == 0.25


def test_runs_that_each_met_frictions_of_their_own_are_one_stratum(comparison_of):
    # of 0, 10, 0, 10 all four drawn are 0 in one draw of 16
    runs = [("ppo", seed, lambda _, s=seed: 10.0 * (s % 2), 2000) for seed in range(4)]
    assert comparison_of(*runs, frictions=None).methods[0].last == Estimate(5.0, 0.0, 10.0, 4)


def test_runs_that_met_the_same_frictions_are_a_stratum_where_each_has_several(write_run):
    rows = [{"time/total_timesteps": 2000, "episodes/ended": 1, "environment/phase": 1}]
    values = TASK | {"frictions": None}
    records = [
        Record.read(
            write_run(f"{s}{seed}", [rows[0] | {"episodes/return": 10.0 * s}], **values, schedule_seed=s, seed=seed)
        )
        for s in (0, 1)
        for seed in (0, 1)
    ]
    comparison = compare(records)
    assert comparison.methods[0].last == Estimate(5.0, 5.0, 5.0, 4)
    assert any("within each of the 2 sequences of frictions" in sentence for sentence in comparison.explanation)


def test_an_unfinished_run_of_other_frictions_is_not_lost(write_run):
    """Two finished runs each of two sequences of frictions, and one of a third that has done its first phase only."""
    values = TASK | {"frictions": None}
    rows = [{"time/total_timesteps": 1000 * (p + 1), "environment/phase": p, "episodes/ended": 1} for p in (0, 1)]
    runs = [(0, 0, 2), (0, 1, 2), (1, 2, 2), (1, 3, 2), (2, 4, 1)]  # schedule, seed, phases done
    comparison = compare(
        [
            Record.read(
                write_run(
                    f"run{seed}", [row | {"episodes/return": seed} for row in rows[:done]],
                    schedule_seed=schedule, seed=seed, **values,
                )
            )
            for schedule, seed, done in runs
        ]
    )  # fmt: skip
    (method,) = comparison.methods
    assert [estimate.value for estimate in method.phases] == [
        2.0,
        1.5,
    ]  # (1 + 2 + 3) / 3 and (0 + 1 + 2 + 3) / 4 trimmed


def test_few_runs_come_with_a_warning(comparison_of):
    few = comparison_of(("ppo", 0, float, 2000)).explanation
    assert "With few runs such intervals are too narrow" in few[-1]


def test_everything_that_is_no_number_is_nan(comparison_of):
    (method,) = comparison_of(("ppo", 0, lambda step: "" if step > 1000 else 1.0, 2000)).methods
    assert np.isnan(method.last_part).all() and method.last is None and method.all_phases is None


def test_a_curve_and_its_band_are_drawn_of_the_same_points(comparison_of):
    """In the second half of the steps only one of the two runs has episodes: nothing is drawn there, by anybody."""
    runs = [("ppo", 0, lambda _: 10.0, 2000), ("ppo", 1, lambda step: 20.0 if step <= 1000 else "", 2000)]
    comparison = comparison_of(*runs)
    (method,) = comparison.methods
    assert [point.runs for point in method.curve] == [2] * 10 + [1] * 10
    curve = page_data(comparison, [], {})["methods"][0]["curve"]
    assert curve == {"value": [15.0] * 10 + [None] * 10, "low": [10.0] * 10 + [None] * 10,
                     "high": [20.0] * 10 + [None] * 10, "runs": [2.0] * 10 + [None] * 10}  # fmt: skip
    assert drawn(method.curve) == method.curve[:10] + [None] * 10


def test_a_single_run_is_drawn_without_a_band(comparison_of):
    (method,) = comparison_of(("ppo", 0, float, 2000)).methods
    assert drawn(method.curve) == method.curve
