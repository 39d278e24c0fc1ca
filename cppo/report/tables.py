"""The figures of a comparison as CSV files, and the one table for the terminal."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cppo.command_line import aligned
from cppo.files import replacing
from cppo.report.comparison import Comparison, Method
from cppo.statistics import Estimate

Row = Sequence[Any]
INTERVAL = ("iqm", "low", "high")


def write_tables(folder: Path, comparison: Comparison) -> list[Path]:
    """Write all CSV files.

    :return: the files: ``summary``, ``superiority``, ``phases`` (by run), ``curve``, ``insides``
    """
    tables = {
        "summary": (("method", "score", "runs", *INTERVAL), _summary(comparison)),
        "superiority": (("method", "over", "probability", "low", "high"), _superiority(comparison)),
        "phases": (("method", "run", "seed", "phase", "friction", "return_at_end"), _phases(comparison)),
        "curve": (("method", "step", *INTERVAL), _curves(comparison)),
        "insides": (("method", "measure", "layer", "step", *INTERVAL), _insides(comparison)),
    }
    return [_write(folder / f"{name}.csv", heading, rows) for name, (heading, rows) in tables.items()]


def text(comparison: Comparison) -> str:
    """The aggregates as text, one method a line."""
    rows: list[tuple[str, ...]] = [("method", "runs", "last third of the steps", "ends of all phases")]
    for method in comparison.methods:
        rows.append((method.name, str(len(method.records)), str(method.last or "-"), str(method.all_phases or "-")))
    return aligned(rows, n_left=4)


def scores(method: Method) -> Iterator[tuple[str, int, Estimate | None]]:
    """Name, number of runs and estimate of each aggregate of a method."""
    done = ~np.isnan(method.phase_ends)
    yield "last third of the steps", int((~np.isnan(method.last_part)).sum()), method.last
    yield "ends of all phases", int(done.all(axis=1).sum()), method.all_phases
    for number, estimate in enumerate(method.phases):
        yield f"end of phase {number}", int(done[:, number].sum()), estimate


def _summary(comparison: Comparison) -> Iterator[Row]:
    for method in comparison.methods:
        for score, runs, estimate in scores(method):
            yield (method.name, score, runs, *_plain(estimate))


def _superiority(comparison: Comparison) -> Iterator[Row]:
    for (ours, theirs), estimate in comparison.superiority.items():
        yield (ours, theirs, *_plain(estimate))


def _phases(comparison: Comparison) -> Iterator[Row]:
    for method in comparison.methods:
        for record, ends in zip(method.records, method.phase_ends, strict=True):
            for phase, value in zip(comparison.phases, ends, strict=True):
                friction = record.friction(phase.number)
                yield method.name, record.name, record.settings.seed, phase.number, friction, _number(value)


def _curves(comparison: Comparison) -> Iterator[Row]:
    for method in comparison.methods:
        for step, estimate in zip(comparison.steps, method.curve, strict=True):
            yield (method.name, round(step), *_plain(estimate))


def _insides(comparison: Comparison) -> Iterator[Row]:
    for method in comparison.methods:
        for (measure, layer), curve in method.insides.items():
            for step, estimate in zip(comparison.steps_of_insides, curve, strict=True):
                yield (method.name, measure, layer, round(step), *_plain(estimate))


def _plain(estimate: Estimate | None) -> tuple[Any, ...]:
    return ("", "", "") if estimate is None else tuple(_number(value) for value in estimate)


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.6g}"


def _write(path: Path, heading: Row, rows: Iterable[Row]) -> Path:
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(heading)
        writer.writerows(rows)
    return path
