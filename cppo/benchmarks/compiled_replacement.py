"""Twin of cppo/cbp/continual_backprop.py: generate-and-test on one hidden layer, in compiled loops.

The compiled learners of all supervised problems use it. The last axis of every array counts learners that are trained
side by side, each on its own; where one learner is trained alone, it has length 1.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cppo.compiled import compile_loop

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

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


class Units(NamedTuple):
    """The state of a layer's units."""

    age: Integers  # (units, learners)
    decay_power: Doubles  # (units, learners), the decay rate to the power of the age
    activation: Floats  # (units, learners), running averages
    utility: Floats
    accumulator: Doubles  # (learners,), the part of a replacement that is due
    replaced: Integers  # (learners,), how many units so far
    random_state: Integers  # (learners,), for the utility "random"
    due: Doubles  # (units + 1, learners), replacements due in a step in which so many units are mature


class Rules(NamedTuple):
    """The hyperparameters that all learners share."""

    utility: int  # place in UTILITIES
    maturity_threshold: int
    decay_rate: float
    gain: float  # of the activation: new weights are uniform with variance gain^2 / fan in


class Signals(NamedTuple):
    """What a training step tells of a layer's units, each of shape (units, learners)."""

    features: Floats  # h
    gradient: Floats  # dLoss/dh
    outgoing: Floats  # mean |w_out|
    incoming: Floats  # mean |w_in|, read by the utility "adaptable_contribution" alone
    utility: Floats  # instantaneous utility, written


class LayerWeights(NamedTuple):
    """The weights that feed and read a layer's units: views of the network's."""

    incoming: Floats  # (units, fan in, learners)
    bias: Floats  # (units, learners)
    outgoing: Floats  # (units, fan out, learners)
    outgoing_bias: Floats  # (fan out, learners)


def new_units(shape: tuple[int, ...], seeds: Sequence[int], rates: Sequence[float]) -> Units:
    """The state before the first step.

    :param shape: (units, learners), or more axes before them
    :param seeds: of all learners
    :param rates: replacement rate of each
    """
    by_learner = (*shape[:-2], shape[-1])
    counts = np.arange(shape[-2] + 1, dtype=np.float64)[:, None]
    return Units(
        age=np.zeros(shape, np.int64),
        decay_power=np.ones(shape),
        activation=np.zeros(shape, np.float32),
        utility=np.zeros(shape, np.float32),
        accumulator=np.zeros(by_learner),
        replaced=np.zeros(by_learner, np.int64),
        random_state=np.resize(np.array(seeds, np.int64) + 1, by_learner),
        due=counts * np.expand_dims(np.resize(np.array(rates, np.float64), by_learner), -2),
    )


@contextlib.contextmanager
def without_denormals() -> Iterator[None]:
    """Take numbers below 1e-38 for 0: averages of dead units get that small and would slow the processor down."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@compile_loop
def age_and_average(units: Units, rules: Rules, signals: Signals) -> None:
    """Rules 1 and 2: age the units and move their running averages towards what the step has shown."""
    share = np.float32(1 - rules.decay_rate)
    age, power, activation = units.age.ravel(), units.decay_power.ravel(), units.activation.ravel()
    features = signals.features.ravel()
    for i in range(len(age)):
        age[i] += 1
        power[i] *= rules.decay_rate
        activation[i] += share * (features[i] - activation[i])
    if rules.utility == RANDOM:
        _draw_utility(units.random_state, signals.utility)
    else:
        _measure_utility(rules.utility, activation, power, signals)
    average, utility = units.utility.ravel(), signals.utility.ravel()
    for i in range(len(average)):
        average[i] += share * (utility[i] - average[i])


@compile_loop
def _measure_utility(code: int, activation: Floats, power: Doubles, signals: Signals) -> None:
    """Write the instantaneous utility: the functions of the same names in ``cppo.cbp.utilities``."""
    outgoing, incoming, utility = signals.outgoing.ravel(), signals.incoming.ravel(), signals.utility.ravel()
    _measure_features(code, activation, power, signals)
    if code not in (ACTIVATION, GRADIENT):
        for i in range(len(utility)):
            utility[i] *= outgoing[i]
    if code == ADAPTABLE:
        for i in range(len(utility)):
            utility[i] = utility[i] / incoming[i] if incoming[i] != 0 else 0


@compile_loop
def _measure_features(code: int, activation: Floats, power: Doubles, signals: Signals) -> None:
    """Write the part of the instantaneous utility that the step's features have: 1, |h dLoss/dh|, |h| or |h - f^|."""
    features, gradient, utility = signals.features.ravel(), signals.gradient.ravel(), signals.utility.ravel()
    if code == WEIGHT:
        utility[:] = 1
    elif code == GRADIENT:
        for i in range(len(utility)):
            utility[i] = abs(features[i] * gradient[i])
    elif code in (ACTIVATION, CONTRIBUTION):
        for i in range(len(utility)):
            utility[i] = abs(features[i])
    else:
        for i in range(len(utility)):
            utility[i] = abs(features[i] - activation[i] / np.float32(1 - power[i]))


@compile_loop
def _draw_utility(random_state: Integers, utility: Floats) -> None:
    """Uniform random numbers from each learner's own state (xorshift, Marsaglia 2003)."""
    for learner in range(len(random_state)):
        state = random_state[learner]
        for unit in range(len(utility)):
            state = (state ^ (state << 13)) & 0xFFFFFFFF
            state ^= state >> 17
            state = (state ^ (state << 5)) & 0xFFFFFFFF
            utility[unit, learner] = np.float32(state * 2.0**-32)
        random_state[learner] = state


@compile_loop
def take_due(units: Units, rules: Rules, learner: int) -> int:
    """Rule 3: add to the accumulator what the mature units of a learner make due; take the whole replacements out.

    Compiled, a product would be added without being rounded, and a whole number would be reached a step later or not.
    """
    mature = 0
    for unit in range(len(units.age)):
        mature += units.age[unit, learner] > rules.maturity_threshold
    due = units.accumulator[learner] + units.due[mature, learner]
    count = int(due)
    units.accumulator[learner] = due - count
    return count


@compile_loop
def choose(units: Units, rules: Rules, learner: int, count: int) -> Integers:
    """Rule 3: the mature units of lowest utility, lowest first; of equal ones, dead units say, the first."""
    mature = np.nonzero(units.age[:, learner] > rules.maturity_threshold)[0]
    utility = np.empty(len(mature), np.float32)
    for place, unit in enumerate(mature):
        utility[place] = units.utility[unit, learner] / np.float32(1 - units.decay_power[unit, learner])
    return mature[np.argsort(utility, kind="mergesort")[:count]]


@compile_loop
def move_means_to_bias(units: Units, weights: LayerWeights, learner: int, chosen: Integers) -> None:
    """Rule 4, first part: add the chosen units' mean contributions to the biases of the layer that reads them."""
    for unit in chosen:
        mean = units.activation[unit, learner] / np.float32(1 - units.decay_power[unit, learner])
        for j in range(len(weights.outgoing_bias)):
            weights.outgoing_bias[j, learner] += weights.outgoing[unit, j, learner] * mean


@compile_loop
def renew(
    units: Units, rules: Rules, weights: LayerWeights, learner: int, chosen: Integers, draws: Floats, used: Integers
) -> None:
    """Rule 4, second part: give the chosen units new incoming weights, no bias and no history.

    :param draws: shape (learners, count), uniform numbers between 0 and 1
    :param used: shape (learners,), how many of them were taken; counted up
    """
    fan_in = weights.incoming.shape[1]
    bound = np.float32(rules.gain * math.sqrt(3 / fan_in))
    for unit in chosen:
        for i in range(fan_in):
            weights.incoming[unit, i, learner] = draws[learner, used[learner] + i] * (bound + bound) - bound
        used[learner] += fan_in
        weights.bias[unit, learner] = 0
        units.age[unit, learner] = 0
        units.decay_power[unit, learner] = 1
        units.activation[unit, learner] = units.utility[unit, learner] = 0
    units.replaced[learner] += len(chosen)


@compile_loop
def silence(weights: LayerWeights, learner: int, chosen: Integers) -> None:
    """Rule 4, last part, after all layers have been renewed: set the chosen units' outgoing weights to zero."""
    for unit in chosen:
        weights.outgoing[unit, :, learner] = 0
