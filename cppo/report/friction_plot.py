"""Draws the return of one agent, or several, against the ground friction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cppo.files import check_ours, check_writable
from cppo.report.evaluation import Result
from cppo.report.figures import ENDINGS, INK, STYLE, blank, check_matplotlib, line_style, save
from cppo.report.retention import Retention
from cppo.statistics import bootstrap_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Evaluation = tuple[Sequence[Result], Sequence[Retention]]


def check_plot(path: Path) -> None:
    """Find out before the work starts whether the picture can be made.

    :raises ValueError: if its name doesn't end in .png or .svg
    :raises OSError: if the file can't be written
    :raises gymnasium.error.DependencyNotInstalled: if matplotlib is missing
    """
    if path.suffix[1:] not in ENDINGS:
        raise ValueError(f"--plot {path} must end in .png or .svg")
    check_writable(path)
    check_ours(path)
    check_matplotlib("--plot")


def write_plot(path: Path, evaluations: Mapping[str, Evaluation]) -> None:
    """Draw the return at each friction: filled now, hollow at the end of training there, joined where both are."""
    import matplotlib
    from matplotlib.ticker import LogLocator, NullFormatter

    with matplotlib.rc_context(STYLE):
        figure, (axes,) = blank(7.5, 4.2)
        for number, (name, (results, retained)) in enumerate(evaluations.items()):
            _draw(axes, number, name, results, retained)
            if len(evaluations) == 1:
                _label(axes, results, retained)
        axes.plot([], [], "o", mfc="none", mec=INK, label="at the end of training there")
        axes.set(xscale="log", xlabel="ground friction", ylabel="return")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title("Return now: interquartile mean of the episodes, 95 % interval")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3)
        save(figure, [path])


def _draw(axes: Axes, number: int, name: str, results: Sequence[Result], retained: Sequence[Retention]) -> None:
    style = line_style(number)
    points = sorted(zip(results, retained, strict=True), key=lambda point: _x(point[0]))
    axes.plot([_x(r) for r, _ in points], [kept.now for _, kept in points], alpha=0.35, lw=1.2, **style)
    for place, (result, kept) in enumerate(points):
        x, low_high = _x(result), bootstrap_interval(result.returns)
        if low_high is not None:
            axes.plot([x, x], low_high, color=style["color"], lw=2)
        if kept.then is not None:
            axes.annotate("", (x, kept.now), (x, kept.then), arrowprops={"arrowstyle": "->", "color": "#9aa4b2"})
            axes.plot(x, kept.then, "o", mfc="white", mec=style["color"], ms=7)
        axes.plot(x, kept.now, "o", color=style["color"], ms=7, mec="white", label=name if place == 0 else None)


def _label(axes: Axes, results: Sequence[Result], retained: Sequence[Retention]) -> None:
    for result, kept in zip(results, retained, strict=True):
        if kept.verdict is not None:
            axes.annotate(kept.verdict, (_x(result), kept.now), xytext=(8, 0), textcoords="offset points",
                          fontsize=8, va="center")  # fmt: skip


def _x(result: Result) -> float:
    assert result.friction is not None
    return result.friction
