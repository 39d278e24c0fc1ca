"""A learner on Online Permuted MNIST whose steps are compiled."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from cppo.benchmarks.learner import seed_of_new_units
from cppo.benchmarks.mnist.data import CLASSES, PIXELS, PermutedTasks
from cppo.benchmarks.mnist.generate_and_test import UTILITIES, Test, Units
from cppo.benchmarks.mnist.kernel import Lateness, Rules, Weights, catch_up_all
from cppo.benchmarks.mnist.loop import Digits, Examples, train_examples
from cppo.benchmarks.mnist.settings import MnistSettings
from cppo.benchmarks.mnist.single import build_network
from cppo.benchmarks.regression.batch import without_denormals
from cppo.benchmarks.regression.draws import DrawnAhead

MOST_DRAWN_AHEAD = 2_000_000
"""Random numbers drawn before they are needed: 8 MB."""

NOISE_POOL = 2**20


class CompiledLearner:
    """What ``TorchLearner`` does, to rounding: SGD with L2, continual backpropagation or shrink and perturb, and Adam.

    The noise of shrink and perturb is of the same distribution, from a pool of a million normal numbers.

    :param settings: resolved settings, with ``is_compiled``
    :param seed: of the run
    :param digits: the images without their black pixels
    """

    def __init__(self, settings: MnistSettings, seed: int, digits: Digits) -> None:
        assert settings.width is not None and settings.depth is not None
        self._settings, self._digits = settings, digits
        self.network = build_network(settings, seed)
        self._weights = _weights_of(self.network, settings.width)
        empty = _empty(settings.depth, settings.width, CLASSES)
        is_adam = settings.optimizer == "adam"
        self._mean, self._square = (_zeros_like(self._weights) if is_adam else empty for _ in range(2))
        self._units = _new_units(settings.depth, settings.width)
        self._rules = _rules(settings)
        self._test = _test(settings)
        widest = max(PIXELS, settings.width)
        pool = np.random.default_rng([seed, 3]).standard_normal(NOISE_POOL, np.float32)
        state = np.array([seed + 1], np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self._late = Lateness(np.zeros((settings.depth + 1, widest), np.int64), pool, state)
        self._steps = 0
        fan_ins = PIXELS + (settings.depth - 1) * settings.width
        self._draws_per_step = self._test.rate * settings.width * fan_ins
        most = math.floor(MOST_DRAWN_AHEAD / self._draws_per_step) if self._draws_per_step else 2**62
        self._most_steps = max(1, most)
        steps = min(self._most_steps, settings.examples_per_task)
        ready = math.ceil(self._draws_per_step * steps) + fan_ins if self._test.rate else 1
        self._draws = DrawnAhead(
            lambda count, generator: torch.empty(count).uniform_(generator=generator), [seed_of_new_units(seed)], ready
        )

    def train(self, tasks: PermutedTasks, first: int, count: int) -> int:
        """Train on some of the task's examples; return how many were classified correctly before their step."""
        correct = np.zeros(count, np.bool_)
        for start in range(0, count, self._most_steps):
            end = min(count, start + self._most_steps)
            examples = Examples(tasks.order[first + start : first + end], tasks.permutation)
            with without_denormals():
                self._draws.used[0] = train_examples(
                    self._weights, self._mean, self._square, self._units, self._late, self._rules, self._test,
                    self._digits, examples, self._steps, self._draws.rows[0], correct[start:end],
                )  # fmt: skip
            self._draws.refill()
            self._steps += end - start
        return int(correct.sum())

    @property
    def replaced(self) -> int:
        """Units replaced so far."""
        return int(self._units.replaced.sum())

    @torch.no_grad()
    def current_network(self) -> nn.Sequential:
        """The network with the weights as they are."""
        if self._settings.optimizer == "sgd":
            catch_up_all(self._weights, self._late, self._rules, self._steps)
        weights = self._weights
        matrices = [weights.first, *weights.hidden, weights.last]
        layers = [module for module in self.network if isinstance(module, nn.Linear)]
        for layer, matrix, bias in zip(layers, matrices, [*weights.biases, weights.last_bias], strict=True):
            layer.weight.copy_(torch.from_numpy(matrix.T))
            layer.bias.copy_(torch.from_numpy(bias))
        return self.network


def _weights_of(network: nn.Sequential, width: int) -> Weights:
    layers = [module for module in network if isinstance(module, nn.Linear)]
    matrices = [np.ascontiguousarray(layer.weight.detach().numpy().T) for layer in layers]
    biases = [layer.bias.detach().numpy().copy() for layer in layers]
    hidden = np.stack(matrices[1:-1]) if matrices[1:-1] else np.zeros((0, width, width), np.float32)
    return Weights(matrices[0], hidden, matrices[-1], np.stack(biases[:-1]), biases[-1])


def _zeros_like(weights: Weights) -> Weights:
    return Weights(*(np.zeros_like(array) for array in weights))


def _empty(depth: int, width: int, classes: int) -> Weights:
    """Stands for moments that there are not."""
    shapes = ((0, width), (0, width, width), (0, classes), (0, width), (0,))
    return Weights(*(np.zeros(shape, np.float32) for shape in shapes))


def _new_units(depth: int, width: int) -> Units:
    shape = (depth, width)
    return Units(
        age=np.zeros(shape, np.int64),
        decay_power=np.ones(shape),
        activation=np.zeros(shape, np.float32),
        utility=np.zeros(shape, np.float32),
        accumulator=np.zeros(depth),
        replaced=np.zeros(depth, np.int64),
    )


def _rules(settings: MnistSettings) -> Rules:
    step_size, decay = settings.step_size or 0.0, settings.weight_decay or 0.0
    if settings.optimizer == "sgd":
        decay *= step_size
    return Rules(step_size, decay, settings.noise is None, settings.noise or 0.0)


def _test(settings: MnistSettings) -> Test:
    number = UTILITIES.index(settings.utility) if settings.utility else 0
    rate, maturity = settings.replacement_rate or 0.0, settings.maturity_threshold or 0
    return Test(rate, maturity, settings.decay_rate or 0.0, number)
