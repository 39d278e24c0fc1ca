"""One example after another through a network of ReLU units, compiled: what is zero is left out of the work.

Most pixels of a digit are black and about half of the units are off. A weight behind a value of zero adds nothing to
the sums, gets no gradient from plain SGD, and passes no gradient on. So only the rows of weights behind values other
than zero are read and changed, each once forward and once backward; L2 and shrink and perturb, which change all weights
at every step, catch up on a row when it is next needed. The result is that of torch to rounding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cppo.compiled import compile_loop

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]


class Weights(NamedTuple):
    """Of a network, or a moment of each of them; a row holds what one input or unit sends on."""

    first: Floats  # (pixels, width)
    hidden: Floats  # (depth - 1, width, width)
    last: Floats  # (width, classes)
    biases: Floats  # (depth, width)
    last_bias: Floats  # (classes,)


class Rules(NamedTuple):
    """How the weights are changed: ``decay`` is the share of a weight that goes at each step."""

    step_size: float
    decay: float
    decays_before: bool  # as L2 in the optimizer does; else after the step, as shrink and perturb
    noise: float


class Trace(NamedTuple):
    """What an example leaves behind, by layer: the input, then each hidden layer."""

    rows: Integers  # (depth + 1, widest): which inputs or units aren't zero
    values: Floats  # (depth + 1, widest): what they are
    counts: Integers  # (depth + 1,)
    sums: Floats  # (depth, width)
    logits: Floats  # (classes,)
    delta: Floats  # (width,), gradient of the loss to a layer's sums
    below: Floats  # (widest,), to the values of the layer below, in the order of its rows
    magnitude: Floats  # (depth, width), sum of |w_out| after the step, in the order of the rows
    effect: Floats  # (depth, width), |h dLoss/dh|, likewise


class Lateness(NamedTuple):
    """How far each row has got with decay and noise."""

    steps: Integers  # (depth + 1, widest)
    pool: Floats  # standard normal numbers, read from random places
    state: NDArray[np.uint64]  # (1,), of the places


@compile_loop
def matrix(weights: Weights, layer: int) -> Floats:
    """The weights behind a layer, 0 being the input."""
    if layer == 0:
        return weights.first
    return weights.last if layer == len(weights.biases) else weights.hidden[layer - 1]


@compile_loop
def predict(weights: Weights, trace: Trace, late: Lateness, rules: Rules, now: int) -> int:
    """Forward pass; the input's rows, values and count are in the trace.

    :return: the most likely class
    """
    depth = len(weights.biases)
    for layer in range(depth + 1):
        count = trace.counts[layer]
        if rules.decay > 0 or rules.noise > 0:
            for k in range(count):
                catch_up(matrix(weights, layer), layer, trace.rows[layer, k], late, rules, now)
        sums = trace.logits if layer == depth else trace.sums[layer]
        sums[:] = weights.last_bias if layer == depth else weights.biases[layer]
        _combine(matrix(weights, layer), trace.rows[layer], trace.values[layer], count, sums)
        if layer < depth:
            trace.counts[layer + 1] = _find_active(sums, trace.rows[layer + 1], trace.values[layer + 1])
    return int(np.argmax(trace.logits))


@compile_loop
def _combine(weights: Floats, rows: Integers, values: Floats, count: int, sums: Floats) -> None:
    for k in range(count):
        row, value = weights[rows[k]], values[k]
        for j in range(len(sums)):
            sums[j] += value * row[j]


@compile_loop
def _find_active(sums: Floats, rows: Integers, values: Floats) -> int:
    count = 0
    for unit in range(len(sums)):
        if sums[unit] > 0:
            rows[count], values[count] = unit, sums[unit]
            count += 1
    return count


@compile_loop
def find_error(trace: Trace, label: int) -> None:
    """Turn the logits into the gradient of the cross-entropy to them."""
    logits = trace.logits
    highest = logits.max()
    total = np.float32(0)
    for j in range(len(logits)):
        logits[j] = math.exp(logits[j] - highest)
        total += logits[j]
    for j in range(len(logits)):
        logits[j] /= total
    logits[label] -= np.float32(1)


@compile_loop
def step_sgd(weights: Weights, trace: Trace, late: Lateness, rules: Rules, now: int) -> None:
    """Backward pass and plain SGD in one: a row is changed right after the gradient has gone through it."""
    depth, width = weights.biases.shape
    step = np.float32(rules.step_size)
    lost = np.float32(rules.decay) if rules.decays_before else np.float32(0)
    delta = trace.logits
    for layer in range(depth, -1, -1):
        _descend(matrix(weights, layer), layer, trace, delta, step, lost)
        _descend_bias(weights.last_bias if layer == depth else weights.biases[layer], delta, step, lost)
        for k in range(trace.counts[layer]):
            late.steps[layer, trace.rows[layer, k]] = now + rules.decays_before
        if layer > 0:
            delta = trace.delta[:width]
            _pass_on(layer, trace, delta)
    if not rules.decays_before:
        _shrink_biases(weights, late, rules)


@compile_loop
def _descend(weights: Floats, layer: int, trace: Trace, delta: Floats, step: np.float32, lost: np.float32) -> None:
    """Change the rows of a layer that isn't zero, and leave what goes through them."""
    for k in range(trace.counts[layer]):
        row, factor = weights[trace.rows[layer, k]], step * trace.values[layer, k]
        through, magnitude = np.float32(0), np.float32(0)
        if layer > 0:
            for j in range(len(delta)):
                through += row[j] * delta[j]
        for j in range(len(delta)):
            row[j] -= factor * delta[j] + lost * row[j]  # 1 - lost, rounded, would be off by some per cent of lost
        if layer > 0:
            for j in range(len(delta)):
                magnitude += abs(row[j])
            trace.below[k] = through
            trace.magnitude[layer - 1, k] = magnitude
            trace.effect[layer - 1, k] = abs(trace.values[layer, k] * through)


@compile_loop
def _descend_bias(bias: Floats, delta: Floats, step: np.float32, lost: np.float32) -> None:
    for j in range(len(bias)):
        bias[j] -= step * delta[j] + lost * bias[j]


@compile_loop
def _pass_on(layer: int, trace: Trace, delta: Floats) -> None:
    """The gradient to a hidden layer's sums: nothing to units that are off."""
    delta[:] = 0
    for k in range(trace.counts[layer]):
        delta[trace.rows[layer, k]] = trace.below[k]


@compile_loop
def catch_up(weights: Floats, layer: int, row: int, late: Lateness, rules: Rules, now: int) -> None:
    """Give a row the decay and the noise of the steps in which it wasn't needed.

    The noise of k steps, each shrunk by the steps after it, has the variance of one step times the sum of
    (1 - decay)^(2 i) for i below k.
    """
    missed = now - late.steps[layer, row]
    if missed == 0:
        return
    late.steps[layer, row] = now
    keep = (1 - rules.decay) ** missed
    lost = np.float32(-math.expm1(missed * math.log1p(-rules.decay)))
    for j in range(weights.shape[1]):
        weights[row, j] -= lost * weights[row, j]
    if rules.noise > 0:
        variance = (1 - keep * keep) / (1 - (1 - rules.decay) ** 2) if rules.decay > 0 else float(missed)
        add_noise(weights[row], np.float32(rules.noise * math.sqrt(variance)), late)


@compile_loop
def add_noise(values: Floats, size: np.float32, late: Lateness) -> None:
    """Add Gaussian noise: a stretch of the pool from a random place (xorshift, Marsaglia 2003)."""
    state = late.state[0]
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    late.state[0] = state
    start = int(state % np.uint64(len(late.pool) - len(values)))
    for j in range(len(values)):
        values[j] += size * late.pool[start + j]


@compile_loop
def _shrink_biases(weights: Weights, late: Lateness, rules: Rules) -> None:
    lost = np.float32(rules.decay)
    for layer in range(len(weights.biases) + 1):
        bias = weights.last_bias if layer == len(weights.biases) else weights.biases[layer]
        for j in range(len(bias)):
            bias[j] -= lost * bias[j]
        if rules.noise > 0:
            add_noise(bias, np.float32(rules.noise), late)


@compile_loop
def catch_up_all(weights: Weights, late: Lateness, rules: Rules, now: int) -> None:
    """Bring every row up to date, so that the weights can be looked at."""
    for layer in range(len(weights.biases) + 1):
        of_layer = matrix(weights, layer)
        for row in range(len(of_layer)):
            catch_up(of_layer, layer, row, late, rules, now)
