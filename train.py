"""Train agents from the command line: ``python train.py --help``."""

import sys
from pathlib import Path

from cppo.command_line import or_fail, run, show_warnings_plainly
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
        return prepare(flags.settings().resolved(), folder, sys.argv, flags.module)
    settings = continued(folder, flags.settings())
    return resume(settings, folder, sys.argv, flags.module, flags.trust_state)


def train_one(flags: TrainFlags) -> int:
    """Train a run in this process; the exit code is 130 when the user interrupted, 143 on SIGTERM."""
    training = or_fail(PROGRAM, start, flags)
    outcome = train(training)
    report(outcome, training.folder)
    return outcome.exit_code


def train_many(runs: list[PlannedRun], flags: TrainFlags) -> int:
    """Train what is missing of a grid, each run in a process of its own; the exit code is 1 if any run failed."""
    executor = or_fail(PROGRAM, make_executor, flags.executor, flags.jobs, flags.ray_address)
    grid = or_fail(PROGRAM, plan, runs, flags.output or Path("runs"), sys.argv)
    code = GridTraining(grid, executor, Path(__file__).resolve()).train()
    report_grid(grid, sys.argv)
    return code


def main() -> int:
    """Parse, then train one run or many."""
    show_warnings_plainly(PROGRAM)
    flags, runs = read_flags()
    return train_one(flags) if runs is None else train_many(runs, flags)


if __name__ == "__main__":
    run(main)
