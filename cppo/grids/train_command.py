"""The command that trains: ``cppo train``, or ``python train.py`` in a clone."""

import sys
from collections.abc import Sequence
from pathlib import Path

from cppo.command_line import or_fail, show_warnings_plainly, typed
from cppo.grids.executors import make_executor
from cppo.grids.grid import PlannedRun
from cppo.grids.many import GridTraining, plan, report_grid
from cppo.grids.train_flags import PROGRAM, TrainFlags, read_flags
from cppo.training.starting import Training, continued, prepare, resume
from cppo.training.training import report, train


def start(flags: TrainFlags) -> Training:
    """Begin a run, or take one up again."""
    folder = flags.folder()
    if flags.resume is None:
        return prepare(flags.settings().resolved(), folder, typed(), flags.module)
    settings = continued(folder, flags.settings())
    return resume(settings, folder, typed(), flags.module, flags.trust_state)


def train_one(flags: TrainFlags) -> int:
    """Train a run in this process; the exit code is 130 when the user interrupted, 143 on SIGTERM."""
    training = or_fail(PROGRAM, start, flags)
    outcome = train(training)
    report(outcome, training.folder)
    return outcome.exit_code


def train_many(runs: list[PlannedRun], flags: TrainFlags) -> int:
    """Train what is missing of a grid, each run in a process of its own; the exit code is 1 if any run failed."""
    executor = or_fail(PROGRAM, make_executor, flags.executor, flags.jobs, flags.ray_address)
    grid = or_fail(PROGRAM, plan, runs, flags.output or Path("runs"), typed())
    code = GridTraining(grid, executor, started_by()).train()
    report_grid(grid, typed())
    return code


def started_by() -> tuple[str, ...]:
    """What Python is given to run this command once more, in another process."""
    script = Path(sys.argv[0])
    if script.name == "train.py":
        return (str(script.resolve()),)
    return (str(script), "train") if script.name == "cppo" else ("-m", "cppo", "train")


def main(args: Sequence[str] | None = None) -> int:
    """Parse, then train one run or many.

    :param args: by default those of the program
    """
    show_warnings_plainly(PROGRAM)
    flags, runs = read_flags(args)
    return train_one(flags) if runs is None else train_many(runs, flags)
