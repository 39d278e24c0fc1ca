"""The loop over examples for the network in ``sparse_network.py``, compiled."""

import numpy as np
from numpy.typing import NDArray

from cppo.benchmarks.compiled_replacement import (
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
from cppo.benchmarks.mnist.data import Digits
from cppo.benchmarks.mnist.sparse_network import Trace, Weights, bias_of, find_error, matrix, new_trace, predict
from cppo.benchmarks.mnist.sparse_steps import Steps, step_adam, step_sgd
from cppo.compiled import compile_loop


@compile_loop
def train_examples(
    weights: Weights, mean: Weights, square: Weights, units: Units, steps: Steps, rules: Rules, digits: Digits,
    order: Integers, permutation: Integers, now: int, draws: Floats, used: Integers, correct: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Train on examples one by one.

    :param mean: Adam's moments; empty for SGD
    :param units: of shape (depth, width, 1)
    :param order: shape (steps,), which images come
    :param permutation: shape (pixels,), where each pixel goes
    :param now: steps before these
    :param draws: shape (1, count), uniform numbers for new units
    :param used: shape (1,), how many of them were taken; counted up
    :param correct: shape (steps,), written: whether the prediction before the step was right
    """
    trace, is_continual = new_trace(weights), units.due[0, -1, 0] > 0
    for step, image in enumerate(order):
        _show(digits, image, permutation, trace)
        label = digits.labels[image]
        correct[step] = predict(weights, trace) == label
        find_error(trace.logits, label)
        if steps.is_adam:
            step_adam(weights, mean, square, trace, steps, now + step)
        else:
            step_sgd(weights, trace, steps)
        if is_continual:
            _generate_and_test(weights, units, rules, trace, draws, used)


@compile_loop
def _show(digits: Digits, image: int, permutation: Integers, trace: Trace) -> None:
    start, end = digits.starts[image], digits.starts[image + 1]
    trace.counts[0] = end - start
    for k in range(end - start):
        trace.rows[0, k] = permutation[digits.pixels[start + k]]
        trace.values[0, k] = digits.values[start + k]


@compile_loop
def _generate_and_test(
    weights: Weights, units: Units, rules: Rules, trace: Trace, draws: Floats, used: Integers
) -> None:
    """Run the phases of ``compiled_replacement.py``, each on all layers before the next one."""
    depth, width = trace.features.shape
    chosen, counts = np.empty((depth, width), np.int64), np.zeros(depth, np.int64)
    for layer in range(depth):
        of_layer = _units_of(units, layer)
        age_and_average(of_layer, rules, _signals_of(trace, layer))
        counts[layer] = take_due(of_layer, rules, 0)
        if counts[layer]:
            chosen[layer, : counts[layer]] = choose(of_layer, rules, 0, counts[layer])
    if not counts.any():
        return
    for layer in range(depth):
        around = _weights_around(weights, layer)
        move_means_to_bias(_units_of(units, layer), around, 0, chosen[layer, : counts[layer]])
    for layer in range(depth):
        around = _weights_around(weights, layer)
        renew(_units_of(units, layer), rules, around, 0, chosen[layer, : counts[layer]], draws, used)
    for layer in range(depth):
        silence(_weights_around(weights, layer), 0, chosen[layer, : counts[layer]])


@compile_loop
def _units_of(units: Units, layer: int) -> Units:
    return Units(
        units.age[layer], units.decay_power[layer], units.activation[layer], units.utility[layer],
        units.accumulator[layer], units.replaced[layer], units.random_state[layer], units.due[layer],
    )  # fmt: skip


@compile_loop
def _signals_of(trace: Trace, layer: int) -> Signals:
    """What the step tells of a layer; mean |w_in| isn't known, and no utility that is compiled here reads it."""
    shape = (trace.features.shape[1], 1)
    features, gradient = trace.features[layer].reshape(shape), trace.gradient[layer].reshape(shape)
    outgoing, utility = trace.outgoing[layer].reshape(shape), trace.utility[layer].reshape(shape)
    return Signals(features, gradient, outgoing, outgoing, utility)


@compile_loop
def _weights_around(weights: Weights, layer: int) -> LayerWeights:
    """The weights that feed and read a hidden layer, each with an axis for the one learner."""
    incoming = np.expand_dims(matrix(weights, layer).T, -1)
    outgoing = np.expand_dims(matrix(weights, layer + 1), -1)
    bias, reader_bias = np.expand_dims(bias_of(weights, layer), -1), np.expand_dims(bias_of(weights, layer + 1), -1)
    return LayerWeights(incoming, bias, outgoing, reader_bias)
