"""The figures of a comparison as CSV files, and the one table for the terminal."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cppo.command_line import aligned
from cppo.files import check_ours, replacing
from cppo.report.comparison import Comparison, Method
from cppo.statistics import Estimate

Row = Sequence[Any]
INTERVAL = ("iqm", "low", "high", "runs")
HEADINGS = {
    "summary": ("method", "score", *INTERVAL),
    "superiority": ("method", "over", "probability", "low", "high", "runs"),
    "phases": ("method", "run", "seed", "phase", "friction", "return_at_end"),
    "curve": ("method", "step", *INTERVAL),
    "insides": ("method", "measure", "layer", "step", *INTERVAL),
}
"""Of each table; runs: how many the estimate is of."""


def write_tables(folder: Path, comparison: Comparison) -> list[Path]:
    """Write all CSV files.

    :return: the files: ``summary``, ``superiority``, ``phases`` (by run), ``curve``, ``insides``
    """
    rows = {
        "summary": _summary(comparison),
        "superiority": _superiority(comparison),
        "phases": _phases(comparison),
        "curve": _curves(comparison),
        "insides": _insides(comparison),
    }
    return [_write(folder / f"{name}.csv", heading, rows[name]) for name, heading in HEADINGS.items()]


def check_tables(folder: Path) -> None:
    """Refuse a folder with tables that this program didn't write.

    :raises CannotWriteError: names the first
    """
    for name, heading in HEADINGS.items():
        check_ours(folder / f"{name}.csv", ",".join(heading))


def text(comparison: Comparison) -> str:
    """The aggregates as text, one method a line."""
    rows: list[tuple[str, ...]] = [("method", "runs", "last third of the steps", "ends of all phases")]
    for method in comparison.methods:
        rows.append((method.name, str(len(method.records)), str(method.last or "-"), str(method.all_phases or "-")))
    return aligned(rows, n_left=4)


def scores(method: Method) -> Iterator[tuple[str, Estimate | None]]:
    """Name and estimate of each aggregate of a method."""
    yield "last third of the steps", method.last
    yield "ends of all phases", method.all_phases
    for number, estimate in enumerate(method.phases):
        yield f"end of phase {number}", estimate


def _summary(comparison: Comparison) -> Iterator[Row]:
    for method in comparison.methods:
        for score, estimate in scores(method):
            yield (method.name, score, *_plain(estimate))


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
    return ("", "", "", 0) if estimate is None else (*map(_number, estimate[:3]), estimate.runs)


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.6g}"


def _write(path: Path, heading: Row, rows: Iterable[Row]) -> Path:
    check_ours(path, ",".join(heading))
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(heading)
        writer.writerows(rows)
    return path
