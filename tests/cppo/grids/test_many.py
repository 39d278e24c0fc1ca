"""A grid trains what is missing and nothing else, and reports what became of each run."""

import dataclasses
import os
import signal
from pathlib import Path

import gymnasium as gym
import pytest

from cppo.grids import many
from cppo.grids.grid import expand
from cppo.grids.jobs import Events, Job
from cppo.grids.many import GridTraining, plan, report_grid, summary
from cppo.runs.folder import Ending, RunFolder
from cppo.settings.settings import Settings

SCRIPT = Path("train.py")


class Scripted:
    """An executor whose jobs do at once what they are told to.

    :param acts: what each job does, by name; others finish
    """

    def __init__(self, **acts) -> None:
        self.jobs: list[Job] = []
        self.calls: list[str] = []
        self._acts = acts
        self._left: list[Job] = []

    @property
    def is_busy(self) -> bool:
        return bool(self._left)

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        self._left.append(job)

    def poll(self) -> Events:
        events = Events()
        for job in list(self._left):
            reason = self._acts.get(job.name[-5:], finish)(RunFolder(Path(job.folder)))
            events.begun.append(job.name)
            if reason is not None:
                self._left.remove(job)
                events.ended[job.name] = reason
        return events

    def stop(self) -> None:
        self.calls.append("stop")

    def kill(self) -> None:
        self.calls.append("kill")

    def close(self) -> None:
        self.calls.append("close")


class OneAtATime(Scripted):
    """Begins a job in the look in which the last one has ended."""

    def poll(self) -> Events:
        events = Events()
        if self.calls:
            job = self._left.pop(0)
            events.ended[job.name] = finish(RunFolder(Path(job.folder)))
            self.calls.clear()
        if self._left:
            self.calls.append("begun")
            events.begun.append(self._left[0].name)
        return events


def finish(folder: RunFolder) -> str:
    folder.progress.write_text("time/total_timesteps,rollout/ep_rew_mean\n1000,12.5\n")
    folder.write_ending(Ending("finished", 1000))
    return ""


def fail(folder: RunFolder) -> str:
    folder.write_ending(Ending("failed", 400, "NaN in the loss"))
    return "train.py: error: the last line"


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch):
    monkeypatch.setattr(many, "SECONDS_BETWEEN_LOOKS", 0.01)


def runs_of(*seeds: int, **values):
    given = {"env": "CartPole-v1", "total_timesteps": 1000} | values
    return expand([Settings.from_preset("nature", "ppo", **given)], {"seed": seeds})


def train(root: Path, runs, executor: Scripted) -> tuple[int, list]:
    grid = plan(runs, root, ["train.py"])
    return GridTraining(grid, executor, [str(SCRIPT)]).train(), grid


def test_all_runs_are_trained_by_resuming_their_folders(tmp_path):
    executor = Scripted()
    code, grid = train(tmp_path, runs_of(0, 1), executor)
    assert code == 0 and executor.calls == ["close"]
    assert [run.state for run in grid] == ["finished", "finished"]
    folder = str(tmp_path / "nature-CartPole-v1-ppo-seed0")
    assert executor.jobs[0] == Job(grid[0].name, folder, ("train.py", "--resume", folder, "--total-timesteps", "1000"))
    assert RunFolder(Path(folder)).settings() == runs_of(0)[0].settings


def test_the_module_of_an_environment_is_handed_on(tmp_path):
    """It is noted in the run's folder, but imported only where the command names it."""
    runs = [dataclasses.replace(run, env_module="math") for run in runs_of(0)]
    executor = Scripted()
    _, (run,) = train(tmp_path, runs, executor)
    assert executor.jobs[0].command[-2:] == ("--env-module", "math")
    assert run.folder.record()["env_module"] == "math"
    with pytest.raises(ValueError, match="was registered by the module math; give it as --env-module math"):
        plan(runs_of(0), tmp_path, ["train.py"])


def test_a_failed_run_is_reported_and_the_rest_is_finished(tmp_path, capsys):
    code, grid = train(tmp_path, runs_of(0, 1, 2), Scripted(seed1=fail))
    report_grid(grid, ["train.py", "--seed", "0:3", "--output", "my runs"])
    assert code == 1
    out, err = capsys.readouterr()
    assert "nature-CartPole-v1-ppo-seed1: failed: NaN in the loss" in err
    lines = out.splitlines()
    assert [line.split()[:5] for line in lines[1:4]] == [
        ["nature-CartPole-v1-ppo-seed0", "finished", "1,000", "of", "1,000"],
        ["nature-CartPole-v1-ppo-seed1", "failed", "0", "of", "1,000"],
        ["nature-CartPole-v1-ppo-seed2", "finished", "1,000", "of", "1,000"],
    ]
    assert lines[4] == "nature-CartPole-v1-ppo-seed1 failed: NaN in the loss"
    assert lines[5] == "what is missing is trained by the same command: python train.py --seed 0:3 --output 'my runs'"


def test_a_killed_run_failed(tmp_path):
    code, grid = train(tmp_path, runs_of(0), Scripted(seed0=lambda _: "killed by SIGKILL"))
    assert (code, grid[0].state, grid[0].reason) == (1, "failed", "killed by SIGKILL")


def test_a_second_start_trains_what_is_missing_only(tmp_path):
    train(tmp_path, runs_of(0, 1, 2), Scripted(seed1=fail, seed2=lambda _: "killed"))
    executor = Scripted()
    code, grid = train(tmp_path, runs_of(0, 1, 2, 3), executor)
    assert code == 0 and {run.state for run in grid} == {"finished"}
    assert [job.name[-5:] for job in executor.jobs] == ["seed1", "seed2", "seed3"]


def test_finished_runs_are_trained_on_where_more_steps_are_asked_for(tmp_path):
    train(tmp_path, runs_of(0), Scripted())
    executor = Scripted()
    train(tmp_path, runs_of(0, total_timesteps=2000), executor)
    assert executor.jobs[0].command[-2:] == ("--total-timesteps", "2000")


def test_what_a_folder_says_of_an_earlier_start_is_not_believed(tmp_path):
    """More steps are asked for; children fail before they begin, by a word, without one, and by a signal."""
    train(tmp_path, runs_of(0, 1, 2), Scripted(seed2=fail))
    acts = {"seed0": lambda _: "train.py: error: no such module", "seed1": lambda _: "", "seed2": lambda _: "killed"}
    code, grid = train(tmp_path, runs_of(0, 1, 2, total_timesteps=2000), Scripted(**acts))
    assert (code, [run.state for run in grid]) == (1, ["failed"] * 3)
    reasons = [run.reason for run in grid]
    assert reasons == ["train.py: error: no such module", "its process ended before it began to train", "killed"]


def test_a_run_killed_between_its_new_number_of_steps_and_its_first_is_trained(tmp_path):
    train(tmp_path, runs_of(0), Scripted())
    (longer,) = runs_of(0, total_timesteps=2000)
    RunFolder(tmp_path / longer.name).write_settings(longer.settings, {})
    assert plan([longer], tmp_path, [])[0].state == "waiting"


def test_a_run_trained_with_other_settings_is_refused_before_anything_is_written(tmp_path):
    train(tmp_path, runs_of(1), Scripted())
    with pytest.raises(ValueError, match=r"seed1 was trained with --gamma 0\.99, not 0\.9"):
        plan(runs_of(0, 1, gamma=0.9), tmp_path, [])
    assert [path.name for path in tmp_path.iterdir()] == ["nature-CartPole-v1-ppo-seed1"]


def test_a_single_run_becomes_part_of_a_grid(tmp_path):
    """A run trained alone decides itself whether to use processes; that changes nothing of what it does."""
    (run,) = runs_of(0)
    folder = RunFolder(tmp_path / run.name)
    folder.create(dataclasses.replace(run.settings, processes=None), []).release()
    finish(folder)
    executor = Scripted()
    assert train(tmp_path, runs_of(0), executor)[0] == 0
    assert executor.jobs == []


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "nature-CartPole-v1-ppo-seed1").mkdir()
    (tmp_path / "nature-CartPole-v1-ppo-seed1" / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="seed1 holds something else already"):
        plan(runs_of(0, 1), tmp_path, [])
    assert len(list(tmp_path.iterdir())) == 1


def test_a_run_that_another_process_trains_is_left_to_it(tmp_path):
    lock = plan(runs_of(0), tmp_path, [])[0].folder.lock
    lock.acquire()
    executor = Scripted()
    code, grid = train(tmp_path, runs_of(0, 1), executor)
    lock.release()
    assert code == 1 and grid[0].state == "running elsewhere"
    assert [job.name[-5:] for job in executor.jobs] == ["seed1"]


def test_an_environment_that_is_not_there_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(gym.error.Error, match="NoSuch"):
        plan(runs_of(0, 1, env="NoSuch-v0"), tmp_path, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_passed_on_and_the_checkpoints_are_waited_for(tmp_path, number, code, capsys):
    executor = Scripted()

    def work(folder: RunFolder) -> str | None:
        if not executor.calls:
            os.kill(os.getpid(), number)
            return None
        folder.write_ending(Ending("stopped", 400, "stopped by a signal"))
        return "last line"

    executor._acts = {"seed0": work}
    found, grid = train(tmp_path, runs_of(0), executor)
    assert found == code and executor.calls == ["stop", "close"]
    assert (grid[0].state, grid[0].reason) == ("stopped", "")
    report_grid(grid, ["train.py"])
    assert "what is missing is trained by the same command" in capsys.readouterr().out


def test_a_second_signal_ends_the_runs_at_once(tmp_path):
    executor = Scripted()

    def work(_: RunFolder) -> str | None:
        if "kill" in executor.calls:
            return "killed by SIGKILL"
        os.kill(os.getpid(), signal.SIGINT)
        return None

    executor._acts = {"seed0": work}
    assert train(tmp_path, runs_of(0), executor)[0] == 130
    assert executor.calls == ["stop", "kill", "close"]


def test_runs_that_had_no_turn_are_still_waiting(tmp_path):
    grid = plan(runs_of(0), tmp_path, [])
    assert summary(grid).splitlines()[1].split()[1] == "waiting"


def test_one_job_at_a_time_is_seen_to_end_before_the_next_begins(tmp_path, capsys):
    grid = plan(runs_of(0, 1), tmp_path, [])
    assert GridTraining(grid, OneAtATime(), [str(SCRIPT)]).train() == 0
    told = [line.rpartition("seed")[2] for line in capsys.readouterr().err.splitlines()]
    assert told == ["0: started", "0: finished", "1: started", "1: finished"]
