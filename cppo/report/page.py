"""The report as one HTML page that opens from disk: data, script, style and films are all inside it."""

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cppo.files import MARK, check_ours, replacing
from cppo.report.comparison import Comparison, Method, drawn
from cppo.report.figures import COLORS
from cppo.report.insides import measures, title
from cppo.report.records import TASK
from cppo.statistics import FEW, Estimate


class Film(NamedTuple):
    """A film to be shown."""

    method: str
    caption: str
    path: Path


def write_page(
    path: Path, comparison: Comparison, films: Sequence[Film] = (), left_out: Mapping[str, str] | None = None
) -> None:
    """Write the page.

    :param left_out: runs that aren't part of it, with the reason
    """
    parts = {
        "/*style*/": _part("report.css"),
        "/*data*/": _embedded(page_data(comparison, films, left_out or {})),
        "/*script*/": _part("charts.js") + _part("report.js"),
        "<!--mark-->": MARK,
        "<!--title-->": html.escape(f"{comparison.task['env']}, {comparison.task['protocol']}"),
    }
    page = re.sub("|".join(map(re.escape, parts)), lambda place: parts[place.group()], _part("report.html"))
    check_ours(path)
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")


def page_data(comparison: Comparison, films: Sequence[Film], left_out: Mapping[str, str]) -> dict[str, Any]:
    """Everything the page's script draws, as plain values."""
    keys = (key for method in comparison.methods for key in method.insides)
    return {
        "task": {name: value for name, value in comparison.task.items() if value is not None},
        "few": FEW,
        "phases": [phase._asdict() for phase in comparison.phases],
        "steps": _rounded(comparison.steps),
        "stepsOfInsides": _rounded(comparison.steps_of_insides),
        "methods": [_method(number, method) for number, method in enumerate(comparison.methods)],
        "superiority": [
            {"ours": ours, "theirs": theirs, "estimate": _estimate(estimate)}
            for (ours, theirs), estimate in comparison.superiority.items()
        ],
        "measures": [
            {"name": measure, "title": title(measure), "layers": layers} for measure, layers in measures(keys).items()
        ],
        "films": [{"method": film.method, "caption": film.caption, "source": _data_uri(film.path)} for film in films],
        "notes": comparison.unfinished + comparison.explanation,
        "leftOut": [f"{name}: {reason}" for name, reason in left_out.items()],
    }


def _method(number: int, method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "color": number % len(COLORS),
        "dashed": number >= len(COLORS),
        "label": method.label,
        "runs": [[record.name, str(record.settings.seed), record.command] for record in method.records],
        "settings": method_settings(method),
        "curve": _band(method.curve),
        "curves": [_rounded(curve) for curve in method.curves],
        "phaseEnds": [_rounded(ends) for ends in method.phase_ends],
        "phases": [_estimate(estimate) for estimate in method.phases],
        "allPhases": _estimate(method.all_phases),
        "last": _estimate(method.last),
        "lastPart": _rounded(method.last_part),
        "insides": {"|".join(key): _band(curve) for key, curve in method.insides.items()},
    }


def method_settings(method: Method) -> list[tuple[str, str]]:
    """What the runs of a method were trained with: settings, and versions of the packages.

    Where they differ, in what doesn't make another method, all values are named.
    """
    told = [record.versions | record.settings.as_dict() for record in method.records]
    names = [name for name in dict.fromkeys(name for each in told for name in each) if name not in TASK]
    values = {name: list(dict.fromkeys(_word(each.get(name)) for each in told)) for name in names}
    return [(name, ", ".join(words)) for name, words in values.items() if words != ["None"]]


def _word(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _band(curve: Sequence[Estimate | None]) -> dict[str, list[float | None]]:
    """A curve, its interval and the number of its runs as lists; null where nothing is drawn."""
    points = drawn(curve)
    return {name: _rounded([getattr(point, name, None) for point in points]) for name in Estimate._fields}


def _estimate(estimate: Estimate | None) -> list[float | None] | None:
    return None if estimate is None else _rounded(estimate)


def _rounded(values: Any) -> list[float | None]:
    """Five significant digits; null for what isn't a number, which JSON doesn't know."""
    numbers = [float("nan") if value is None else float(value) for value in values]
    return [float(f"{number:.5g}") if np.isfinite(number) else None for number in numbers]


def _data_uri(path: Path) -> str:
    return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _embedded(data: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _part(name: str) -> str:
    return resources.files("cppo.report").joinpath("assets").joinpath(name).read_text(encoding="utf-8")
