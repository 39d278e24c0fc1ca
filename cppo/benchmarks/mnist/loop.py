"""The loop over examples, compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cppo.benchmarks.mnist.adam import step_adam
from cppo.benchmarks.mnist.generate_and_test import Test, Units, generate_and_test
from cppo.benchmarks.mnist.kernel import (
    Floats,
    Integers,
    Lateness,
    Rules,
    Trace,
    Weights,
    find_error,
    predict,
    step_sgd,
)
from cppo.compiled import compile_loop


class Digits(NamedTuple):
    """Images without their black pixels."""

    starts: Integers  # (images + 1,): where each image's pixels begin
    pixels: Integers  # their places
    values: Floats  # their grey values
    labels: Integers  # (images,)


class Examples(NamedTuple):
    """Which images come, and how their pixels are permuted."""

    order: Integers  # (steps,)
    permutation: Integers  # (pixels,): where each pixel goes


@compile_loop
def new_trace(weights: Weights) -> Trace:
    """Room for what an example leaves behind."""
    depth, width = weights.biases.shape
    widest, classes = max(len(weights.first), width), weights.last.shape[1]
    return Trace(
        np.zeros((depth + 1, widest), np.int64),
        np.zeros((depth + 1, widest), np.float32),
        np.zeros(depth + 1, np.int64),
        np.zeros((depth, width), np.float32),
        np.zeros(classes, np.float32),
        np.zeros(width, np.float32),
        np.zeros(widest, np.float32),
        np.zeros((depth, width), np.float32),
        np.zeros((depth, width), np.float32),
    )


@compile_loop
def train_examples(
    weights: Weights, mean: Weights, square: Weights, units: Units, late: Lateness, rules: Rules, test: Test,
    digits: Digits, examples: Examples, now: int, draws: Floats, correct: NDArray[np.bool_],
) -> int:  # fmt: skip
    """Train on examples one by one.

    :param mean: Adam's moments; empty for SGD
    :param now: steps before these
    :param draws: uniform numbers for new units
    :param correct: shape (steps,), written: whether the prediction before the step was right
    :return: how many of the numbers were taken
    """
    trace, used = new_trace(weights), 0
    for step, image in enumerate(examples.order):
        _show(digits, image, examples.permutation, trace)
        label = digits.labels[image]
        correct[step] = predict(weights, trace, late, rules, now + step) == label
        find_error(trace, label)
        if len(mean.first):
            step_adam(weights, mean, square, trace, rules, now + step)
        else:
            step_sgd(weights, trace, late, rules, now + step)
        if test.rate > 0:
            used = generate_and_test(weights, units, test, trace, late, rules, now + step, draws, used)
    return used


@compile_loop
def _show(digits: Digits, image: int, permutation: Integers, trace: Trace) -> None:
    start, end = digits.starts[image], digits.starts[image + 1]
    trace.counts[0] = end - start
    for k in range(end - start):
        trace.rows[0, k] = permutation[digits.pixels[start + k]]
        trace.values[0, k] = digits.values[start + k]
