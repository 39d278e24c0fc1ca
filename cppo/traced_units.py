"""What is noted while a module's data is followed: its units, their readers, and where units lie in tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from cppo.hidden_layers import UnitModule


@dataclass(frozen=True)
class Step:
    """One function that a unit's features pass; two are the same if they do the same.

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


@dataclass
class TracedUnits:
    """What is known so far of the units one module computes."""

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
        """These units can't be replaced; keep the first reason found."""
        self.left_out = self.left_out or reason

    @property
    def obstacle(self) -> str | None:
        """Why these units can't be replaced; None if they can."""
        if self.left_out is not None or not self.readers:
            return self.left_out or "nothing reads it"
        paths = list(dict.fromkeys(reading.path for reading in self.readers))
        if len(paths) == 1:
            return None
        seen = "; ".join(", ".join(step.name for step in path) or "the units themselves" for path in paths)
        return f"its readers see different functions of its units, so no one mean activation serves all ({seen})"


@dataclass
class Located:
    """Where units lie in a tensor. Holding the tensor keeps its id its own.

    :param tensor: the tensor
    :param labels: of its shape, see ``cppo.labels``
    :param paths: the functions passed so far, by number of the layer
    """

    tensor: Tensor
    labels: Tensor
    paths: dict[int, Path]


@dataclass
class Call:
    """A call of a torch function that was given hidden units."""

    func: Callable
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Tensor]
    sources: list[Located]


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
