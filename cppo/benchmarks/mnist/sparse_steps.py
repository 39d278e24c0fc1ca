"""Backward pass and optimizer step of the network in ``sparse_network.py``, compiled: SGD, shrink and perturb, Adam."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cppo.benchmarks.compiled_adam import BETA1, BETA2, corrected, stepped
from cppo.benchmarks.compiled_replacement import Floats
from cppo.benchmarks.mnist.sparse_network import Trace, Weights, bias_of, matrix
from cppo.compiled import compile_loop

STRETCH = 4096
"""Weights whose noise is read from one place of the pool."""


class Steps(NamedTuple):
    """How an example changes the weights."""

    is_adam: bool
    step_size: float
    weight_decay: float  # L2; of shrink and perturb: times the step size, the share of a weight that goes
    shrinks_after: bool  # shrink and perturb: weights shrink after the step, not by its gradient
    noise: float  # shrink and perturb: standard deviation of what each weight gets
    pool: Floats  # standard normal numbers, read from random places
    state: NDArray[np.uint64]  # (1,), of the random places


@compile_loop
def step_sgd(weights: Weights, trace: Trace, steps: Steps) -> None:
    """Backward pass and SGD, with L2 or followed by shrink and perturb.

    L2 makes w - s (g + d w) of a weight. That is w - s g / (1 - s d), shrunk by the share s d.
    """
    depth = len(weights.biases)
    lost = steps.step_size * steps.weight_decay
    step = np.float32(steps.step_size if steps.shrinks_after else steps.step_size / (1 - lost))
    keep = np.float32(1 - lost)
    for layer in range(depth, -1, -1):
        delta = trace.logits if layer == depth else trace.gradient[layer]
        if layer == 0:
            _descend_first(weights.first, trace, delta, step)
        else:
            _descend(matrix(weights, layer), layer, trace, delta, step, keep)
        bias = bias_of(weights, layer)
        for j in range(len(bias)):
            bias[j] -= step * delta[j]
    if lost > 0 or steps.noise > 0:
        _shrink_and_perturb(weights, np.float32(lost), steps)


@compile_loop
def _descend_first(weights: Floats, trace: Trace, delta: Floats, step: np.float32) -> None:
    """Change the rows of the pixels that aren't black."""
    for k in range(trace.counts[0]):
        row, factor = weights[trace.rows[0, k]], step * trace.values[0, k]
        for j in range(len(delta)):
            row[j] -= factor * delta[j]


@compile_loop
def _descend(weights: Floats, layer: int, trace: Trace, delta: Floats, step: np.float32, keep: np.float32) -> None:
    """Pass the gradient through the rows of the units that are on, and change each right afterwards."""
    gradient, outgoing = trace.gradient[layer - 1], trace.outgoing[layer - 1]
    gradient[:] = 0
    for k in range(trace.counts[layer]):
        unit = trace.rows[layer, k]
        row, factor = weights[unit], step * trace.values[layer, k]
        through, magnitude = np.float32(0), np.float32(0)
        for j in range(len(delta)):
            through += row[j] * delta[j]
        for j in range(len(delta)):
            row[j] -= factor * delta[j]
        for j in range(len(delta)):
            magnitude += abs(row[j])
        gradient[unit] = through
        outgoing[unit] = keep * magnitude / np.float32(len(delta))


@compile_loop
def _shrink_and_perturb(weights: Weights, lost: np.float32, steps: Steps) -> None:
    """Take a share of all weights away, and add Gaussian noise to them."""
    _shrink(weights.first.ravel(), lost, steps)
    _shrink(weights.hidden.ravel(), lost, steps)
    _shrink(weights.last.ravel(), lost, steps)
    _shrink(weights.biases.ravel(), lost, steps)
    _shrink(weights.last_bias, lost, steps)


@compile_loop
def _shrink(values: Floats, lost: np.float32, steps: Steps) -> None:
    for j in range(len(values)):
        values[j] -= lost * values[j]  # 1 - lost, rounded, would be off by some per cent of lost
    if steps.noise > 0:
        for start in range(0, len(values), STRETCH):
            _add_noise(values[start : start + STRETCH], np.float32(steps.noise), steps)


@compile_loop
def _add_noise(values: Floats, size: np.float32, steps: Steps) -> None:
    """Add Gaussian noise: a stretch of the pool from a random place (xorshift, Marsaglia 2003)."""
    state = steps.state[0]
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    steps.state[0] = state
    start = int(state % np.uint64(len(steps.pool) - len(values)))
    for j in range(len(values)):
        values[j] += size * steps.pool[start + j]


@compile_loop
def step_adam(weights: Weights, mean: Weights, square: Weights, trace: Trace, steps: Steps, now: int) -> None:
    """Backward pass and Adam, with L2; every weight changes at every step.

    :param now: steps before this one
    """
    depth = len(weights.biases)
    rate, root = corrected(steps.step_size, BETA1 ** (now + 1), BETA2 ** (now + 1))
    decay, one = np.float32(steps.weight_decay), np.float32(1)
    for layer in range(depth, -1, -1):
        of_layer, means, squares = matrix(weights, layer), matrix(mean, layer), matrix(square, layer)
        delta = trace.logits if layer == depth else trace.gradient[layer]
        value = np.zeros(len(of_layer), np.float32)
        if layer > 0:
            trace.gradient[layer - 1, :] = 0
        for k in range(trace.counts[layer]):
            unit = trace.rows[layer, k]
            value[unit] = trace.values[layer, k]
            if layer > 0:
                trace.gradient[layer - 1, unit] = _through(of_layer[unit], delta)
        for row in range(len(of_layer)):
            _step_row(of_layer[row], means[row], squares[row], value[row], delta, decay, rate, root)
        biases = bias_of(weights, layer), bias_of(mean, layer), bias_of(square, layer)
        _step_row(*biases, one, delta, decay, rate, root)


@compile_loop
def _through(row: Floats, delta: Floats) -> np.float32:
    total = np.float32(0)
    for j in range(len(delta)):
        total += row[j] * delta[j]
    return total


@compile_loop
def _step_row(
    weights: Floats, mean: Floats, square: Floats, value: np.float32, delta: Floats, decay: np.float32,
    rate: np.float32, root: np.float32,
) -> None:  # fmt: skip
    for j in range(len(weights)):
        gradient = value * delta[j] + decay * weights[j]
        weights[j], mean[j], square[j] = stepped(weights[j], mean[j], square[j], gradient, rate, root)
