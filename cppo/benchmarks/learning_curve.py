"""A measure of several seeds in the course of time."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cppo.benchmarks.problem import Row
from cppo.statistics import Estimate, estimate_mean


class Curve(NamedTuple):
    """A measure over time.

    :param when: shape (times,)
    :param values: shape (seeds, times); NaN where a seed has no value
    """

    when: NDArray[np.float64]
    values: NDArray[np.float64]

    def at(self, place: int) -> Estimate:
        """The mean over seeds at one of the times."""
        return estimate_mean(self.values[:, place])

    def best(self, higher_is_better: bool) -> int:
        """The place of the best mean."""
        means = self.values.mean(axis=0)
        return int(np.nanargmax(means if higher_is_better else -means)) if np.isfinite(means).any() else 0


def curve(rows: Sequence[Row], when: str, measure: str, bin_width: int = 1) -> Curve:
    """Lay rows out by seed and time.

    :param rows: of seeds that have rows at the same times
    :param when: the column that counts time
    :param measure: the column
    :param bin_width: how many successive times are averaged; times left over at the end are dropped
    :raises ValueError: if there are fewer
    """
    times = sorted({row[when] for row in rows})
    seeds = sorted({row["seed"] for row in rows})
    table = np.full((len(seeds), len(times)), np.nan)
    place = {time: number for number, time in enumerate(times)}
    of_seed = {seed: number for number, seed in enumerate(seeds)}
    for row in rows:
        table[of_seed[row["seed"]], place[row[when]]] = row[measure]
    if bin_width > len(times):
        raise ValueError(f"--bin-width {bin_width} is not allowed: there are results of {len(times)} times")
    whole = len(times) // bin_width * bin_width
    binned = table[:, :whole].reshape(len(seeds), -1, bin_width).mean(axis=2)
    return Curve(np.array(times[:whole]).reshape(-1, bin_width)[:, -1], binned)
