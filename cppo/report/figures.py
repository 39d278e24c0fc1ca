"""The pictures of a comparison, as PNG and SVG, drawn by matplotlib (``pip install "cppo[report]"``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.error import DependencyNotInstalled

from cppo.files import MARK, check_ours, replacing
from cppo.report.comparison import Comparison, Phase, drawn
from cppo.report.insides import measures, title
from cppo.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#2a78d6", "#eb6834", "#1baf7a", "#4a3aa7", "#c98500", "#e34948", "#008300", "#d55181")
"""Told apart with the usual colour blindnesses too; they repeat, dashed, after the eighth method."""
INK, FAINT = "#3a3f47", "#d9dce1"
STYLE = {
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.size": 10,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "grid.color": "#eceef1",
    "legend.frameon": False,
    "svg.hashsalt": "cppo",  # the same figures give the same file
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
ENDINGS = ("png", "svg")


def write_figures(folder: Path, comparison: Comparison) -> list[Path]:
    """Write all pictures."""
    import matplotlib

    written = []
    with matplotlib.rc_context(STYLE):
        for name, figure in _figures(comparison):
            written += save(figure, [folder / f"{name}.{ending}" for ending in ENDINGS])
    return written


def check_matplotlib(what: str) -> None:
    """Refuse to draw without matplotlib.

    :raises gymnasium.error.DependencyNotInstalled: if it is missing
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise DependencyNotInstalled(f'{what} needs matplotlib: pip install "cppo[report]"') from error


def save(figure: Figure, paths: Sequence[Path]) -> list[Path]:
    """Write a picture under several names, in the format that the ending of each says.

    :raises CannotWriteError: if there is a file that this program didn't write
    """
    figure.draw_without_rendering()  # which lays it out; it needn't be done again for each
    figure.set_layout_engine("none")
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        check_ours(path)
        metadata = {"Creator": MARK, "Date": None} if path.suffix == ".svg" else {"Software": MARK}
        with replacing(path) as partial:
            figure.savefig(partial, dpi=150, metadata=metadata)
    return list(paths)


def blank(width: float, height: float, rows: int = 1, columns: int = 1, **kwargs: Any) -> tuple[Figure, list[Axes]]:
    """An empty picture and its panels, row by row."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **kwargs)
    return figure, list(panels.ravel())


def line_style(number: int) -> dict[str, Any]:
    """Colour and dashes of the method with a number."""
    return {"color": COLORS[number % len(COLORS)], "linestyle": "-" if number < len(COLORS) else "--"}


def _figures(comparison: Comparison) -> Iterator[tuple[str, Figure]]:
    yield "learning_curve", _learning_curve(comparison)
    if len(comparison.phases) > 1:
        yield "phases", _phase_ends(comparison)
    if any(method.last or method.all_phases for method in comparison.methods):
        yield "aggregates", _aggregates(comparison)
    if comparison.superiority:
        yield "superiority", _superiority(comparison)
    for measure, layers in measures(key for method in comparison.methods for key in method.insides).items():
        yield f"insides/{measure.replace('/', '_')}", _insides(comparison, measure, layers)


def _learning_curve(comparison: Comparison) -> Figure:
    figure, (axes,) = blank(9, 4.2)
    axes.set_title("Return of the training episodes: interquartile mean of the runs, 95 % interval", pad=20)
    for number, method in enumerate(comparison.methods):
        _curve(axes, comparison.steps, method.curve, number, method.label)
    _mark_phases(axes, comparison.phases)
    axes.set(xlabel="environment steps", ylabel="return", xlim=(0, comparison.phases[-1].end))
    axes.xaxis.set_major_formatter(_engineering())
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4)
    return figure


def _phase_ends(comparison: Comparison) -> Figure:
    figure, (axes,) = blank(9, 3.8)
    axes.set_title("Return at the end of each phase: runs as dots, interquartile mean and 95 % interval")
    width = 0.8 / len(comparison.methods)
    for number, method in enumerate(comparison.methods):
        style = line_style(number)
        for phase, estimate in enumerate(method.phases):
            x = phase + (number + 0.5) * width - 0.4
            axes.plot(
                [x] * len(method.records), method.phase_ends[:, phase], ".", color=style["color"], alpha=0.3, ms=5
            )
            if estimate is not None:
                _whisker(axes, x, estimate, style["color"], method.label if phase == 0 else None)
    axes.set_xticks(range(len(comparison.phases)), [_friction_label(phase) for phase in comparison.phases])
    axes.set(xlabel="phase, and its friction", ylabel="return")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4)
    return figure


def _aggregates(comparison: Comparison) -> Figure:
    names = [method.label for method in comparison.methods]
    figure, panels = blank(9, 1.1 + 0.42 * len(names), 1, 2, sharey=True)
    for axes, (heading, attribute) in zip(
        panels, {"Last third of the steps": "last", "Ends of all phases": "all_phases"}.items(), strict=True
    ):
        axes.set_title(heading)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        for number, method in enumerate(comparison.methods):
            estimate = getattr(method, attribute)
            if estimate is not None:
                color = line_style(number)["color"]
                low, high = _ends(estimate)
                axes.plot([low, high], [number, number], color=color, lw=9, alpha=0.3, solid_capstyle="butt")
                axes.plot(estimate.value, number, "|", color=color, ms=14, mew=3)
        axes.set_xlabel("return, interquartile mean and 95 % interval")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def _superiority(comparison: Comparison) -> Figure:
    labels = {method.name: method.label for method in comparison.methods if method.last is not None}
    names = list(labels)
    side = 2.2 + 0.95 * len(names)
    figure, (axes,) = blank(side + 0.6, side * 0.72)
    shares = np.full((len(names), len(names)), np.nan)
    for (ours, theirs), estimate in comparison.superiority.items():
        row, column = names.index(ours), names.index(theirs)
        shares[row, column] = estimate.value
        low, high = _ends(estimate)
        label = f"{estimate.value:.2f}\n" + (f"[{low:.2f}, {high:.2f}]" if estimate.low is not None else "")
        axes.text(column, row, label, ha="center", va="center", fontsize=9, color="#111111")
    axes.imshow(shares, cmap="RdBu", vmin=-0.7, vmax=1.7)  # pale ends, so that the figures can be read on them
    axes.grid(visible=False)
    axes.set_xticks(range(len(names)), labels.values(), rotation=20, ha="right")
    axes.set_yticks(range(len(names)), labels.values())
    axes.set_title("Probability that the row beats the column\n(return over the last third)")
    return figure


def _insides(comparison: Comparison, measure: str, layers: Sequence[str]) -> Figure:
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    figure, panels = blank(max(4.5, 2.9 * columns), 0.8 + 2.1 * rows, rows, columns, sharey=True, sharex=True)
    for axes in panels[len(layers) :]:
        axes.set_axis_off()
    for place, (axes, layer) in enumerate(zip(panels, layers, strict=False)):
        axes.set_title(layer, fontsize=10)
        axes.set_xlabel("environment steps" if place + columns >= len(layers) else "")
        for number, method in enumerate(comparison.methods):
            if (measure, layer) in method.insides:
                _curve(axes, comparison.steps_of_insides, method.insides[measure, layer], number, method.label)
        for phase in comparison.phases[1:]:
            axes.axvline(phase.start, color=FAINT, lw=0.8, zorder=0)
        axes.xaxis.set_major_formatter(_engineering())
    figure.supylabel(title(measure).partition(": ")[2], fontsize=10)
    figure.suptitle(title(measure), x=0.01, ha="left", fontsize=11)
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return figure


def _curve(axes: Axes, steps: np.ndarray, curve: Sequence[Estimate | None], number: int, label: str) -> None:
    points = drawn(curve)
    x = steps[[point is not None for point in points]]
    present = [point for point in points if point is not None]
    style = line_style(number)
    axes.plot(x, [estimate.value for estimate in present], lw=1.6, label=label, **style)
    ends = np.array([_ends(estimate) for estimate in present]).reshape(-1, 2)
    axes.fill_between(x, ends[:, 0], ends[:, 1], color=style["color"], alpha=0.16, lw=0)


def _whisker(axes: Axes, x: float, estimate: Estimate, color: str, label: str | None) -> None:
    low, high = _ends(estimate)
    axes.plot([x, x], [low, high], color=color, lw=2)
    axes.plot(x, estimate.value, "o", color=color, ms=6, mec="white", label=label)


def _ends(estimate: Estimate) -> tuple[float, float]:
    """The interval, of no width where there is none."""
    if estimate.low is None or estimate.high is None:
        return estimate.value, estimate.value
    return estimate.low, estimate.high


def _mark_phases(axes: Axes, phases: Sequence[Phase]) -> None:
    for phase in phases:
        if phase.start > 0:
            axes.axvline(phase.start, color=FAINT, lw=1, zorder=0)
        if phase.frictions:
            middle = (phase.start + phase.end) / 2
            axes.text(middle, 1.02, _frictions(phase), transform=axes.get_xaxis_transform(), ha="center", fontsize=8)
    if phases[0].frictions:
        axes.text(-0.01, 1.02, "friction", transform=axes.transAxes, ha="right", fontsize=8)


def _frictions(phase: Phase) -> str:
    low, high = phase.frictions[0], phase.frictions[-1]
    return f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"


def _friction_label(phase: Phase) -> str:
    return f"{phase.number}\n{_frictions(phase)}" if phase.frictions else str(phase.number)


def _engineering() -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")
