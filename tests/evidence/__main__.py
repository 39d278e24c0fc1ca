"""Train the experiments of docs/evidence.md and print their tables: ``python -m tests.evidence --help``.

``train`` does what isn't in ``docs/evidence/phases.csv`` yet, the most needed first; it can be stopped at any time and
goes on where it was. ``keep`` adds to the tables what has finished meanwhile.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from cppo.grids.executors import make_executor
from cppo.grids.grid import PlannedRun
from cppo.grids.grid_file import read_grid
from cppo.grids.many import GridTraining, plan, report_grid
from cppo.runs.folder import RunFolder
from tests.evidence import results
from tests.evidence.tables import TABLES

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ("tuning", "stationary")
"""Grid files in ``docs/evidence``, the most needed first."""


def planned(experiment: str) -> list[PlannedRun]:
    """The runs of an experiment in the order of work: seed by seed, and of all arms the first setting comes first."""
    count: Counter[tuple[int, str]] = Counter()
    placed = []
    for run in read_grid(results.EVIDENCE / f"{experiment}.yaml"):
        key = run.settings.seed, run.settings.algo
        placed.append((run.settings.seed, count[key], len(placed), run))
        count[key] += 1
    return [run for *_, run in sorted(placed, key=lambda each: each[:3])]


def train(runs: Path, jobs: int) -> int:
    """Train all that isn't in the tables, and keep it there; the exit code is that of the first that isn't done."""
    for experiment in EXPERIMENTS:
        had = {row.run for row in results.read()}
        missing = [run for run in planned(experiment) if results.Run.of(run.settings) not in had]
        if not missing:
            continue
        grid = plan(missing, runs / experiment, sys.argv)
        code = GridTraining(grid, make_executor("local", jobs, None), [str(ROOT / "train.py")]).train()
        keep(runs)
        report_grid(grid, ["-m", "tests.evidence", "train"])
        if code:
            return code
    return 0


def keep(runs: Path) -> None:
    """Add finished runs to the tables."""
    done = [config.parent for config in runs.glob("*/*/config.yaml") if RunFolder(config.parent).state() == "finished"]
    for run in results.keep(sorted(done)):
        print(f"kept: {run.algo}, seed {run.seed}, {run.sequence}")


def main() -> int:
    """Do what is asked."""
    parser = argparse.ArgumentParser(
        "python -m tests.evidence", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["train", "keep", *TABLES], help="a name of a table prints it")
    parser.add_argument("--runs", type=Path, default=Path("runs/evidence"), help="where the runs are")
    parser.add_argument("--jobs", type=int, default=2, help="trained at a time")
    flags = parser.parse_args()
    if flags.what == "train":
        return train(flags.runs, flags.jobs)
    if flags.what == "keep":
        keep(flags.runs)
    else:
        print(TABLES[flags.what](results.read()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
