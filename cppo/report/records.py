"""Reads what runs have logged: returns by step and phase, and the curves of plasticity."""

from __future__ import annotations

import array
import dataclasses
import itertools
import math
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cppo.reading import one_line, read_columns, shown
from cppo.report.trained_agent import friction_schedule, phase_steps
from cppo.runs.folder import RunFolder
from cppo.settings.presets import METHODS
from cppo.settings.settings import Settings
from cppo.training.progress import END_OF_PHASE

STEP, PHASE = "time/total_timesteps", "environment/phase"
RETURN, DISTANCE, ENDED = "episodes/return", "episodes/distance", "episodes/ended"
FIGURES = (STEP, RETURN, DISTANCE, ENDED, PHASE)
GROUPS = {"plasticity": "plasticity", "cbp": "continual backpropagation"}
"""Of the figures that tell what is inside the networks."""
ROWS_AT_ONCE = 4096
TASK = ("env", "protocol", "total_timesteps", "change_every", "friction_range", "frictions", "change_at")
"""The settings in which all runs of a report agree."""
NOT_METHOD = (
    *TASK,
    "algo",
    "seed",
    "schedule_seed",
    "processes",
    "restart_workers",
    "device",
    "torch_threads",
    "update",
    "checkpoint_every",
    "keep_checkpoints",
    "plasticity_every",
)
"""The settings that don't make another method: runs that differ in others only in these are averaged."""


@dataclass(frozen=True)
class Record:
    """A run's figures.

    :param columns: of ``progress.csv`` those that a report shows; one value a row, NaN where a row has none
    :param versions: of the packages it was made with
    :param command: what was typed
    """

    folder: RunFolder
    settings: Settings
    columns: dict[str, np.ndarray]
    versions: dict[str, str]
    command: str

    @classmethod
    def read(cls, path: Path, insides: bool = True) -> Record:
        """Read a run; rows that aren't whole are left out.

        :param insides: whether to read what tells of the networks, the largest part by far
        :raises OSError: if there is no run
        :raises ValueError: if its files can't be read, or tell no returns
        """
        folder = RunFolder(path)
        settings = folder.settings()
        try:
            columns = _columns(folder.progress, insides)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{folder.progress} is missing: nothing was trained yet") from error
        if not len(columns.get(STEP, ())):
            raise ValueError(f"{folder.progress} holds no row with {STEP}: nothing was trained yet, or it is not ours")
        if (np.diff(columns[STEP]) <= 0).any():
            raise ValueError(f"{folder.progress} is no table of a run: its rows are out of order")
        if ENDED not in columns or not np.isfinite(columns.get(RETURN, np.array(np.nan))).any():
            raise ValueError(f"{folder.progress} tells no {RETURN}: no episode has ended, or an older version wrote it")
        record = folder.record()
        versions = {one_line(name): one_line(value) for name, value in (record.get("versions") or {}).items()}
        return cls(folder, settings, columns, versions, one_line(shlex.join(map(str, record.get("command") or []))))

    @property
    def name(self) -> str:
        """How the run is called."""
        return shown(str(self.folder.path))

    @property
    def steps(self) -> np.ndarray:
        """Environment steps done at each row."""
        return self.columns[STEP]

    @property
    def total_steps(self) -> int:
        """Environment steps done."""
        return int(self.steps.max())

    @cached_property
    def phases(self) -> np.ndarray:
        """Number of the phase of each row; 0 throughout where the ground doesn't change."""
        return np.nan_to_num(self.columns.get(PHASE, np.zeros(len(self.steps))), nan=-1).astype(int)

    def friction(self, phase: int) -> float | None:
        """Ground friction of a phase; None without slippery ground."""
        return friction_schedule(self.settings).friction(phase) if self.settings.is_slippery else None

    @cached_property
    def weights(self) -> np.ndarray:
        """How many episodes the return of each row is the mean of; 0 where it has none."""
        return np.where(np.isfinite(self.columns[RETURN]), np.nan_to_num(self.columns[ENDED]), 0.0)

    def mean_return(self, rows: np.ndarray, figure: str = RETURN) -> float:
        """Mean of the returns of all episodes that ended in some rows, each counted once.

        :param figure: the column; of the distances walked, ``DISTANCE``
        :return: NaN if no episode ended, or the run doesn't tell
        """
        weights = self.weights[rows]
        if figure not in self.columns or not weights.any():
            return math.nan
        return float(np.average(np.nan_to_num(self.columns[figure][rows]), weights=weights))

    def phase_end(self, phase: int, figure: str = RETURN) -> float:
        """Mean return of all episodes in the last tenth of a phase's steps, in its last rollout at least.

        :param figure: the column; of the distances walked, ``DISTANCE``
        :return: NaN if the phase was not met, isn't done yet, or no episode ended there
        """
        rows = self.rows_at_end(phase)
        is_done = self.total_steps >= phase_steps(self.settings, phase)[1]
        return self.mean_return(rows, figure) if is_done else math.nan

    def rows_at_end(self, phase: int) -> np.ndarray:
        """Which rows are of the last tenth of a phase's steps."""
        rows, (start, end) = self.phases == phase, phase_steps(self.settings, phase)
        last = self.steps[rows].max(initial=0)
        return rows & (self.steps > last - max(1, END_OF_PHASE * (end - start)))


def task(settings: Settings) -> dict[str, Any]:
    """The settings in which all runs of a report agree."""
    return {name: getattr(settings, name) for name in TASK}


def methods(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Runs by method: the algorithm, and whatever setting differs between runs of the same algorithm.

    Methods come in the order of the presets, so that the same ones have the same colours in every report.
    """
    order = list(METHODS["nature"])
    records = sorted(records, key=lambda r: order.index(r.settings.algo) if r.settings.algo in order else len(order))
    algos = {record.settings.algo for record in records}
    differing = {algo: _differing(r.settings for r in records if r.settings.algo == algo) for algo in algos}
    found: dict[str, list[Record]] = {}
    for record in records:
        values = [f"{name}={getattr(record.settings, name)}" for name in differing[record.settings.algo]]
        found.setdefault(" ".join([record.settings.algo, *values]), []).append(record)
    return found


def distinct(records: Sequence[Record]) -> tuple[list[Record], dict[str, str]]:
    """The runs without repetitions: the same settings and seed give the same run, which must not count twice.

    :return: those, and for each other run the reason
    """
    kept: dict[str, Record] = {}
    left_out = {}
    for record in records:
        first = kept.setdefault(repr(record.settings), record)
        if first is not record:
            left_out[record.name] = f"it has the settings and the seed of {first.name}"
    return list(kept.values()), left_out


def same_task(records: Sequence[Record]) -> tuple[list[Record], dict[str, str]]:
    """The runs of the task that most of them share, the first one's in a draw.

    :return: those, and for each other run the reason why it can't be compared with them
    """
    if not records:
        return [], {}
    counted = Counter(repr(task(record.settings)) for record in records)
    chosen = next(r for r in records if counted[repr(task(r.settings))] == max(counted.values()))
    kept, left_out = [], {}
    for record in records:
        differences = [
            f"{name} is {value!r}, not {getattr(chosen.settings, name)!r}"
            for name, value in task(record.settings).items()
            if value != getattr(chosen.settings, name)
        ]
        if differences:
            left_out[record.name] = f"it is of another task than {chosen.name}: {'; '.join(differences)}"
        else:
            kept.append(record)
    return kept, left_out


def _differing(settings: Iterable[Settings]) -> list[str]:
    """Names of the settings of a method that aren't the same in all."""
    of_all = [dataclasses.asdict(each) for each in settings]
    return [name for name in of_all[0] if name not in NOT_METHOD and any(o[name] != of_all[0][name] for o in of_all)]


def _columns(path: Path, insides: bool) -> dict[str, np.ndarray]:
    """Read what a report shows, a part of the table at a time: a long run's table has gigabytes.

    What is inside the networks is kept in single precision.
    """
    rows = read_columns(path, lambda name: name in FIGURES or (insides and is_inside(name)))
    found = {name: array.array("d" if name in FIGURES else "f") for name in next(rows)}
    while part := list(itertools.islice(rows, ROWS_AT_ONCE)):
        for column, cells in zip(found.values(), zip(*part, strict=True), strict=True):
            column.extend(_numbers(cells))
    columns = {name: np.frombuffer(column, column.typecode) for name, column in found.items() if column}
    whole = np.isfinite(columns.get(STEP, np.empty(0)))
    return columns if whole.all() else {name: column[whole] for name, column in columns.items()}


def is_inside(name: str) -> bool:
    """Whether a column tells what is inside the networks: of plasticity or continual backpropagation."""
    return name.partition("/")[0].partition("_")[0] in GROUPS


def _numbers(cells: Sequence[str]) -> list[float]:
    """What stands in cells; NaN where it is no number."""
    try:
        return [float(cell) if cell else math.nan for cell in cells]
    except ValueError:
        return [value for cell in cells for value in (_numbers([cell]) if len(cells) > 1 else [math.nan])]
