"""Runs read back for a report: what is used of them, what is left out, and which are the same method."""

import numpy as np
import pytest

from cppo.report.records import Record, distinct, methods, same_task

NAMES = ("time/total_timesteps", "episodes/return", "episodes/ended", "environment/phase")


def rows(*values: tuple) -> list[dict]:
    return [dict(zip(NAMES, row, strict=True)) for row in values]


ONE_ROW = rows((100, 5.0, 1, 0))


def test_every_episode_counts_once(write_run):
    # one episode of return 10, two of mean 40, none: (10 + 2 * 40) / 3
    record = Record.read(
        write_run("run", rows((100, 10.0, 1, 0), (200, 40.0, 2, 0), (300, "", 0, 0), (400, 7.0, 1, 1)))
    )
    assert record.mean_return(record.steps <= 300) == 30.0
    assert np.isnan(record.mean_return(record.steps == 300))
    assert (record.total_steps, record.phases.tolist()) == (400, [0, 0, 0, 1])


@pytest.mark.parametrize("end", ["500,8", "500,8.0,1", "500,8.0,1,1", "500,8.0,1,1,9\n", ",,,\n", "x,8.0,1,1\n", "\n"])
def test_a_half_written_or_broken_row_is_left_out(write_run, end):
    path = write_run("run", ONE_ROW)
    with (path / "progress.csv").open("a") as file:
        file.write(end)
    assert Record.read(path).steps.tolist() == [100]


def test_columns_that_came_later_are_nan_before(write_run):
    path = write_run("run", [ONE_ROW[0], {**ONE_ROW[0], NAMES[0]: 200, "plasticity/actor.0/dead_share": 0.5}])
    np.testing.assert_array_equal(Record.read(path).columns["plasticity/actor.0/dead_share"], [np.nan, 0.5])


def test_a_run_without_figures_is_refused_by_name(write_run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing is no training run: it has no config\.yaml"):
        Record.read(tmp_path / "nothing")
    path = write_run("run", ONE_ROW)
    for content, message in {
        "": r"progress\.csv holds no row with time/total_timesteps",
        "a,b\n1,2\n": r"progress\.csv holds no row with time/total_timesteps",
        "time/total_timesteps,rollout/ep_rew_mean\n100,5\n": r"progress\.csv tells no episodes/return",
        "time/total_timesteps,episodes/return,episodes/ended\n100,,0\n": r"progress\.csv tells no episodes/return",
        ",".join(NAMES) + "\n200,1,1,0\n100,1,1,0\n": r"progress\.csv is no table of a run: its rows are out of order",
        ",".join(NAMES) + "\n100,1,1,0\n100,1,1,0\n": r"progress\.csv is no table of a run: its rows are out of order",
        'time/total_timesteps\n"1\r2\x00': r"progress\.csv (holds no row|can't be read)",
    }.items():
        (path / "progress.csv").write_text(content)
        with pytest.raises(ValueError, match=message):
            Record.read(path)
    (path / "progress.csv").write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(ValueError, match=r"progress\.csv can't be read"):
        Record.read(path)
    (path / "progress.csv").unlink()
    with pytest.raises(FileNotFoundError, match="nothing was trained yet"):
        Record.read(path)


def read(write_run, **runs) -> list[Record]:
    return [Record.read(write_run(name, ONE_ROW, **settings)) for name, settings in runs.items()]


def test_runs_that_differ_in_their_seeds_are_one_method(write_run):
    records = read(write_run, a={"seed": 0}, b={"seed": 1}, c={"algo": "cppo", "seed": 0, "schedule_seed": 5})
    assert {name: [r.folder.path.name for r in runs] for name, runs in methods(records).items()} == {
        "ppo": ["a", "b"],
        "cppo": ["c"],
    }


def test_other_settings_make_another_method_named_by_them(write_run):
    records = read(write_run, a={"gamma": 0.9}, b={"gamma": 0.99}, c={"gamma": 0.9, "seed": 1}, d={"algo": "cppo"})
    assert {name: len(runs) for name, runs in methods(records).items()} == {
        "ppo gamma=0.9": 2,
        "ppo gamma=0.99": 1,
        "cppo": 1,
    }


def test_runs_of_another_task_are_left_out_and_told_why(write_run):
    records = read(write_run, a={"change_every": 500}, b={}, c={"algo": "cppo"}, d={"env": "Pendulum-v1"})
    kept, left_out = same_task(records)
    assert [record.folder.path.name for record in kept] == ["b", "c"]
    assert left_out[records[0].name] == f"it is of another task than {kept[0].name}: change_every is 500, not 2000000"
    assert "env is 'Pendulum-v1', not 'SlipperyAnt-v0'" in left_out[records[3].name]


def test_a_run_done_twice_counts_once(write_run):
    records = read(write_run, a={"seed": 0}, b={"seed": 0}, c={"seed": 1})
    kept, left_out = distinct(records)
    assert kept == [records[0], records[2]]
    assert left_out == {records[1].name: f"it has the settings and the seed of {records[0].name}"}


def test_the_end_of_a_phase_is_its_last_tenth_of_steps_of_its_own_rows(write_run):
    # phase 0: steps 800, 900, 950, 1000 of 1000: those after 900 count, weighted by episodes: (3 * 20 + 60) / 4;
    # the row at 1020 is still of phase 0: then those after 920 are 950, 1000 and 1020
    values = {"change_every": 1000, "total_timesteps": 2000}
    data = [(800, 1.0, 9, 0), (900, 5.0, 9, 0), (950, 20.0, 3, 0), (1000, 60.0, 1, 0)]
    assert np.isnan(Record.read(write_run("short", rows(*data[:-1]), **values)).phase_end(0))
    assert Record.read(write_run("whole", rows(*data), **values)).phase_end(0) == 30.0
    record = Record.read(write_run("late", rows(*data, (1020, 40.0, 4, 0)), **values))
    assert record.phase_end(0) == (3 * 20 + 60 + 4 * 40) / 8
    assert np.isnan(record.phase_end(1))
