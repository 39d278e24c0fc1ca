"""Trains the runs of a grid, each in a process of its own: those that are missing, stopped or failed."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cppo.command_line import aligned, to_type
from cppo.grids.board import Board
from cppo.grids.executors import LocalExecutor
from cppo.grids.grid import PlannedRun
from cppo.grids.jobs import Job
from cppo.reading import one_line
from cppo.runs.folder import Ending, RunFolder
from cppo.runs.overview import Overview, duration, last_row
from cppo.settings.settings import Settings
from cppo.training.environments import environment_arguments, make_environment
from cppo.training.starting import continued

if TYPE_CHECKING:
    from cppo.grids.ray_executor import RayExecutor

SECONDS_BETWEEN_LOOKS = 0.2


@dataclass
class GridRun:
    """A run of the grid and where it stands.

    :param settings: what it is to be trained with
    :param steps_before: environment steps trained by earlier starts
    :param state: "waiting", "running", "running elsewhere", "finished", "stopped" or "failed"
    :param reason: in a line, why it ended early
    :param seconds: how long it was trained this time
    :param env_module: the module to import, which registers its environment
    :param ending_before: what its folder says of an earlier start
    """

    name: str
    folder: RunFolder
    settings: Settings
    steps_before: int = 0
    state: str = "waiting"
    reason: str = ""
    seconds: float | None = None
    env_module: str | None = None
    ending_before: Ending | None = None

    def job(self, train: Sequence[str]) -> Job:
        """The job that trains it; ``train`` is what Python is given to run that command."""
        steps = str(self.settings.total_timesteps)
        module = () if self.env_module is None else ("--env-module", self.env_module)
        command = (*train, "--resume", str(self.folder.path), "--total-timesteps", steps, *module)
        return Job(self.name, str(self.folder.path), command)

    def settle(self, reason: str, asked: bool) -> None:
        """Read from the folder how the run ended; what it says of an earlier start counts for nothing.

        :param reason: why its process ended early; empty if it didn't
        :param asked: whether it was told to
        """
        ending = self.folder.ending()
        if ending is None or ending == self.ending_before:
            ending = Ending("stopped" if asked else "failed", 0, reason or "its process ended before it began to train")
        self.state = "running" if self.folder.lock.is_held() else ending.state
        if self.state == "stopped" and not asked:
            self.state = "failed"
        as_asked = self.state in ("finished", "stopped")
        self.reason = "" if as_asked else ending.reason or reason


def plan(runs: Sequence[PlannedRun], root: Path, command: list[str]) -> list[GridRun]:
    """Look at the folders of all runs, then make those that are missing.

    :param root: the folder their folders are in
    :raises OSError: if a folder holds something else, or can't be written
    :raises ValueError: if a run was trained with other settings, or its environment refuses them
    :raises gymnasium.error.Error: if there is no such environment
    """
    grid = [_looked_at(run, RunFolder((root / run.name).absolute())) for run in runs]
    _check_environments([run for run in grid if run.state == "missing"])
    for run in grid:
        if run.state == "missing":
            run.folder.create(run.settings, command, run.env_module).release()
            run.state = "waiting"
    return grid


def _looked_at(run: PlannedRun, folder: RunFolder) -> GridRun:
    state = folder.state()
    if state == "empty":
        folder.check_free()
        return GridRun(run.name, folder, run.settings, state="missing", env_module=run.env_module)
    folder.check_env_module(run.env_module)
    had = folder.settings()
    # In processes of their own or not, its environments do the same.
    settings = continued(folder, dataclasses.replace(run.settings, processes=had.processes))
    if state == "running":
        return GridRun(
            run.name, folder, settings, _last_steps(folder), "running elsewhere", "another process trains it"
        )
    ending = folder.ending()
    done = state == "finished" and ending is not None and ending.steps >= settings.total_timesteps
    return GridRun(
        run.name,
        folder,
        settings,
        _last_steps(folder),
        "finished" if done else "waiting",
        env_module=run.env_module,
        ending_before=ending,
    )


def _check_environments(new: Sequence[GridRun]) -> None:
    """Make each kind of environment once, so that a slip in its name or arguments isn't made in every run."""
    arguments = {run.name: environment_arguments(run.settings) for run in new}
    kinds = {(run.settings.env, str(arguments[run.name] | {"schedule_seed": 0})): run for run in new}
    for run in kinds.values():
        make_environment(run.settings.env, arguments[run.name], run.env_module).close()


class GridTraining:
    """Trains what is missing of a grid, and shows its progress.

    :param train: what Python is given to run the command that trains, such as the path of ``train.py``
    """

    def __init__(self, runs: Sequence[GridRun], executor: LocalExecutor | RayExecutor, train: Sequence[str]) -> None:
        self._runs = {run.name: run for run in runs}
        self._executor, self._train = executor, train
        self._board = Board()
        self._began: dict[str, tuple[float, int]] = {}
        self._signals: list[int] = []
        self._signals_passed_on = 0

    def train(self) -> int:
        """Train until every run has ended, or the user stops it.

        :return: the exit code: 0 if all are finished, 1 if not, 130 after Ctrl-C, 143 after SIGTERM
        """
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for run in self._in_state("waiting"):
                self._executor.submit(run.job(self._train))
            while self._executor.is_busy:
                self._look()
                time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            self._board.clear()
            self._executor.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._signals:
            return 128 + self._signals[0]
        return 0 if len(self._in_state("finished")) == len(self._runs) else 1

    def _note(self, number: int, _: object) -> None:
        self._signals.append(number)

    def _look(self) -> None:
        """Act on signals, take note of what began and ended, and show how far the runs are."""
        self._pass_on_signals()
        events = self._executor.poll()
        for name in [name for name in events.ended if name not in events.begun]:  # before those that took their place
            self._note_end(name, events.ended.pop(name))
        for name in events.begun:
            run = self._runs[name]
            run.state = "running"
            self._began[name] = (time.monotonic(), _last_steps(run.folder))
            continued_at = f"continued after {run.steps_before:,} steps"
            self._board.say(f"{name}: {continued_at if run.steps_before else 'started'}")
        for name in events.lost:
            run = self._runs[name]
            run.state, run.steps_before = "waiting", _last_steps(run.folder)
            self._board.say(f"{name}: its worker was lost after {run.steps_before:,} steps; it waits for another")
        for name, reason in events.ended.items():
            self._note_end(name, reason)
        if self._board.is_due:
            self._board.show([*map(self._line, self._in_state("running")), self._counts()])

    def _note_end(self, name: str, reason: str) -> None:
        run = self._runs[name]
        run.settle(reason, asked=bool(self._signals))
        run.seconds = time.monotonic() - self._began[name][0] if name in self._began else None
        self._board.say(f"{name}: {run.state}{f': {run.reason}' if run.reason else ''}")

    def _pass_on_signals(self) -> None:
        if len(self._signals) == self._signals_passed_on:
            return
        if self._signals_passed_on == 0:
            self._board.say("stopping: each run at work writes a checkpoint; once more ends them at once")
            self._executor.stop()
        else:
            self._executor.kill()
        self._signals_passed_on = len(self._signals)

    def _in_state(self, state: str) -> list[GridRun]:
        return [run for run in self._runs.values() if run.state == state]

    def _line(self, run: GridRun) -> str:
        """How far a run is, and how long it will take at its speed."""
        row = _last_row(run.folder)
        steps, total = int(row.get("time/total_timesteps", 0)), run.settings.total_timesteps
        parts = [f"{run.name}: {steps:,} of {total:,} steps"]
        if "rollout/ep_rew_mean" in row:
            parts.append(f"return {row['rollout/ep_rew_mean']:.1f}")
        if "environment/friction" in row:
            parts.append(f"friction {row['environment/friction']:.4g}")
        began, first = self._began[run.name]
        if steps > first:
            speed = (steps - first) / (time.monotonic() - began)
            parts.append(f"{speed:.0f}/s, {duration((total - steps) / speed)} left")
        return ", ".join(parts)

    def _counts(self) -> str:
        counts = Counter(run.state for run in self._runs.values())
        return f"{len(self._runs)} in all: " + ", ".join(f"{number} {state}" for state, number in counts.items())


def report_grid(runs: Sequence[GridRun], command: Sequence[str]) -> None:
    """Print the table of all runs, why some ended early, and how to go on."""
    print(summary(runs))
    if any(run.state != "finished" for run in runs):
        print(f"what is missing is trained by the same command: {to_type(command)}")
    sys.stdout.flush()


def summary(runs: Sequence[GridRun]) -> str:
    """A table of all runs of a grid; ``time`` is what each took this time."""
    rows = [("run", "state", "steps", "return", "friction", "time")]
    for run in runs:
        try:
            cells = Overview.read(run.folder).cells()[1:]
        except (OSError, ValueError) as error:
            cells = ("-",) * 3
            run.reason = run.reason or str(error)
        rows.append((run.name, run.state, *cells, "-" if run.seconds is None else duration(run.seconds)))
    reasons = [one_line(f"{run.name} {run.state}: {run.reason}") for run in runs if run.reason]
    return "\n".join([aligned(rows), *reasons])


def _last_row(folder: RunFolder) -> dict[str, float]:
    """The figures of a run's last row; none where they can't be read, which mustn't end the other runs."""
    try:
        return last_row(folder.progress)
    except (OSError, ValueError):
        return {}


def _last_steps(folder: RunFolder) -> int:
    return int(_last_row(folder).get("time/total_timesteps", 0))
