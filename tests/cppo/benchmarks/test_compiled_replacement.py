"""The compiled twin of generate-and-test against the trace of the reference code that holds the library too."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cppo.benchmarks.compiled_replacement import (
    CONTRIBUTION,
    LayerWeights,
    Rules,
    Signals,
    age_and_average,
    choose,
    move_means_to_bias,
    new_units,
    renew,
    silence,
    take_due,
)

GOLDEN = Path(__file__).parents[1] / "golden_contribution.npz"
NOTHING = np.zeros(0, np.int64)


def signals_of(features, reader):
    """What the trace's step tells of ReLU units: the mean over its batch, which is the mean of |h| too."""
    h = features.mean(axis=0, dtype=np.float32)[:, None]
    return Signals(h, np.zeros_like(h), np.abs(reader).mean(axis=0)[:, None], np.ones_like(h), np.zeros_like(h))


def around(trace, t, number):
    """Copies of the weights that feed and read a layer, in the twin's order."""
    incoming, outgoing = trace[f"w{number}"][t], trace[f"w{number + 1}"][t].T
    biases = trace[f"b{number}"][t], trace[f"b{number + 1}"][t]
    return LayerWeights(*(np.expand_dims(each, -1).copy() for each in (incoming, biases[0], outgoing, biases[1])))


def test_the_trace_of_the_reference_code_is_matched():
    """Ranks, ages and replaced units of the reference code; its ages are those before the replacement."""
    trace = dict(np.load(GOLDEN))
    rules = Rules(CONTRIBUTION, int(trace["maturity_threshold"]), float(trace["decay_rate"]), 1.0)
    rate = float(trace["replacement_rate"])
    layers = {number: new_units((size, 1), [0], [rate]) for number, size in ((1, 12), (2, 10))}
    draws, used = np.full((1, 12), 0.75, np.float32), np.zeros(1, np.int64)
    total = 0
    for t, features in enumerate(trace["x"]):
        for number, units in layers.items():
            features = np.maximum(features @ trace[f"w{number}"][t].T + trace[f"b{number}"][t], 0)
            age_and_average(units, rules, signals_of(features, trace[f"w{number + 1}"][t]))
            utility = units.utility / (1 - units.decay_power)
            np.testing.assert_allclose(utility[:, 0], trace[f"util{number}"][t], atol=1e-5)
            assert units.age[:, 0].tolist() == trace[f"age{number}"][t].tolist()
            count = take_due(units, rules, 0)
            chosen = choose(units, rules, 0, count) if count else NOTHING
            assert sorted(chosen.tolist()) == trace[f"mask{number}"][t].nonzero()[0].tolist()
            used[:] = 0
            renew(units, rules, around(trace, t, number), 0, chosen, draws, used)
            total += count
    assert sum(units.replaced[0] for units in layers.values()) == total > 20


def test_a_replaced_unit_hands_on_its_mean_and_is_new():
    """Two steps at decay .5: the mean of h = 2 and 4 is (.5 * .5 * 2 + .5 * 4) / .75 = 10/3; w_out = 3 and -1.

    Gain 1, fan in 3: weights are between -1 and 1, so that the draws 0, .5 and .75 become -1, 0 and .5. The second of
    two learners stays as it is.
    """
    units, rules = new_units((1, 2), [0, 0], [1.0, 0.0]), Rules(CONTRIBUTION, 1, 0.5, 1.0)
    weights = LayerWeights(*(np.ones(shape, np.float32) for shape in ((1, 3, 2), (1, 2), (1, 2, 2), (2, 2))))
    weights.outgoing[0, :, 0] = 3, -1
    for h in (2, 4):
        features = np.full((1, 2), h, np.float32)
        age_and_average(units, rules, Signals(features, features, features, features, np.zeros_like(features)))
    assert [take_due(units, rules, learner) for learner in (0, 1)] == [1, 0]
    chosen, used = choose(units, rules, 0, 1), np.zeros(2, np.int64)
    move_means_to_bias(units, weights, 0, chosen)
    renew(units, rules, weights, 0, chosen, np.array([[0, 0.5, 0.75, 9]] * 2, np.float32), used)
    silence(weights, 0, chosen)
    np.testing.assert_allclose(weights.outgoing_bias[:, 0], [1 + 3 * 10 / 3, 1 - 10 / 3], rtol=1e-6)
    np.testing.assert_allclose(weights.incoming[0, :, 0], [-1, 0, 0.5], atol=1e-6)
    assert (weights.bias[0, 0], weights.outgoing[0, :, 0].tolist(), used.tolist()) == (0, [0, 0], [3, 0])
    assert (units.age.tolist(), units.replaced.tolist()) == ([[0, 2]], [1, 0])
    assert (weights.incoming[..., 1] == 1).all() and (weights.outgoing[..., 1] == 1).all()
