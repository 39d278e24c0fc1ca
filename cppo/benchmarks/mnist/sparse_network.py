"""Forward pass of one example through a network of ReLU units, compiled: weights behind a value of zero are skipped.

Most pixels of a digit are black and about half of the units are off. A weight behind a value of zero adds nothing to
the sums, gets no gradient from plain SGD, and passes no gradient on. So only the rows of weights behind values other
than zero are read and changed. The result is that of torch to rounding.
"""

import math
from typing import NamedTuple

import numpy as np

from cppo.benchmarks.compiled_replacement import Floats, Integers
from cppo.compiled import compile_loop


class Weights(NamedTuple):
    """Of a network, or a moment of each of them; a row holds what one input or unit sends on."""

    first: Floats  # (pixels, width)
    hidden: Floats  # (depth - 1, width, width)
    last: Floats  # (width, classes)
    biases: Floats  # (depth, width)
    last_bias: Floats  # (classes,)


class Trace(NamedTuple):
    """What an example leaves behind."""

    rows: Integers  # (depth + 1, widest), which of the inputs, then of each hidden layer's units, aren't zero
    values: Floats  # (depth + 1, widest), what these are
    counts: Integers  # (depth + 1,), how many there are
    features: Floats  # (depth, width), of all units
    gradient: Floats  # (depth, width), of the loss to the features; 0 for units that are off
    outgoing: Floats  # (depth, width), mean |w_out| after an SGD step, of the units that are on
    utility: Floats  # (depth, width), for generate-and-test
    logits: Floats  # (classes,), then the gradient of the loss to them


@compile_loop
def new_trace(weights: Weights) -> Trace:
    """Room for what an example leaves behind."""
    depth, width = weights.biases.shape
    widest = max(len(weights.first), width)
    rows, values = np.zeros((depth + 1, widest), np.int64), np.zeros((depth + 1, widest), np.float32)
    features, gradient = np.zeros((depth, width), np.float32), np.zeros((depth, width), np.float32)
    outgoing, utility = np.zeros((depth, width), np.float32), np.zeros((depth, width), np.float32)
    logits = np.zeros(weights.last.shape[1], np.float32)
    return Trace(rows, values, np.zeros(depth + 1, np.int64), features, gradient, outgoing, utility, logits)


@compile_loop
def matrix(weights: Weights, layer: int) -> Floats:
    """The weights behind a layer, 0 being the input."""
    if layer == 0:
        return weights.first
    return weights.last if layer == len(weights.biases) else weights.hidden[layer - 1]


@compile_loop
def bias_of(weights: Weights, layer: int) -> Floats:
    """The biases of what a layer's weights feed."""
    return weights.last_bias if layer == len(weights.biases) else weights.biases[layer]


@compile_loop
def predict(weights: Weights, trace: Trace) -> int:
    """Forward pass; the input's rows, values and count are in the trace.

    :return: the most likely class
    """
    depth = len(weights.biases)
    for layer in range(depth + 1):
        sums = trace.logits if layer == depth else trace.features[layer]
        sums[:] = bias_of(weights, layer)
        of_layer = matrix(weights, layer)
        for k in range(trace.counts[layer]):
            row, value = of_layer[trace.rows[layer, k]], trace.values[layer, k]
            for j in range(len(sums)):
                sums[j] += value * row[j]
        if layer < depth:
            trace.counts[layer + 1] = _rectify(sums, trace.rows[layer + 1], trace.values[layer + 1])
    return int(np.argmax(trace.logits))


@compile_loop
def _rectify(sums: Floats, rows: Integers, values: Floats) -> int:
    """Apply ReLU; list the units that are on, and return their number."""
    count = 0
    for unit in range(len(sums)):
        if sums[unit] > 0:
            rows[count], values[count] = unit, sums[unit]
            count += 1
        else:
            sums[unit] = 0
    return count


@compile_loop
def find_error(logits: Floats, label: int) -> None:
    """Turn the logits into the gradient of the cross-entropy to them."""
    highest = logits.max()
    total = np.float32(0)
    for j in range(len(logits)):
        logits[j] = math.exp(logits[j] - highest)
        total += logits[j]
    for j in range(len(logits)):
        logits[j] /= total
    logits[label] -= np.float32(1)
