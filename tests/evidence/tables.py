"""The tables of docs/evidence.md, computed from the rows of ``docs/evidence/phases.csv``."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tests.evidence.results import Phase, Run


def tuning(rows: Iterable[Phase]) -> str:
    """Every arm of stage 2a: its return in each phase and over the last two, the mean of its seeds."""
    seeds = (0, 1)
    found = returns(rows, lambda run: run.seed in seeds)
    frictions = ("0.8", "0.2", "1.6", "0.4")
    heading = ["arm", "seeds", *(frictions[phase % 4] for phase in range(5)), "last two"]
    lines = []
    for arm in sorted({run.algo for run in found}):
        runs = np.array([values[:5] for run, values in found.items() if run.algo == arm])
        lines.append([f"`{arm}`", str(len(runs)), *map(whole, runs.mean(axis=0)), whole(runs[:, 3:5].mean())])
    return table(heading, lines)


def returns(rows: Iterable[Phase], wanted: Callable[[Run], bool]) -> dict[Run, list[float]]:
    """Returns by run, phase by phase."""
    found: dict[Run, list[float]] = {}
    for row in sorted(rows, key=lambda row: row.phase):
        if wanted(row.run):
            found.setdefault(row.run, []).append(row.reward)
    return found


def whole(value: float) -> str:
    """A figure without decimals."""
    return f"{value:.0f}"


def table(heading: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Lay out as Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [heading, ["---"] * len(heading), *lines])


TABLES = {"tuning": tuning}
