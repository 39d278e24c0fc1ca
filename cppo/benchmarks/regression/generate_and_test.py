"""Generate-and-test of ``ContinualBackprop`` for a block of small learners, compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cppo.compiled import compile_loop

if TYPE_CHECKING:
    from cppo.benchmarks.regression.kernel import Learners, Rules

Floats = NDArray[np.float32]

UTILITIES = (
    "contribution",
    "mean_corrected_contribution",
    "adaptable_contribution",
    "weight",
    "activation",
    "random",
    "gradient",
)
"""Those of ``cppo.cbp.utilities``; the place is the number in the compiled code."""

CONTRIBUTION, MEAN_CORRECTED, ADAPTABLE, WEIGHT, ACTIVATION, RANDOM, GRADIENT = range(7)


@compile_loop
def generate_and_test(
    block: Learners, rules: Rules, features: Floats, signal: Floats, draws: Floats, used: NDArray[np.int64]
) -> None:
    """Age the units, update the running averages, and replace where a whole replacement is due.

    :param block: the learners after an optimizer step, changed in place
    :param rules: what they have in common
    :param features: shape (at least units, lanes), of the step's example
    :param signal: shape (units, lanes), |h dLoss/dh| of the step; overwritten
    :param draws: the next new units' incoming weights
    :param used: how many of those were taken, counted up
    """
    _average_activation(block, rules, features)
    _instantaneous_utility(block, rules.utility, features, signal)
    _average_utility(block, rules, signal)
    for lane in range(block.age.shape[1]):
        due = block.accumulator[lane] + block.replacement_rate[lane] * _count_mature(block, rules.maturity, lane)
        count = int(due)
        block.accumulator[lane] = due - count
        if count:
            _replace(block, rules, lane, _choose(block, rules.maturity, lane, count), draws[lane], used)


@compile_loop
def _average_activation(block: Learners, rules: Rules, features: Floats) -> None:
    share = np.float32(1 - rules.decay_rate)
    units, lanes = block.age.shape
    for unit in range(units):
        for lane in range(lanes):
            block.age[unit, lane] += 1
            block.decay_power[unit, lane] *= rules.decay_rate
            block.activation[unit, lane] += share * (features[unit, lane] - block.activation[unit, lane])


@compile_loop
def _average_utility(block: Learners, rules: Rules, signal: Floats) -> None:
    share = np.float32(1 - rules.decay_rate)
    units, lanes = block.age.shape
    for unit in range(units):
        for lane in range(lanes):
            block.utility[unit, lane] += share * (signal[unit, lane] - block.utility[unit, lane])


@compile_loop
def _mean_activation(block: Learners, unit: int, lane: int) -> np.float32:
    return block.activation[unit, lane] / np.float32(1 - block.decay_power[unit, lane])


@compile_loop
def _instantaneous_utility(block: Learners, code: int, features: Floats, signal: Floats) -> None:
    """Of each unit, as the functions in ``cppo.cbp.utilities`` say."""
    units = block.age.shape[0]
    if code == RANDOM:
        _draw(block, signal)
    elif code == WEIGHT:
        signal[:] = np.abs(block.outgoing[:units])
    elif code == ACTIVATION:
        signal[:] = np.abs(features[:units])
    elif code != GRADIENT:
        for unit in range(units):
            _contribution(block, features, signal, unit, code != CONTRIBUTION)
            if code == ADAPTABLE:
                _divide_by_incoming(block.incoming[unit], signal[unit])


@compile_loop
def _contribution(block: Learners, features: Floats, signal: Floats, unit: int, corrects_mean: bool) -> None:
    for lane in range(block.age.shape[1]):
        mean = _mean_activation(block, unit, lane) if corrects_mean else np.float32(0)
        signal[unit, lane] = abs((features[unit, lane] - mean) * block.outgoing[unit, lane])


@compile_loop
def _divide_by_incoming(weights: Floats, signal: Floats) -> None:
    """Divide by each lane's mean |w_in|, the bias apart."""
    inputs, lanes = weights.shape[0] - 1, weights.shape[1]
    total = np.zeros(lanes, np.float32)
    for i in range(inputs):
        for lane in range(lanes):
            total[lane] += abs(weights[i, lane])
    for lane in range(lanes):
        signal[lane] *= np.float32(inputs) / total[lane]


@compile_loop
def _draw(block: Learners, signal: Floats) -> None:
    """Uniform random numbers from each lane's own state (xorshift, Marsaglia 2003)."""
    for lane in range(len(block.random_state)):
        state = block.random_state[lane]
        for unit in range(len(signal)):
            state = (state ^ (state << 13)) & 0xFFFFFFFF
            state ^= state >> 17
            state = (state ^ (state << 5)) & 0xFFFFFFFF
            signal[unit, lane] = np.float32(state * 2.0**-32)
        block.random_state[lane] = state


@compile_loop
def _count_mature(block: Learners, maturity: int, lane: int) -> int:
    count = 0
    for unit in range(block.age.shape[0]):
        count += block.age[unit, lane] > maturity
    return count


@compile_loop
def _choose(block: Learners, maturity: int, lane: int, count: int) -> NDArray[np.int64]:
    """The mature units of lowest utility, lowest first; of equal ones, dead units say, the first."""
    units = np.arange(block.age.shape[0])
    mature = units[block.age[:, lane] > maturity]
    utility = block.utility[:, lane] / (1 - block.decay_power[:, lane])
    return mature[np.argsort(utility[mature], kind="mergesort")[:count]]


@compile_loop
def _replace(
    block: Learners, rules: Rules, lane: int, chosen: NDArray[np.int64], draws: Floats, used: NDArray[np.int64]
) -> None:
    """Move the mean contributions to the output's bias and make the chosen units new."""
    n_units, inputs = block.incoming.shape[0], block.incoming.shape[1] - 1
    for unit in chosen:
        block.outgoing[n_units, lane] += block.outgoing[unit, lane] * _mean_activation(block, unit, lane)
    for unit in chosen:
        block.incoming[unit, :inputs, lane] = draws[used[lane]]
        block.incoming[unit, inputs, lane] = 0
        block.outgoing[unit, lane] = 0
        block.age[unit, lane] = 0
        block.decay_power[unit, lane] = 1
        block.activation[unit, lane] = block.utility[unit, lane] = 0
        if rules.is_adam:
            block.incoming_mean[unit, :, lane] = block.incoming_square[unit, :, lane] = 0
            block.outgoing_mean[unit, lane] = block.outgoing_square[unit, lane] = 0
            block.power1[unit, lane] = block.power2[unit, lane] = 1
        used[lane] += 1
    block.replaced[lane] += len(chosen)
