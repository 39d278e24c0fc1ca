"""Generate-and-test of ``ContinualBackprop`` for the network of ``kernel.py``, compiled."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cppo.benchmarks.mnist.kernel import (
    Doubles,
    Floats,
    Integers,
    Lateness,
    Rules,
    Trace,
    Weights,
    catch_up_all,
    matrix,
)
from cppo.compiled import compile_loop

UTILITIES = ("contribution", "activation", "gradient")
"""Those of ``cppo.cbp.utilities`` that are zero for a unit that is off, so that only the others need work."""

CONTRIBUTION, ACTIVATION, GRADIENT = range(3)


class Units(NamedTuple):
    """The state of the hidden units, as ``ContinualBackprop`` keeps it."""

    age: Integers  # (depth, width)
    decay_power: Doubles  # (depth, width): the decay rate to the power of the age
    activation: Floats  # running averages
    utility: Floats
    accumulator: Doubles  # (depth,)
    replaced: Integers  # (depth,)


class Test(NamedTuple):
    """The hyperparameters of continual backpropagation."""

    rate: float
    maturity: int
    decay_rate: float
    utility: int


@compile_loop
def generate_and_test(
    weights: Weights, units: Units, test: Test, trace: Trace, late: Lateness, rules: Rules, now: int,
    draws: Floats, used: int,
) -> int:  # fmt: skip
    """Age the units, update the running averages, and replace where a whole replacement is due.

    :param now: steps before this one
    :param draws: uniform numbers between 0 and 1
    :param used: how many of them were taken
    :return: how many have been taken now
    """
    depth, width = units.age.shape
    chosen = np.empty((depth, width), np.int64)
    counts = np.zeros(depth, np.int64)
    for layer in range(depth):
        _update_averages(units, test, trace, layer)
        due = units.accumulator[layer] + test.rate * (units.age[layer] > test.maturity).sum()
        counts[layer] = int(due)
        units.accumulator[layer] = due - counts[layer]
        if counts[layer]:
            chosen[layer, : counts[layer]] = _choose(units, test.maturity, layer, counts[layer])
    if counts.any():
        if rules.decay > 0:
            catch_up_all(weights, late, rules, now + 1)
        return _replace(weights, units, chosen, counts, draws, used)
    return used


@compile_loop
def _update_averages(units: Units, test: Test, trace: Trace, layer: int) -> None:
    """Running averages; what is off moves them towards zero."""
    keep, share = np.float32(test.decay_rate), np.float32(1 - test.decay_rate)
    for unit in range(units.age.shape[1]):
        units.age[layer, unit] += 1
        units.decay_power[layer, unit] *= test.decay_rate
        units.activation[layer, unit] *= keep
        units.utility[layer, unit] *= keep
    fan_out = np.float32(len(trace.logits) if layer == units.age.shape[0] - 1 else units.age.shape[1])
    for k in range(trace.counts[layer + 1]):
        unit, value = trace.rows[layer + 1, k], trace.values[layer + 1, k]
        utility = value
        if test.utility == CONTRIBUTION:
            utility = value * trace.magnitude[layer, k] / fan_out
        elif test.utility == GRADIENT:
            utility = trace.effect[layer, k]
        units.activation[layer, unit] += share * value
        units.utility[layer, unit] += share * utility


@compile_loop
def _choose(units: Units, maturity: int, layer: int, count: int) -> NDArray[np.int64]:
    """The mature units of lowest utility, lowest first; of equal ones, dead units say, the first."""
    mature = np.nonzero(units.age[layer] > maturity)[0]
    utility = np.empty(len(mature), np.float32)
    for place, unit in enumerate(mature):
        utility[place] = units.utility[layer, unit] / np.float32(1 - units.decay_power[layer, unit])
    if count == 1:
        return mature[np.argmin(utility) : np.argmin(utility) + 1]
    return mature[np.argsort(utility, kind="mergesort")[:count]]


@compile_loop
def _replace(
    weights: Weights, units: Units, chosen: NDArray[np.int64], counts: NDArray[np.int64], draws: Floats, used: int
) -> int:
    """Move mean contributions to the biases of the layers behind, then draw incoming and silence outgoing weights."""
    depth = len(counts)
    for layer in range(depth):
        bias = weights.last_bias if layer == depth - 1 else weights.biases[layer + 1]
        for unit in chosen[layer, : counts[layer]]:
            mean = units.activation[layer, unit] / np.float32(1 - units.decay_power[layer, unit])
            bias += matrix(weights, layer + 1)[unit] * mean
    for layer in range(depth):
        for unit in chosen[layer, : counts[layer]]:
            used = _renew(weights, units, layer, unit, draws, used)
        units.replaced[layer] += counts[layer]
    for layer in range(depth):
        for unit in chosen[layer, : counts[layer]]:
            matrix(weights, layer + 1)[unit] = 0
    return used


@compile_loop
def _renew(weights: Weights, units: Units, layer: int, unit: int, draws: Floats, used: int) -> int:
    """New incoming weights, Kaiming-uniform for ReLU; no bias, no history."""
    incoming = matrix(weights, layer)
    bound = np.float32(math.sqrt(6 / len(incoming)))
    for row in range(len(incoming)):
        incoming[row, unit] = draws[used + row] * (bound + bound) - bound
    weights.biases[layer, unit] = 0
    units.age[layer, unit] = 0
    units.decay_power[layer, unit] = 1
    units.activation[layer, unit] = units.utility[layer, unit] = 0
    return used + len(incoming)
