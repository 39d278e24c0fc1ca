"""Twin of ``torch.optim.Adam`` and of cppo/cbp/adam_by_age.py: the step of one weight, for compiled loops."""

import math

import numpy as np

from cppo.compiled import compile_loop

BETA1, BETA2 = 0.9, 0.999
"""Decays of the two moments; as torch's defaults."""
EPS = np.float32(1e-8)
SHARE1, KEEP2, SHARE2 = np.float32(1 - BETA1), np.float32(BETA2), np.float32(1 - BETA2)


@compile_loop
def corrected(step_size: float, power1: float, power2: float) -> tuple[np.float32, np.float32]:
    """What Adam's bias correction makes of the step size, and the factor of the root of the second moment.

    :param power1: ``BETA1`` to the power of the weight's own number of steps; ``power2`` likewise
    """
    return np.float32(step_size / (1 - power1)), np.float32(1 / math.sqrt(1 - power2))


@compile_loop
def stepped(
    weight: np.float32, mean: np.float32, square: np.float32, gradient: np.float32, rate: np.float32, root: np.float32
) -> tuple[np.float32, np.float32, np.float32]:
    """A weight and its moments after a step.

    :param gradient: of the loss, L2 included
    :param rate: from ``corrected``, as ``root``
    """
    mean += SHARE1 * (gradient - mean)
    square = KEEP2 * square + SHARE2 * gradient * gradient
    return weight - rate * mean / (np.sqrt(square) * root + EPS), mean, square
