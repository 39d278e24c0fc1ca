"""What is kept of a finished run: a row for each phase in ``docs/evidence/phases.csv`` and ``insides.csv``."""

import csv
import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cppo.reading import read_columns
from cppo.report.records import DISTANCE, NOT_METHOD, Record
from cppo.settings.settings import Settings

EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence"
PHASES, INSIDES = EVIDENCE / "phases.csv", EVIDENCE / "insides.csv"
NETWORKS = ("actor", "critic")
NOT_ARM = (*NOT_METHOD, "update", "n_steps", "n_envs")
"""Settings that don't make another arm."""


class Run(NamedTuple):
    """Which run a row is of.

    :param algo: the algorithm, and every setting that isn't the protocol's
    :param sequence: the frictions, with blanks between them
    """

    protocol: str
    algo: str
    seed: int
    sequence: str

    @classmethod
    def of(cls, settings: Settings) -> "Run":
        """Which run has these settings, resolved."""
        return cls(settings.protocol, arm(settings), settings.seed, " ".join(map(str, settings.frictions or ())))


class Phase(NamedTuple):
    """A row of ``phases.csv``.

    :param phase: from 0
    :param reward: mean return of the episodes in the phase's last tenth; called ``return`` in the file
    :param distance: metres that they walked on the mean
    """

    protocol: str
    algo: str
    seed: int
    sequence: str
    phase: int
    friction: float
    reward: float
    distance: float

    @property
    def run(self) -> Run:
        """Whose row it is."""
        return Run(*self[:4])


HEADING = [name if name != "reward" else "return" for name in Phase._fields]
INSIDE = ("return_at_change", "std", "approx_kl", *(f"{n}_{m}" for n in NETWORKS for m in ("dead_share", "rank")))
INSIDE_HEADING = [*HEADING[:5], *INSIDE]
"""Return of the first rollout after the change, before any update with what it saw; then, at the phase's end, the
actions' standard deviation, the last updates' KL divergence, and of each network's last hidden layer the share of dead
units and the effective rank."""


def arm(settings: Settings) -> str:
    """Name an algorithm with its settings: those that differ from the protocol's."""
    own = Settings.from_preset(settings.protocol, settings.algo, env=settings.env).resolved()
    names = [field.name for field in dataclasses.fields(settings) if field.name not in NOT_ARM]
    differing = [name for name in names if getattr(settings, name) != getattr(own, name)]
    return " ".join([settings.algo, *(f"{name}={getattr(settings, name)}" for name in differing)])


def read(path: Path = PHASES) -> list[Phase]:
    """Read all rows; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    kinds = (str, str, int, str, int, float, float, float)
    return [Phase(*(kind(cell) for kind, cell in zip(kinds, row, strict=True))) for row in rows[1:]]


def keep(paths: Iterable[Path], folder: Path = EVIDENCE) -> list[Run]:
    """Add the figures of finished runs that aren't in the tables yet.

    :return: the runs added
    """
    phases, insides = folder / PHASES.name, folder / INSIDES.name
    had, added = {row.run for row in read(phases)}, []
    for path in paths:
        record = Record.read(path)
        run = Run.of(record.settings)
        if run in had or record.total_steps < record.settings.total_timesteps:
            continue
        had.add(run)
        added.append(run)
        _append(phases, HEADING, [_rounded(row) for row in phase_rows(record)])
        _append(insides, INSIDE_HEADING, [_rounded((*run, *row)) for row in inside_rows(record)])
    return added


def phase_rows(record: Record) -> list[Phase]:
    """The rows of ``phases.csv`` of a finished run."""
    run = Run.of(record.settings)
    return [
        Phase(*run, phase, record.friction(phase), record.phase_end(phase), record.phase_end(phase, DISTANCE))
        for phase in range(n_phases(record.settings))
    ]


def inside_rows(record: Record) -> list[tuple[float, ...]]:
    """The rows of ``insides.csv`` of a finished run, without what says whose they are."""
    columns = record.columns | _columns(record.folder.progress, ("train/std", "train/approx_kl"))
    names = ["train/std", "train/approx_kl"]
    names += [f"plasticity/{n}.1/{m}" for n in NETWORKS for m in ("dead_share", "effective_rank")]
    found = []
    for phase in range(n_phases(record.settings)):
        (rows,) = np.nonzero((record.phases == phase) & (record.weights > 0))
        at_change = record.mean_return(rows[:1])
        end = record.rows_at_end(phase)
        found.append(
            (phase, at_change, *(_mean(columns[name][end]) if name in columns else math.nan for name in names))
        )
    return found


def n_phases(settings: Settings) -> int:
    """How many phases a run has."""
    return math.ceil(settings.total_timesteps / settings.change_every)


def _columns(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    heading, *rows = read_columns(path, names.__contains__)
    cells = np.array([[float(cell or "nan") for cell in row] for row in rows])
    return dict(zip(heading, cells.T, strict=True))


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else math.nan


def _rounded(row: Iterable[object]) -> list[object]:
    return [f"{value:.5g}" if isinstance(value, float) else value for value in row]


def _append(path: Path, heading: list[str], rows: list[list[object]]) -> None:
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([heading, *rows] if is_new else rows)
