"""What the command needs to know of a problem."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cppo.benchmarks.learner_settings import LearnerSettings

Row = dict[str, float]
"""One line of ``progress.csv``: the seed, when, and the measures."""

Some = TypeVar("Some", bound=LearnerSettings)
Train = Callable[[Sequence[tuple[Some, int]]], Iterator[dict[int, list[Row]]]]
"""Trains runs given as settings and seed; whenever some are done, yields their rows by their place in the sequence."""


@dataclass(frozen=True)
class Problem(Generic[Some]):
    """A supervised problem.

    :param name: what the command calls it
    :param summary: what it is, in a line
    :param settings: the dataclass of its settings
    :param when: the column that counts time
    :param measure: the column that says how well a learner does
    :param higher_is_better: whether that is so of the measure
    :param panels: settings by which the figures are split into panels
    :param alike: what settings must share for their runs to train together
    :param train: trains runs that are all alike
    """

    name: str
    summary: str
    settings: type[Some]
    when: str
    measure: str
    higher_is_better: bool
    panels: tuple[str, ...]
    alike: Callable[[Some], Hashable]
    train: Train[Some]

    def groups(self, settings: Sequence[Some]) -> list[list[Some]]:
        """Sort settings into groups that train together."""
        found: dict[Any, list[Some]] = {}
        for each in settings:
            found.setdefault(self.alike(each), []).append(each)
        return list(found.values())


def one_by_one(train_one: Callable[[Some, int], list[Row]]) -> Train[Some]:
    """Make a function that trains runs one after another of one that trains a single run."""

    def train(runs: Sequence[tuple[Some, int]]) -> Iterator[dict[int, list[Row]]]:
        for place, (settings, seed) in enumerate(runs):
            yield {place: train_one(settings, seed)}

    return train
