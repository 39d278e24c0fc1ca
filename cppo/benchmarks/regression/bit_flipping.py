"""Slowly-changing regression: a stream of bits, most of which change rarely, and a fixed random network's answers.

Dohare, Sutton & Mahmood, arXiv 2108.06325, section 2; Dohare et al., Nature 632 (2024), extended data.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

SLOW_BITS = 15
RANDOM_BITS = 5
INPUTS = SLOW_BITS + RANDOM_BITS
"""Inputs that vary. The 21st input is constantly 1: it is what the biases of target and learner multiply."""
TARGET_UNITS = 100
THRESHOLD = 0.7
"""Beta: a target unit is on where about this share of its 21 inputs agrees with the signs of its weights."""

Flip = Literal["one", "all"]


class Task(NamedTuple):
    """The examples between two changes.

    :param slow: shape (15,), the slow bits
    :param random: shape (steps,), the five random bits of each example as a number below 32
    :param targets: shape (steps,)
    """

    slow: NDArray[np.float32]
    random: NDArray[np.uint8]
    targets: NDArray[np.float32]

    def inputs(self) -> NDArray[np.float32]:
        """The examples as the learner sees them, shape (steps, 20)."""
        return inputs_of(self.slow, self.random)


def inputs_of(slow: NDArray[np.float32], random: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Write slow bits and numbers below 32 out as inputs, shape (len(random), 20)."""
    bits = (random[:, None] >> np.arange(RANDOM_BITS, dtype=np.uint8)) & 1
    return np.concatenate([np.broadcast_to(slow, (len(random), SLOW_BITS)), bits], axis=1, dtype=np.float32)


@dataclass(frozen=True)
class Stream:
    """Everything a seed determines: the target network and the endless sequence of tasks.

    The target's weights, those of the constant input included, are 1 or -1; unit i is 1 where w_i x reaches
    21 * 0.7 - S_i, with S_i the number of negative weights among those of the 20 varying inputs, and 0 elsewhere.
    Counting the constant's weight too would raise the linear learner's error from about 0.9 to 1.2; published: 0.87.

    :param seed: of target and examples
    :param change_every: steps from one change of the slow bits to the next
    :param flip: one slow bit flips (the papers' text), or all are drawn anew (the published code's default)
    """

    seed: int
    change_every: int = 10_000
    flip: Flip = "one"

    def tasks(self) -> Iterator[Task]:
        """The tasks, from the first one on; every call begins anew with the same ones."""
        rng = np.random.default_rng([self.seed, 1])
        hidden = rng.choice([-1.0, 1.0], size=(TARGET_UNITS, INPUTS + 1)).astype(np.float32)
        outgoing = rng.choice([-1.0, 1.0], size=TARGET_UNITS + 1).astype(np.float32)
        slow = rng.integers(2, size=SLOW_BITS).astype(np.float32)
        while True:
            answers = self._answers(hidden, outgoing, slow)
            random = rng.integers(2**RANDOM_BITS, size=self.change_every, dtype=np.uint8)
            yield Task(slow, random, answers[random])
            slow = self._changed(slow, rng)

    def _changed(self, slow: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        if self.flip == "all":
            return rng.integers(2, size=SLOW_BITS).astype(np.float32)
        changed = slow.copy()
        bit = rng.integers(SLOW_BITS)
        changed[bit] = 1 - changed[bit]
        return changed

    @staticmethod
    def _answers(
        hidden: NDArray[np.float32], outgoing: NDArray[np.float32], slow: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The target for each of the 32 values of the random bits, all that can occur until the next change."""
        x = inputs_of(slow, np.arange(2**RANDOM_BITS, dtype=np.uint8))
        threshold = THRESHOLD * (INPUTS + 1) - (hidden[:, :INPUTS] < 0).sum(axis=1)
        features = x @ hidden[:, :INPUTS].T + hidden[:, INPUTS] >= threshold
        return features.astype(np.float32) @ outgoing[:TARGET_UNITS] + outgoing[TARGET_UNITS]
