"""Records that are kept while a module's data is followed: units, their readers, their places in tensors."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from cppo.layers.hidden_layer import UnitModule


@dataclass(frozen=True)
class Step:
    """One function that a unit's features pass; two steps are equal if they do the same.

    :param name: of the function
    :param settings: what else it was given
    :param what: the module or function itself
    """

    name: str
    settings: tuple[Any, ...] = ()
    what: Any = field(default=None, compare=False)


Path = tuple[Step, ...]
"""All functions between a unit's module and a reader, in order."""


class Reading(NamedTuple):
    """How a module reads the units of one layer: its inputs, and which function of the units they are."""

    module: UnitModule
    start: int
    block: int
    path: Path


LEAVES = "its units leave the network"
"""The reason for units that a module returns."""


class LostSight(str):
    """The reason for units that go into a function which isn't followed: they may be hidden ones or an output."""


@dataclass
class TracedUnits:
    """The units that one module computes, as far as they have been followed.

    :param incoming: the module
    :param name: its name
    :param number: of the module, in the order in which they ran
    :param readers: the modules that read the units
    :param left_out: why the units can't be replaced, as far as is known
    """

    incoming: UnitModule
    name: str
    number: int
    readers: list[Reading] = field(default_factory=list)
    left_out: str | None = None

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.incoming.weight.shape[0]

    def leave_out(self, reason: str) -> None:
        """Note why these units can't be replaced; the first reason found stays."""
        self.left_out = self.left_out or reason

    @property
    def obstacle(self) -> str | None:
        """Why these units can't be replaced; None if they can."""
        if not self.readers:
            if isinstance(self.left_out, LostSight):
                return f"output of the network, as far as it can be followed ({self.left_out})"
            return "output of the network" if self.left_out == LEAVES else self.left_out or "nothing reads it"
        if self.left_out is not None:
            return self.left_out
        paths = list(dict.fromkeys(reading.path for reading in self.readers))
        if len(paths) == 1:
            return None
        seen = "; ".join(", ".join(step.name for step in path) or "the units themselves" for path in paths)
        return f"its readers see different functions of its units, so no one mean activation serves all ({seen})"


def merge(traces: Iterable[Iterable[TracedUnits]]) -> list[TracedUnits]:
    """Join what several runs found of the same units: every reader counts, and every obstacle."""
    merged: dict[nn.Module, TracedUnits] = {}
    for units in (units for traced in traces for units in traced):
        first = merged.setdefault(units.incoming, units)
        if first is not units:
            first.readers += [reader for reader in units.readers if reader not in first.readers]
            first.left_out = first.left_out or units.left_out
    return list(merged.values())


@dataclass
class Located:
    """Where units lie in a tensor. Holding the tensor keeps its id its own.

    :param tensor: the tensor
    :param labels: of its shape, see ``cppo.layers.labels``
    :param paths: the functions passed so far, by number of the layer
    """

    tensor: Tensor
    labels: Tensor
    paths: dict[int, Path]


@dataclass
class Call:
    """A call of a torch function.

    :param func: the function
    :param name: its name, without underscores before and after
    :param args: what it was given
    :param kwargs: what it was given by name
    :param given: the same, flat
    :param outputs: the tensors it returned
    :param sources: those of the tensors it was given that hold hidden units
    :param what: the module whose only work the function is, or the function
    """

    func: Callable
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    given: list[Any]
    outputs: list[Tensor]
    sources: list[Located]
    what: Any


NEVER_RAN = "it did not run by itself when the network was traced"
"""The reason for layers that were not traced."""


class LeftOut(NamedTuple):
    """A layer whose units are never replaced.

    :param name: its name in the module
    :param n_units: how many units it has, where that can be told
    :param reason: why they stay
    :param module: the layer
    """

    name: str
    n_units: int | None
    reason: str
    module: nn.Module
