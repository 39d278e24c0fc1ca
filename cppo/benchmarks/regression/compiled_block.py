"""A block of small learners trained side by side in compiled loops, each as torch and ``ContinualBackprop`` train one.

Learners lie side by side in the last axis of every array, ``LANES`` of them in a block, so that one vector instruction
serves all of a block and a block's weights stay in the processor's first cache.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cppo.benchmarks.compiled_adam import BETA1, BETA2, corrected, stepped
from cppo.benchmarks.compiled_replacement import (
    ADAPTABLE,
    Doubles,
    Floats,
    Integers,
    LayerWeights,
    Rules,
    Signals,
    Units,
    age_and_average,
    choose,
    move_means_to_bias,
    renew,
    silence,
    take_due,
)
from cppo.benchmarks.regression.activations import activate
from cppo.compiled import compile_loop

LANES = 16


class Weights(NamedTuple):
    """A unit's bias stands behind its incoming weights, the output's bias behind the units' outgoing weights."""

    incoming: Floats  # (units, inputs + 1, lanes)
    outgoing: Floats  # (units + 1, lanes)


class Steps(NamedTuple):
    """The optimizer of each learner, and Adam's state."""

    step_size: Floats  # (lanes,)
    weight_decay: Floats  # (lanes,)
    incoming_mean: Floats  # moments, of the weights' shapes
    incoming_square: Floats
    outgoing_mean: Floats
    outgoing_square: Floats
    power1: Doubles  # (units + 1, lanes), decays to the power of each unit's own number of steps, the output's last
    power2: Doubles


class Kind(NamedTuple):
    """What all learners have in common."""

    activation: int
    is_adam: bool
    is_linear: bool
    is_continual: bool


class Scratch(NamedTuple):
    """What one step leaves to its next phase, a column a lane."""

    x: Floats  # (inputs + 1, lanes), the last row is 1
    sums: Floats  # (units, lanes)
    features: Floats  # (units + 1, lanes), the last row is 1
    slopes: Floats  # (units, lanes)
    output: Floats  # (lanes,)
    gradient: Floats  # (lanes,), of the loss to the output
    delta: Floats  # (units, lanes), of the loss to the sums


@compile_loop
def new_scratch(units: int, inputs: int) -> Scratch:
    """Make room for one block's step."""
    x, features = np.ones((inputs + 1, LANES), np.float32), np.ones((units + 1, LANES), np.float32)
    sums, slopes = np.zeros((units, LANES), np.float32), np.zeros((units, LANES), np.float32)
    output, gradient = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    return Scratch(x, sums, features, slopes, output, gradient, np.zeros((units, LANES), np.float32))


@compile_loop
def predict(weights: Weights, activation: int, scratch: Scratch) -> None:
    """Forward pass of one example per learner."""
    units, width = weights.incoming.shape[0], weights.incoming.shape[1]
    for unit in range(units):
        for lane in range(LANES):
            scratch.sums[unit, lane] = weights.incoming[unit, width - 1, lane]
        for i in range(width - 1):
            for lane in range(LANES):
                scratch.sums[unit, lane] += weights.incoming[unit, i, lane] * scratch.x[i, lane]
    activate(activation, scratch.sums, scratch.features, scratch.slopes)
    for lane in range(LANES):
        scratch.output[lane] = weights.outgoing[units, lane]
    for unit in range(units):
        for lane in range(LANES):
            scratch.output[lane] += weights.outgoing[unit, lane] * scratch.features[unit, lane]


@compile_loop
def backpropagate(weights: Weights, target: Floats, errors: Doubles, scratch: Scratch, to_features: Floats) -> None:
    """Squared error, its gradient to the output, to the units' features and to their sums."""
    for lane in range(LANES):
        error = scratch.output[lane] - target[lane]
        errors[lane] += np.float64(error * error)
        scratch.gradient[lane] = np.float32(2) * error
    for unit in range(weights.incoming.shape[0]):
        for lane in range(LANES):
            to_features[unit, lane] = scratch.gradient[lane] * weights.outgoing[unit, lane]
            scratch.delta[unit, lane] = to_features[unit, lane] * scratch.slopes[unit, lane]


@compile_loop
def step_sgd(weights: Weights, steps: Steps, is_linear: bool, scratch: Scratch) -> None:
    """Plain SGD with L2; the output of a linear learner is fixed."""
    for unit in range(weights.incoming.shape[0]):
        for i in range(weights.incoming.shape[1]):
            for lane in range(LANES):
                weight = weights.incoming[unit, i, lane]
                gradient = scratch.delta[unit, lane] * scratch.x[i, lane] + steps.weight_decay[lane] * weight
                weights.incoming[unit, i, lane] = weight - steps.step_size[lane] * gradient
    if is_linear:
        return
    for unit in range(len(weights.outgoing)):
        for lane in range(LANES):
            weight = weights.outgoing[unit, lane]
            gradient = scratch.gradient[lane] * scratch.features[unit, lane] + steps.weight_decay[lane] * weight
            weights.outgoing[unit, lane] = weight - steps.step_size[lane] * gradient


@compile_loop
def step_adam(weights: Weights, steps: Steps, is_linear: bool, scratch: Scratch) -> None:
    """Adam with L2; each unit's weights have a step count of their own, the output's bias that of the learner."""
    units, width = weights.incoming.shape[0], weights.incoming.shape[1]
    rate, root = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for unit in range(units + 1):
        for lane in range(LANES):
            steps.power1[unit, lane] *= BETA1
            steps.power2[unit, lane] *= BETA2
            rate[lane], root[lane] = corrected(
                steps.step_size[lane], steps.power1[unit, lane], steps.power2[unit, lane]
            )
        if unit < units:
            for i in range(width):
                _adam_row(
                    weights.incoming[unit, i], steps.incoming_mean[unit, i], steps.incoming_square[unit, i],
                    scratch.delta[unit], scratch.x[i], steps.weight_decay, rate, root,
                )  # fmt: skip
        if not is_linear:
            _adam_row(
                weights.outgoing[unit], steps.outgoing_mean[unit], steps.outgoing_square[unit],
                scratch.gradient, scratch.features[unit], steps.weight_decay, rate, root,
            )  # fmt: skip


@compile_loop
def _adam_row(
    weights: Floats, mean: Floats, square: Floats, error: Floats, value: Floats, decay: Floats, rate: Floats,
    root: Floats,
) -> None:  # fmt: skip
    for lane in range(LANES):
        gradient = error[lane] * value[lane] + decay[lane] * weights[lane]
        weights[lane], mean[lane], square[lane] = stepped(
            weights[lane], mean[lane], square[lane], gradient, rate[lane], root[lane]
        )


@compile_loop
def weigh(weights: Weights, utility: int, signals: Signals) -> None:
    """Mean |w_out|, here of one weight, and, where the utility needs it, mean |w_in|, the bias apart."""
    units, inputs = weights.incoming.shape[0], weights.incoming.shape[1] - 1
    for unit in range(units):
        for lane in range(LANES):
            signals.outgoing[unit, lane] = abs(weights.outgoing[unit, lane])
    if utility == ADAPTABLE:
        for unit in range(units):
            total = np.zeros(LANES, np.float32)
            for i in range(inputs):
                for lane in range(LANES):
                    total[lane] += abs(weights.incoming[unit, i, lane])
            for lane in range(LANES):
                signals.incoming[unit, lane] = total[lane] / np.float32(inputs)


@compile_loop
def forget_moments(steps: Steps, lane: int, chosen: Integers) -> None:
    """Make Adam's state of the chosen units' weights that of new ones."""
    for unit in chosen:
        steps.incoming_mean[unit, :, lane] = steps.incoming_square[unit, :, lane] = 0
        steps.outgoing_mean[unit, lane] = steps.outgoing_square[unit, lane] = 0
        steps.power1[unit, lane] = steps.power2[unit, lane] = 1


@compile_loop
def replace(units: Units, rules: Rules, around: LayerWeights, steps: Steps, draws: Floats, used: Integers) -> None:
    """Replace the units that are due, learner by learner."""
    for lane in range(LANES):
        count = take_due(units, rules, lane)
        if count:
            chosen = choose(units, rules, lane, count)
            move_means_to_bias(units, around, lane, chosen)
            renew(units, rules, around, lane, chosen, draws, used)
            silence(around, lane, chosen)
            forget_moments(steps, lane, chosen)


@compile_loop
def train_block(
    weights: Weights, steps: Steps, units: Units, kind: Kind, rules: Rules, slow: Floats, random: NDArray[np.uint8],
    targets: Floats, draws: Floats, used: Integers, errors: Doubles,
) -> None:  # fmt: skip
    """Train a block on some examples of one task.

    :param slow: shape (slow bits, lanes)
    :param random: shape (steps, lanes), the random bits as numbers
    :param targets: shape (steps, lanes)
    :param draws: shape (lanes, count), uniform numbers for new units
    :param used: shape (lanes,), how many of those were taken; counted up
    :param errors: shape (lanes,), the sum of squared errors, added to
    """
    n_units, inputs, n_slow = weights.incoming.shape[0], weights.incoming.shape[1] - 1, len(slow)
    scratch = new_scratch(n_units, inputs)
    room = np.zeros((4, n_units, LANES), np.float32)
    signals = Signals(scratch.features[:n_units], room[0], room[1], room[2], room[3])
    around = LayerWeights(
        weights.incoming[:, :inputs], weights.incoming[:, inputs],
        np.expand_dims(weights.outgoing[:n_units], 1), weights.outgoing[n_units:],
    )  # fmt: skip
    scratch.x[:n_slow] = slow
    for step in range(len(random)):
        for bit in range(inputs - n_slow):
            for lane in range(LANES):
                scratch.x[n_slow + bit, lane] = np.float32((random[step, lane] >> bit) & 1)
        predict(weights, kind.activation, scratch)
        backpropagate(weights, targets[step], errors, scratch, signals.gradient)
        if kind.is_adam:
            step_adam(weights, steps, kind.is_linear, scratch)
        else:
            step_sgd(weights, steps, kind.is_linear, scratch)
        if kind.is_continual:
            weigh(weights, rules.utility, signals)
            age_and_average(units, rules, signals)
            replace(units, rules, around, steps, draws, used)
