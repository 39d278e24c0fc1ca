"""Weights of new units drawn ahead, so that compiled learners get the ones ``ContinualBackprop`` would draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Draw = Callable[[int, torch.Generator], Tensor]
"""Draws the incoming weights of some new units, one after another from the generator."""


class DrawnAhead:
    """For each learner the incoming weights of its next new units.

    Uniform numbers come from torch's generator one by one, so that many units drawn at once are the same as those
    drawn one after another.

    :param draw: draws them
    :param seeds: of each learner's generator
    :param count: how many are kept ready for each
    """

    def __init__(self, draw: Draw, seeds: Sequence[int], count: int) -> None:
        self._draw = draw
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.rows: NDArray[np.float32] = np.stack([draw(count, each).numpy() for each in self._generators])
        self.used = np.zeros(len(seeds), np.int64)

    def refill(self) -> None:
        """Draw as many as were used."""
        for rows, generator, used in zip(self.rows, self._generators, self.used.tolist(), strict=True):
            if used:
                kept = len(rows) - used
                rows[:kept] = rows[used:].copy()
                rows[kept:] = self._draw(used, generator).numpy()
        self.used[:] = 0
