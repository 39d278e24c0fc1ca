"""The evidence's plan and its tables: what is trained, what is kept of a run, and that nothing is kept twice."""

import csv

import numpy as np
import pytest

from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings
from tests.evidence import results
from tests.evidence.__main__ import EXPERIMENTS, planned
from tests.evidence.results import Phase, Run
from tests.evidence.tables import TABLES

HEADING = "protocol,algo,seed,sequence,phase,friction,return,distance"


def test_every_arm_is_tuned_with_six_settings_and_two_seeds():
    counts = {}
    for run in planned("tuning"):
        counts.setdefault((run.settings.algo, run.settings.seed), set()).add(run.settings)
    assert {algo for algo, _ in counts} == {"ppo", "ppo-adam", "ppo-l2", "cppo", "cppo-l2"}
    assert {seed for _, seed in counts} == {0, 1}
    assert {len(settings) for settings in counts.values()} == {6}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_tables_tell_all_runs_of_an_experiment_apart(experiment):
    runs = planned(experiment)
    assert len({Run.of(run.settings) for run in runs}) == len({run.name for run in runs}) == len(runs)


def test_an_arm_is_named_by_what_differs_from_its_protocol():
    settings = Settings(protocol="recurring", algo="cppo", seed=3, replacement_rate=1e-5, update="closed-form")
    assert Run.of(settings.resolved()) == Run("recurring", "cppo replacement_rate=1e-05", 3, "0.8 0.2 1.6 0.4")


def finished_run(folder, rows):
    """A folder of a run of two phases of 1000 steps with these rows of figures."""
    settings = Settings(
        protocol="recurring", algo="ppo", seed=5, total_timesteps=2000, change_every=1000, frictions=(0.5, 2.0)
    )
    run = RunFolder(folder)
    run.create(settings.resolved(), ["train.py"]).release()
    with run.progress.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def row(step, phase, episodes, reward, distance, std):
    return {
        "time/total_timesteps": step,
        "environment/phase": phase,
        "episodes/ended": episodes,
        "episodes/return": reward,
        "episodes/distance": distance,
        "train/std": std,
        "train/approx_kl": 0.25,
        "plasticity/actor.1/dead_share": 0.5,
    }


def test_phases_are_kept_with_returns_distances_and_what_is_inside_once(tmp_path):
    rows = [
        row(500, 0, 2, 10.0, 1.0, 0.9),
        row(950, 0, 1, 20.0, 2.0, 0.8),  # the last tenth of phase 0 begins after step 900
        row(1000, 0, 3, 40.0, 4.0, 0.6),  # (20 + 3 * 40) / 4 = 35, (2 + 3 * 4) / 4 = 3.5
        row(1500, 1, 2, 7.0, -1.0, 0.5),
        row(2000, 1, 1, 9.0, 5.0, 0.4),
    ]
    run = finished_run(tmp_path / "run", rows)
    assert results.keep([run], tmp_path) == [Run("recurring", "ppo", 5, "0.5 2.0")]
    kept = results.read(tmp_path / "phases.csv")
    assert [(r.phase, r.friction, r.reward, r.distance) for r in kept] == [(0, 0.5, 35.0, 3.5), (1, 2.0, 9.0, 5.0)]
    assert (tmp_path / "phases.csv").read_text().splitlines()[0] == HEADING
    with (tmp_path / "insides.csv").open() as file:
        inside = list(csv.DictReader(file))
    assert [float(r["return_at_change"]) for r in inside] == [10.0, 7.0]
    assert [float(r["std"]) for r in inside] == pytest.approx([0.7, 0.4])  # (.8 + .6) / 2
    assert [float(r["actor_dead_share"]) for r in inside] == [0.5, 0.5]
    assert all(np.isnan(float(r["critic_rank"])) for r in inside)
    assert results.keep([run], tmp_path) == []
    assert results.read(tmp_path / "phases.csv") == kept


def test_a_run_that_has_not_finished_is_not_kept(tmp_path):
    run = finished_run(tmp_path / "run", [row(1000, 0, 3, 40.0, 4.0, 0.6)])
    assert results.keep([run], tmp_path) == []
    assert results.read(tmp_path / "phases.csv") == []


def test_the_tuning_table_averages_the_seeds_of_an_arm():
    rows = [
        Phase("recurring", "ppo", seed, "0.8 0.2 1.6 0.4", phase, 0.8, 100.0 * phase + seed, 1.0)
        for seed in (0, 1)
        for phase in range(5)
    ]
    # By phase 0.5, 100.5, ...; the last two (300.5 + 400.5) / 2 = 350.5, rounded to even.
    assert TABLES["tuning"](rows).splitlines()[-1] == "| `ppo` | 2 | 0 | 100 | 200 | 300 | 400 | 350 |"
