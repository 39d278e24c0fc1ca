from __future__ import annotations

import itertools

import numpy as np
import pytest

from cppo.benchmarks.regression.batch import RegressionBatch
from cppo.benchmarks.regression.regression_settings import RegressionSettings
from cppo.benchmarks.regression.single import build_learner, squared_errors

ACTIVATIONS = ["relu", "tanh", "sigmoid", "leaky_relu", "elu", "swish"]
FAST = [("relu", "adam"), ("tanh", "sgd")]
STEPS = 900
SEEDS = [0, 1]


def assert_equal_to_single_learners(settings, seeds=SEEDS, compared=None):
    """Learners' weights, mean errors and replacements are those of torch modules trained with the library.

    :param settings: of all seeds, or of each learner
    :param compared: which learners; all if not given, of which each takes most of a second
    """
    settings = settings if isinstance(settings, list) else [settings] * len(seeds)
    batch = RegressionBatch(settings, seeds)
    errors = batch.advance(STEPS)
    for number in range(len(seeds)) if compared is None else compared:
        learner = build_learner(settings[number], seeds[number])
        expected = np.mean(list(itertools.islice(squared_errors(settings[number], seeds[number], learner), STEPS)))
        for mine, parameter in zip(batch.weights(number), learner.network.parameters(), strict=True):
            np.testing.assert_allclose(mine, parameter.detach().numpy(), rtol=1e-4, atol=1e-4)
        assert errors[number] == pytest.approx(expected, rel=1e-4)
        replaced = learner.continual_backprop.total_replaced if learner.continual_backprop else 0
        assert batch.replaced[number] == replaced
    return batch


def settings_of(learner, **values):
    return RegressionSettings(learner=learner, change_every=300, **values).resolved()


@pytest.mark.parametrize(
    ("activation", "optimizer"),
    [
        case if case in FAST else pytest.param(*case, marks=pytest.mark.slow)
        for case in itertools.product(ACTIVATIONS, ("sgd", "adam"))
    ],
)
def test_equals_single_continual_backprop(activation, optimizer):
    settings = settings_of("cbp", activation=activation, optimizer=optimizer, replacement_rate=4e-3, step_size=0.003)
    batch = assert_equal_to_single_learners(settings)
    # 5 units, mature but for 100 steps after each replacement: under 900 * 5 * 4e-3 = 18
    assert all(batch.replaced >= 10)


@pytest.mark.parametrize("utility", ["contribution", "mean_corrected_contribution", "weight", "activation", "gradient"])
def test_equals_single_learner_with_every_utility(utility):
    assert_equal_to_single_learners(settings_of("cbp", utility=utility, replacement_rate=4e-3), [0])


@pytest.mark.parametrize(
    ("learner", "optimizer"), [("bp", "sgd"), ("bp", "adam"), ("linear", "sgd"), ("linear", "adam")]
)
def test_equals_single_backprop(learner, optimizer):
    assert_equal_to_single_learners(settings_of(learner, optimizer=optimizer), [0])


@pytest.mark.parametrize(("optimizer", "weight_decay"), [("sgd", 1e-2), ("adam", 1e-3)])
def test_equals_single_learner_with_l2(optimizer, weight_decay):
    """With stronger L2 Adam blows up the rounding in units that are dead, where nothing else moves the weights.

    In single and double precision torch itself then ends .5 apart (seed 2, 1e-2) or 1e-4 (seed 5, 1e-3).
    """
    assert_equal_to_single_learners(settings_of("cbp-l2", optimizer=optimizer, weight_decay=weight_decay), [1])


def test_random_choice_of_the_only_unit_equals_any_other():
    """The library draws random utilities and new units from one generator; with one unit, nothing hangs on them."""
    random, other = (settings_of("cbp", utility=name, units=1, replacement_rate=4e-3) for name in ("random", "weight"))
    expected = assert_equal_to_single_learners(other)
    batch = RegressionBatch([random] * len(SEEDS), SEEDS)
    batch.advance(STEPS)
    for number in range(len(SEEDS)):
        for mine, theirs in zip(batch.weights(number), expected.weights(number), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    # a new unit matures for 100 steps, then 1 / 4e-3 = 250 go by: one every 350 steps
    assert batch.replaced.tolist() == expected.replaced.tolist() == [2, 2]


def test_equals_single_learner_where_all_slow_bits_are_drawn_anew():
    assert_equal_to_single_learners(settings_of("cbp", flip="all", replacement_rate=4e-3), [1])


def test_learners_of_different_settings_train_together():
    """20 learners fill one block of 16 lanes and a part of another; a few of both are compared."""
    values = itertools.product([0.01, 0.003], [0.0, 1e-2], [1e-2, 4e-3, 2e-3, 0.0, 2e-4])
    settings = [
        settings_of("cbp-l2", step_size=step_size, weight_decay=decay, replacement_rate=rate)
        for step_size, decay, rate in values
    ]
    assert_equal_to_single_learners(settings, seeds=[number % 7 for number in range(20)], compared=[0, 15, 19])
