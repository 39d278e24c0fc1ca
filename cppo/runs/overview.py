"""Reads from the folders of runs how far they have come, also while they are trained."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cppo.command_line import aligned
from cppo.reading import ROW_BYTES, UnreadableError, one_line, opened
from cppo.runs.folder import RunFolder

TAIL_BYTES = 65_536
"""Of ``progress.csv``, read for its last row: a long run's table has megabytes, and there may be hundreds of runs."""

DEPTH = 3
"""Folders below the one named that are looked through for runs: a study, its grids, their runs."""


@dataclass(frozen=True)
class Overview:
    """A run at a glance; None where there is nothing to tell yet.

    :param state: "empty", "running", "stopped", "finished" or "failed"
    :param steps: environment steps of the last row of ``progress.csv``
    :param last_return: mean return of the last episodes
    :param updated: when the last row was written, in seconds since 1970
    """

    folder: RunFolder
    state: str
    steps: int
    total: int
    last_return: float | None
    friction: float | None
    updated: float | None

    @classmethod
    def read(cls, folder: RunFolder) -> Overview:
        """Read it from a run's folder, also while the run is at work.

        :raises OSError: if it is no run, or can't be read
        :raises ValueError: if its configuration can't be read
        """
        total = folder.settings().total_timesteps
        row = last_row(folder.progress)
        return cls(
            folder,
            folder.state(),
            int(row.get("time/total_timesteps", 0)),
            total,
            row.get("rollout/ep_rew_mean"),
            row.get("environment/friction"),
            folder.progress.stat().st_mtime if row else None,
        )

    def cells(self) -> tuple[str, str, str, str]:
        """State, steps, return and friction as text."""
        share = f"{self.steps:,} of {self.total:,}"
        return self.state, share, number(self.last_return, ".1f"), number(self.friction, ".4g")


def last_row(path: Path) -> dict[str, float]:
    """Read the figures of the last row of a table that another process may be writing to.

    :return: by column; empty without a whole row
    :raises UnreadableError: if it is no table
    """
    try:
        with opened(path) as file:
            header = file.readline(ROW_BYTES)
            size = file.seek(0, 2)
            file.seek(max(len(header), size - TAIL_BYTES))
            lines = file.read(TAIL_BYTES).decode(errors="replace").split("\n")
        names = _cells(header.decode(errors="replace").rstrip("\n"))
        for line in reversed(lines[:-1]):  # what comes after the last end of a line is still being written
            values = _cells(line)
            if line and len(values) == len(names):  # not cut off by the tail
                return _figures(names, values)
    except FileNotFoundError:
        pass
    except csv.Error as error:
        raise UnreadableError(path, error) from error
    return {}


def _cells(line: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r")]), [])


def _figures(names: Sequence[str], values: Sequence[str]) -> dict[str, float]:
    found = {}
    for name, value in zip(names, values, strict=True):
        try:
            found[name] = float(value)
        except ValueError:  # an empty cell, or no figure
            continue
    return {name: value for name, value in found.items() if math.isfinite(value)}


def find_runs(path: Path, unreadable: list[str], depth: int = DEPTH) -> Iterator[RunFolder]:
    """Find the runs in a folder and below it; a folder at the bottom that is no run is found too.

    :param unreadable: gets a line for each folder that can't be read
    """
    folder = RunFolder(path)
    try:
        is_run = folder.config.exists() or depth == 0
        below = [] if is_run else [child for child in path.iterdir() if child.is_dir() and child.name[0] != "."]
    except OSError as error:
        unreadable.append(one_line(f"{path} can't be read: {error.strerror}"))
        return
    if not below:
        yield folder
    for child in sorted(below):
        yield from find_runs(child, unreadable, depth - 1)


def listing(paths: Sequence[Path]) -> str:
    """List all runs in some folders, one line each; last those that can't be read, with the reason."""
    rows: list[tuple[str, ...]] = []
    bad: list[str] = []
    now = time.time()
    for path in paths:
        for folder in find_runs(path, bad):
            try:
                overview = Overview.read(folder)
                rows.append((str(folder.path), *overview.cells(), age(now, overview.updated)))
            except (OSError, ValueError) as error:
                bad.append(one_line(error))
    lines = [aligned([("run", "state", "steps", "return", "friction", "updated"), *rows])] if rows else []
    return "\n".join([*lines, *bad]) or "no runs"


def number(value: float | None, form: str) -> str:
    """Format a figure; ``-`` where there is none."""
    return "-" if value is None else format(value, form)


def age(now: float, then: float | None) -> str:
    """Write how long ago something was."""
    return "-" if then is None else f"{duration(now - then)} ago"


def duration(seconds: float) -> str:
    """Write a time in the largest unit that fits into it at least twice."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
