from __future__ import annotations

import numpy as np
import pytest
import torch

from cppo.benchmarks.mnist.compiled_learner import CompiledLearner
from cppo.benchmarks.mnist.data import PermutedTasks, load_digits, without_black
from cppo.benchmarks.mnist.mnist_settings import MnistSettings
from cppo.benchmarks.mnist.single import TorchLearner

DIGITS = load_digits()
STEPS = 1000
"""In two tasks of half as many."""


def train_both(seed, **values):
    settings = MnistSettings(**{"width": 20, **values}).resolved()
    assert settings.is_compiled
    learners = [CompiledLearner(settings, seed, without_black(*DIGITS)), TorchLearner(settings, seed)]
    correct = []
    for learner in learners:
        tasks = PermutedTasks(*DIGITS, STEPS // 2, seed)
        correct.append(0)
        for _ in range(2):
            tasks.next()
            correct[-1] += learner.train(tasks, 0, STEPS // 2)
    return learners, correct


def assert_equal(learners, correct):
    compiled, single = learners
    for mine, theirs in zip(compiled.current_network().parameters(), single.network.parameters(), strict=True):
        np.testing.assert_allclose(mine.detach(), theirs.detach(), rtol=1e-4, atol=1e-4)
    assert correct[0] == correct[1]
    assert compiled.replaced == single.replaced


@pytest.mark.parametrize(("utility", "seed"), [("contribution", 5), ("activation", 6), ("gradient", 5)])
def test_equals_continual_backprop(utility, seed):
    """3 layers of 20 units, 1000 steps at a rate of 2e-3: a little under 120 replacements."""
    learners, correct = train_both(seed, learner="cbp", replacement_rate=2e-3, utility=utility)
    assert_equal(learners, correct)
    assert 80 < learners[0].replaced <= 120


@pytest.mark.parametrize(
    ("values", "seed"),
    [
        ({"learner": "bp", "depth": 1}, 5),
        ({"learner": "adam"}, 6),
        ({"learner": "adam", "width": 8, "depth": 2}, 5),
        ({"learner": "l2", "weight_decay": 0.1}, 6),
        ({"learner": "shrink-perturb", "weight_decay": 0.1, "noise": 0.0}, 5),
        ({"learner": "cbp-l2", "weight_decay": 0.1, "replacement_rate": 2e-3}, 7),
    ],
)
def test_equals_torch(values, seed):
    """With L2 of 0.1 some other seeds part: a unit's sum is about 1e-6 from 0, and rounding says whether it is on."""
    assert_equal(*train_both(seed, **values))


def test_noise_has_the_variance_of_all_steps():
    """Without a gradient, n steps of noise s and decay d leave s^2 * (1 + q + ... + q^(n - 1)) with q = (1 - d)^2."""
    settings = MnistSettings(learner="shrink-perturb", step_size=1e-30, weight_decay=1e28, noise=0.1).resolved()
    learner = CompiledLearner(settings, 0, without_black(*DIGITS))  # decay: step size * weight decay = 0.01
    before = [parameter.detach().clone() for parameter in learner.current_network().parameters()]
    tasks = PermutedTasks(*DIGITS, 300, seed=0)
    tasks.next()
    learner.train(tasks, 0, 300)
    expected = 0.1**2 * sum(0.99 ** (2 * step) for step in range(300))
    for first, now in zip(before, learner.current_network().parameters(), strict=True):
        change = now.detach() - first * 0.99**300
        if change.numel() > 5000:
            assert change.var().item() == pytest.approx(expected, rel=0.05)
    assert torch.isfinite(change).all()
