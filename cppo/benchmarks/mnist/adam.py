"""Adam for the network of ``kernel.py``: its moments change every weight at every step."""

from __future__ import annotations

import math

import numpy as np

from cppo.benchmarks.mnist.kernel import Floats, Rules, Trace, Weights, matrix
from cppo.compiled import compile_loop

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


@compile_loop
def step_adam(weights: Weights, mean: Weights, square: Weights, trace: Trace, rules: Rules, now: int) -> None:
    """Backward pass and torch's Adam, with L2 if ``rules.decay`` is above 0, which here is added to the gradient."""
    depth, width = weights.biases.shape
    delta = trace.logits
    rate = np.float32(rules.step_size / (1 - BETA1 ** (now + 1)))
    root = np.float32(1 / math.sqrt(1 - BETA2 ** (now + 1)))
    value = np.zeros(max(len(weights.first), width), np.float32)
    one = np.float32(1)
    for layer in range(depth, -1, -1):
        of_layer = matrix(weights, layer)
        value[:] = 0
        for k in range(trace.counts[layer]):
            row = trace.rows[layer, k]
            value[row] = trace.values[layer, k]
            trace.below[k] = _through(of_layer[row], delta)
        means, squares, decay = matrix(mean, layer), matrix(square, layer), np.float32(rules.decay)
        for row in range(len(of_layer)):
            _step_row(of_layer[row], means[row], squares[row], value[row], delta, decay, rate, root)
        if layer == depth:
            _step_row(weights.last_bias, mean.last_bias, square.last_bias, one, delta, decay, rate, root)
        else:
            _step_row(weights.biases[layer], mean.biases[layer], square.biases[layer], one, delta, decay, rate, root)
        if layer > 0:
            delta = trace.delta[:width]
            delta[:] = 0
            for k in range(trace.counts[layer]):
                delta[trace.rows[layer, k]] = trace.below[k]


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
    keep1, keep2 = np.float32(1 - BETA1), np.float32(BETA2)
    new2, eps = np.float32(1 - BETA2), np.float32(EPS)
    for j in range(len(weights)):
        gradient = value * delta[j] + decay * weights[j]
        mean[j] += keep1 * (gradient - mean[j])
        square[j] = keep2 * square[j] + new2 * gradient * gradient
        weights[j] -= rate * mean[j] / (np.sqrt(square[j]) * root + eps)
