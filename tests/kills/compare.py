"""What two runs have in common: everything but the clock."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cppo.runs.checkpoints import Checkpoints

WALL_CLOCK = ("time/fps", "time/time_elapsed")


def figures(folder: Path) -> list[list[str]]:
    """The header and the rows of ``progress.csv``, but for the columns that tell the time."""
    with (folder / "progress.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    kept = [number for number, name in enumerate(header) if name not in WALL_CLOCK]
    return [[row[number] for number in kept] for row in [header, *rows]]


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All plain values of a nested state by name, but for what depends on the clock; arrays as their bytes."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key not in ("seconds", "t", "sha256"):  # the last one is of a table with times
                yield from leaves(each, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from leaves(each, f"{name}.{number}")
    else:
        array = np.asarray(value)
        yield name, (str(array.dtype), array.shape, array.tobytes() if array.dtype.kind in "biuf" else value)


def differences(folder: Path, other: Path) -> list[str]:
    """Name what differs between two runs, to the last bit: figures, weights, optimizer, ages, generators, worlds."""
    ours, theirs = figures(folder), figures(other)
    different = [f"progress.csv: {len(ours)} lines, not {len(theirs)}"] if len(ours) != len(theirs) else []
    different += [f"progress.csv: {a} {b}" for a, b in zip(ours, theirs, strict=False) if a != b]
    newest = [Checkpoints(each / "checkpoints").newest() for each in (folder, other)]
    states = [dict(leaves(each.state)) for each in newest if each is not None]
    if len(states) != 2 or len(states[0]) < 50:
        return [*different, "there are no checkpoints to compare"]
    return different + [
        name for name in states[0].keys() | states[1].keys() if states[0].get(name) != states[1].get(name)
    ]
