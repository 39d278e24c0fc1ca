"""Random numbers drawn ahead, so that compiled learners get the new weights that ``ContinualBackprop`` would draw."""

import math
from collections.abc import Sequence

import torch

MOST_NUMBERS = 2_000_000
"""Numbers that are kept ready for all learners together: 8 MB."""


class DrawnAhead:
    """For each learner the uniform numbers of which its next new units' weights are made.

    Torch's generator draws uniform numbers one by one, so that many drawn at once are those drawn one after another.

    :param seeds: of each learner's generator
    :param per_step: how many a learner takes in a step on average, at most
    :param at_once: how many a first replacement in every layer takes
    :param steps: after how many steps they will be drawn anew
    """

    def __init__(self, seeds: Sequence[int], per_step: float, at_once: int, steps: int) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.steps = min(steps, max(1, int(MOST_NUMBERS / len(seeds) / per_step))) if per_step else steps
        """After how many steps ``refill`` must be called: not too many numbers are kept."""
        count = math.ceil(per_step * self.steps) + at_once
        self.numbers = torch.stack([torch.empty(count).uniform_(generator=each) for each in self._generators]).numpy()
        self.used = torch.zeros(len(seeds), dtype=torch.int64).numpy()

    def refill(self) -> None:
        """Draw as many as were used."""
        for numbers, generator, used in zip(self.numbers, self._generators, self.used.tolist(), strict=True):
            if used:
                numbers[:-used] = numbers[used:].copy()
                numbers[-used:] = torch.empty(used).uniform_(generator=generator).numpy()
        self.used[:] = 0
