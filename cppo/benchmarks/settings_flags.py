"""The command's flags, made from the settings of a problem."""

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from cppo.benchmarks.learner_settings import LearnerSettings

ONE_VALUE = ("seeds", "first_seed")
"""Settings of which a sweep takes one value too."""


@dataclasses.dataclass(frozen=True)
class PlotFlags:
    """Flags of ``plot``."""

    results: Path
    """Folder of the results; table and figure go there."""
    bin_width: int = 1
    """Rows of progress.csv averaged into one point."""
    only: tuple[str, ...] = ()
    """Results to show, as step-size=0.01,0.003."""
    units: bool = True
    """Draw what becomes of the units too, below the measure."""
    name: str = "results"
    """Name of the files: NAME.md and NAME.png."""

    def __post_init__(self) -> None:
        if self.bin_width < 1:
            raise ValueError(f"--bin-width {self.bin_width} is not allowed: it must be at least 1")


def flags_of(kind: type[LearnerSettings], is_sweep: bool) -> type[Any]:
    """The flags of a run: the settings, in a sweep with several values each, and where results go."""
    hints, documents = get_type_hints(kind), _documents(kind)
    fields: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(kind):
        hint, default = hints[field.name], field.default
        if is_sweep and field.name not in ONE_VALUE:
            hint, default = tuple.__class_getitem__((hint, ...)), (default,)
        fields.append((field.name, Annotated[hint, tyro.conf.arg(help=documents[field.name])], default))
    output = Annotated[Path | None, tyro.conf.arg(help="Folder of the results; by default runs/PROBLEM.")]
    jobs = Annotated[int, tyro.conf.arg(help="Processes that work at once.")]
    return dataclasses.make_dataclass("Flags", [*fields, ("output", output, None), ("jobs", jobs, 1)], frozen=True)


def settings_of(kind: type[LearnerSettings], given: Any, is_sweep: bool) -> list[LearnerSettings]:
    """The settings that flags ask for, complete; in a sweep each combination once.

    :param kind: the problem's settings
    :param given: an object of ``flags_of``
    :param is_sweep: whether values are lists of values
    :raises ValueError: for a value out of range, or one that has no effect with any learner asked for
    """
    if given.jobs < 1:
        raise ValueError(f"--jobs {given.jobs} is not allowed: it must be at least 1")
    names = [field.name for field in dataclasses.fields(kind)]
    if not is_sweep:
        return [kind(**{name: getattr(given, name) for name in names}).resolved()]
    values = [(value,) if name in ONE_VALUE else value for name in names for value in [getattr(given, name)]]
    combined = [kind(**dict(zip(names, each, strict=True))) for each in itertools.product(*values)]
    return list(dict.fromkeys(_without_idle(each, given.learner).resolved() for each in combined))


def _without_idle(settings: LearnerSettings, learners: Sequence[str]) -> LearnerSettings:
    """Drop the values that have no effect with this learner, if they have with another one of the sweep."""
    presets = [settings.PRESETS.get(learner, {}) for learner in learners]
    used = {name for preset in presets for name in preset} - set(settings.PRESETS.get(settings.learner, {}))
    idle: dict[str, Any] = dict.fromkeys(used)
    return dataclasses.replace(settings, **idle)


def _documents(kind: type) -> dict[str, str]:
    """Read the docstrings of the fields of a dataclass and its bases."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in itertools.pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                found[field.target.id] = ast.literal_eval(below.value)
    return found
