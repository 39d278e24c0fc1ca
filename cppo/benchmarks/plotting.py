"""A table and figures of the results in a folder."""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cppo.benchmarks.learner_settings import LearnerSettings
from cppo.benchmarks.learning_curve import Curve, curve
from cppo.benchmarks.problem import Problem, Row
from cppo.benchmarks.results_folder import ResultFolder
from cppo.files import replacing
from cppo.reading import UnreadableError
from cppo.settings.limits import flag
from cppo.statistics import Estimate

INTERNALS = ("dead_units", "weight_magnitude", "effective_rank")


class Result(NamedTuple):
    """The results of a setting."""

    settings: LearnerSettings
    rows: list[Row]


def read_results(problem: Problem[Any], root: Path) -> list[Result]:
    """Read what is done of a problem's settings in a folder; what can't be read is left out with a warning.

    :raises FileNotFoundError: if there are no results
    """
    results = []
    for path in sorted(root.glob("*/config.yaml")):
        try:
            results += _results(problem, ResultFolder(path.parent))
        except (OSError, ValueError) as error:
            warnings.warn(f"{path.parent} is left out: {error}", stacklevel=2)
    if not results:
        raise FileNotFoundError(f"{root} holds no results of {problem.name}; `run` or `sweep` makes some")
    learners = list(problem.settings.PRESETS)
    return sorted(
        results, key=lambda result: (learners.index(result.settings.learner), -(result.settings.step_size or 0))
    )


def _results(problem: Problem[Any], folder: ResultFolder) -> list[Result]:
    """The results in a folder; none if they are another problem's, or no seed is done."""
    if folder.record().get("problem") != problem.name:
        return []
    settings = folder.settings_of(problem.settings)
    rows = folder.results(settings.n_rows)
    missing = {problem.when, problem.measure, *INTERNALS}.difference(*rows[:1])
    if rows and missing:
        raise UnreadableError(folder.progress, f"it has no column {min(missing)}")
    return [Result(settings, rows)] if rows else []


def differing(results: Sequence[Result]) -> list[str]:
    """The learner and the settings in which results that have them differ; seeds and yes or no apart."""
    names = [field.name for field in dataclasses.fields(results[0].settings)]
    names = [name for name in names if name not in ("seeds", "first_seed", "learner")]
    found = {name: {getattr(result.settings, name) for result in results} for name in names}
    told = {name: {one for one in found[name] if one is not None and not isinstance(one, bool)} for name in names}
    return ["learner", *(name for name in names if len(told[name]) > 1)]


def table(problem: Problem[Any], results: Sequence[Result], bin_width: int) -> str:
    """A Markdown table: each setting's measure at the start, at its best and at the end, and the units at the end."""
    names = differing(results)
    columns = [*(name.replace("_", " ") for name in names), "seeds", f"{problem.measure}: start", "best", "at", "end"]
    columns += [f"{name.replace('_', ' ')} at the end" for name in INTERNALS]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for result in results:
        main = curve(result.rows, problem.when, problem.measure, bin_width)
        best = main.best(problem.higher_is_better)
        cells = [_word(getattr(result.settings, name)) for name in names]
        cells += [str(len(main.values)), _plus_minus(main.at(0)), _plus_minus(main.at(best))]
        cells += [f"{main.when[best]:,.0f}", _plus_minus(main.at(-1))]
        cells += [f"{curve(result.rows, problem.when, name, bin_width).at(-1).value:.3g}" for name in INTERNALS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _word(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _plus_minus(estimate: Estimate) -> str:
    half = math.nan if estimate.high is None else estimate.high - estimate.value
    return f"{estimate.value:.3g}" + ("" if math.isnan(half) else f" ± {half:.2g}")


def draw(problem: Problem[Any], results: Sequence[Result], path: Path, bin_width: int, units: bool = True) -> None:
    """Draw the measure, a panel for each of the problem's panels, and below it what becomes of the units.

    :param problem: the problem
    :param results: of its settings
    :param path: the image, its ending says which kind
    :param bin_width: how many successive times are averaged
    :param units: whether to draw what becomes of them, too
    :raises ImportError: without matplotlib
    """
    try:
        from matplotlib.figure import Figure  # takes half a second to import, and is an extra
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'cppo[report]'") from error

    panels = list(dict.fromkeys(panel for result in results if (panel := _panel(problem, result)) is not None))
    panels = panels or [()]
    columns = (problem.measure, *INTERNALS) if units else (problem.measure,)
    figure = Figure(figsize=(4.6 * len(panels), 2.6 * len(columns)), layout="constrained")
    axes = figure.subplots(len(columns), len(panels), squeeze=False, sharex=True, sharey="row")
    for across, panel in enumerate(panels):
        members = [result for result in results if _belongs(problem, result, panel)]
        names = [name for name in differing(members) if name not in problem.panels]
        for down, column in enumerate(columns):
            for number, result in enumerate(members):
                label = ", ".join(filter(None, (_word(getattr(result.settings, name)) for name in names)))
                line = curve(result.rows, problem.when, column, bin_width)
                _line(axes[down, across], line, f"C{number % 10}", label)
        axes[0, across].set_title(", ".join(map(_word, panel)))
        axes[-1, across].set_xlabel(problem.when)
        axes[0, across].legend(fontsize="x-small")
    for down, column in enumerate(columns):
        axes[down, 0].set_ylabel(column.replace("_", " "))
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110)


def _panel(problem: Problem[Any], result: Result) -> tuple[object, ...] | None:
    """Which panel a result is drawn in; None for a learner without one of the settings, which is drawn in several."""
    values = tuple(getattr(result.settings, name) for name in problem.panels)
    return None if None in values else values


def _belongs(problem: Problem[Any], result: Result, panel: Sequence[object]) -> bool:
    values = [getattr(result.settings, name) for name in problem.panels]
    return all(value is None or value == of_panel for value, of_panel in zip(values, panel, strict=False))


def _line(axes: Any, line: Curve, color: str, label: str) -> None:
    """The mean over seeds with its 95 % interval."""
    estimates = [line.at(place) for place in range(len(line.when))]
    axes.plot(line.when, [each.value for each in estimates], color=color, label=label, linewidth=1.2)
    if estimates[0].low is not None:
        lows, highs = [each.low for each in estimates], [each.high for each in estimates]
        axes.fill_between(line.when, lows, highs, color=color, alpha=0.2, linewidth=0)


def choose(results: Sequence[Result], only: Sequence[str]) -> list[Result]:
    """Keep the results of some settings, and those of learners with which the setting has no effect.

    :param results: all of them
    :param only: conditions of the form ``name=value``, or ``name=value,value``
    :raises ValueError: for something else, and if nothing is left
    """
    kept = list(results)
    for condition in only:
        name, _, values = condition.partition("=")
        name = name.replace("-", "_")
        if not values or not hasattr(results[0].settings, name):
            raise ValueError(
                f"--only {condition!r} is not allowed: write a setting and its values, as step-size=0.01,0.1"
            )
        kept = [result for result in kept if _word(getattr(result.settings, name)) in ["", *values.split(",")]]
        if not kept:
            raise ValueError(f"--only {condition!r} leaves nothing: no results have {flag(name)} {values}")
    return kept
