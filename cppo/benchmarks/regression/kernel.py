"""Many small learners at once, compiled: forward pass, backward pass, optimizer step and generate-and-test.

Learners lie side by side in the last axis of every array, ``LANES`` of them in a block, so that one vector instruction
serves all of a block and a block's weights stay in the processor's first cache. What is computed is what
``ContinualBackprop`` and torch's SGD and Adam compute, at batch size 1; the tests hold them together.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cppo.benchmarks.regression.activations import activate
from cppo.benchmarks.regression.generate_and_test import generate_and_test
from cppo.compiled import compile_loop

LANES = 16
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]


class Learners(NamedTuple):
    """The state of a block of learners; the first axis of all of them together is the blocks.

    ``incoming`` has a unit's bias behind its weights, ``outgoing`` the output's bias behind those of the units. The
    powers are of the decays after each unit's own number of steps; the last row of Adam's is the output bias'.
    """

    incoming: Floats  # (units, inputs + 1, lanes)
    outgoing: Floats  # (units + 1, lanes)
    incoming_mean: Floats  # Adam's moments, empty for SGD
    incoming_square: Floats
    outgoing_mean: Floats
    outgoing_square: Floats
    power1: Doubles  # (units + 1, lanes)
    power2: Doubles
    age: Integers  # (units, lanes)
    decay_power: Doubles  # (units, lanes)
    activation: Floats  # running averages
    utility: Floats
    accumulator: Doubles  # (lanes,)
    replaced: Integers
    random_state: Integers
    step_size: Floats
    weight_decay: Floats
    replacement_rate: Doubles


class Rules(NamedTuple):
    """What all learners have in common."""

    activation: int
    is_adam: bool
    is_linear: bool
    is_continual: bool
    utility: int
    maturity: int
    decay_rate: float
    beta1: float
    beta2: float
    eps: float


class Scratch(NamedTuple):
    """What one step leaves to its next phase, a column a lane."""

    x: Floats  # (inputs + 1, lanes), the last row is 1
    sums: Floats  # (units, lanes)
    features: Floats  # (units + 1, lanes), the last row is 1
    slopes: Floats  # (units, lanes)
    output: Floats  # (lanes,)
    gradient: Floats  # (lanes,), of the loss to the output
    delta: Floats  # (units, lanes), of the loss to the sums
    signal: Floats  # (units, lanes), the instantaneous utility


@compile_loop
def new_scratch(units: int, inputs: int) -> Scratch:
    """Make room for one block's step."""
    x, features = np.ones((inputs + 1, LANES), np.float32), np.ones((units + 1, LANES), np.float32)
    sums, slopes = np.zeros((units, LANES), np.float32), np.zeros((units, LANES), np.float32)
    output, gradient = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    delta, signal = np.zeros((units, LANES), np.float32), np.zeros((units, LANES), np.float32)
    return Scratch(x, sums, features, slopes, output, gradient, delta, signal)


@compile_loop
def predict(block: Learners, rules: Rules, scratch: Scratch) -> None:
    """Forward pass of one example per learner."""
    units, width = block.incoming.shape[0], block.incoming.shape[1]
    for unit in range(units):
        for lane in range(LANES):
            scratch.sums[unit, lane] = block.incoming[unit, width - 1, lane]
        for i in range(width - 1):
            for lane in range(LANES):
                scratch.sums[unit, lane] += block.incoming[unit, i, lane] * scratch.x[i, lane]
    activate(rules.activation, scratch.sums, scratch.features, scratch.slopes)
    for lane in range(LANES):
        scratch.output[lane] = block.outgoing[units, lane]
    for unit in range(units):
        for lane in range(LANES):
            scratch.output[lane] += block.outgoing[unit, lane] * scratch.features[unit, lane]


@compile_loop
def backpropagate(block: Learners, target: Floats, errors: Doubles, scratch: Scratch) -> None:
    """Squared error, its gradient to the output and to the units' sums."""
    for lane in range(LANES):
        error = scratch.output[lane] - target[lane]
        errors[lane] += np.float64(error * error)
        scratch.gradient[lane] = np.float32(2) * error
    for unit in range(block.incoming.shape[0]):
        for lane in range(LANES):
            scratch.delta[unit, lane] = scratch.gradient[lane] * block.outgoing[unit, lane] * scratch.slopes[unit, lane]
            scratch.signal[unit, lane] = abs(
                scratch.gradient[lane] * block.outgoing[unit, lane] * scratch.features[unit, lane]
            )


@compile_loop
def step_sgd(block: Learners, rules: Rules, scratch: Scratch) -> None:
    """Plain SGD with L2."""
    units, width = block.incoming.shape[0], block.incoming.shape[1]
    for unit in range(units):
        for i in range(width):
            for lane in range(LANES):
                weight = block.incoming[unit, i, lane]
                gradient = scratch.delta[unit, lane] * scratch.x[i, lane] + block.weight_decay[lane] * weight
                block.incoming[unit, i, lane] = weight - block.step_size[lane] * gradient
    if rules.is_linear:
        return
    for unit in range(units + 1):
        for lane in range(LANES):
            weight = block.outgoing[unit, lane]
            gradient = scratch.gradient[lane] * scratch.features[unit, lane] + block.weight_decay[lane] * weight
            block.outgoing[unit, lane] = weight - block.step_size[lane] * gradient


@compile_loop
def step_adam(block: Learners, rules: Rules, scratch: Scratch) -> None:
    """Adam with L2; each unit's weights have a step count of their own, the output's bias that of the learner."""
    units, width = block.incoming.shape[0], block.incoming.shape[1]
    rate, root, eps = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.float32(rules.eps)
    for unit in range(units + 1):
        for lane in range(LANES):
            block.power1[unit, lane] *= rules.beta1
            block.power2[unit, lane] *= rules.beta2
            rate[lane] = block.step_size[lane] / (1 - block.power1[unit, lane])
            root[lane] = 1 / math.sqrt(1 - block.power2[unit, lane])
        if unit < units:
            for i in range(width):
                _adam_row(
                    rules, block.incoming[unit, i], block.incoming_mean[unit, i], block.incoming_square[unit, i],
                    scratch.delta[unit], scratch.x[i], block.weight_decay, rate, root, eps,
                )  # fmt: skip
        if not rules.is_linear:
            _adam_row(
                rules, block.outgoing[unit], block.outgoing_mean[unit], block.outgoing_square[unit],
                scratch.gradient, scratch.features[unit], block.weight_decay, rate, root, eps,
            )  # fmt: skip


@compile_loop
def _adam_row(
    rules: Rules, weights: Floats, mean: Floats, square: Floats, error: Floats, value: Floats, decay: Floats,
    rate: Floats, root: Floats, eps: np.float32,
) -> None:  # fmt: skip
    keep1, keep2 = np.float32(1 - rules.beta1), np.float32(rules.beta2)
    new2 = np.float32(1 - rules.beta2)
    for lane in range(LANES):
        gradient = error[lane] * value[lane] + decay[lane] * weights[lane]
        mean[lane] += keep1 * (gradient - mean[lane])
        square[lane] = keep2 * square[lane] + new2 * gradient * gradient
        weights[lane] -= rate[lane] * mean[lane] / (np.sqrt(square[lane]) * root[lane] + eps)


@compile_loop
def train_block(
    block: Learners,
    rules: Rules,
    slow: Floats,
    random: NDArray[np.uint8],
    targets: Floats,
    draws: Floats,
    used: Integers,
    errors: Doubles,
) -> None:
    """Train a block on some examples of one task.

    :param block: the learners, changed in place
    :param rules: what they have in common
    :param slow: shape (slow bits, lanes)
    :param random: shape (steps, lanes), the random bits as numbers
    :param targets: shape (steps, lanes)
    :param draws: shape (lanes, most replacements, inputs), the next new units' incoming weights
    :param used: shape (lanes,), how many of those were taken
    :param errors: shape (lanes,), the sum of squared errors, added to
    """
    units, inputs = block.incoming.shape[0], block.incoming.shape[1] - 1
    n_slow = len(slow)
    scratch = new_scratch(units, inputs)
    scratch.x[:n_slow] = slow
    for step in range(len(random)):
        for bit in range(inputs - n_slow):
            for lane in range(LANES):
                scratch.x[n_slow + bit, lane] = np.float32((random[step, lane] >> bit) & 1)
        predict(block, rules, scratch)
        backpropagate(block, targets[step], errors, scratch)
        if rules.is_adam:
            step_adam(block, rules, scratch)
        else:
            step_sgd(block, rules, scratch)
        if rules.is_continual:
            generate_and_test(block, rules, scratch.features, scratch.signal, draws, used)
