"""A learner on Online Permuted MNIST whose steps are compiled."""

import math

import numpy as np
import torch
from torch import nn

from cppo.benchmarks.compiled_replacement import UTILITIES, Rules, new_units, without_denormals
from cppo.benchmarks.draws import DrawnAhead
from cppo.benchmarks.learner import seed_of_new_units
from cppo.benchmarks.mnist.data import PIXELS, Digits, PermutedTasks
from cppo.benchmarks.mnist.mnist_settings import MnistSettings
from cppo.benchmarks.mnist.single import build_network
from cppo.benchmarks.mnist.sparse_network import Weights
from cppo.benchmarks.mnist.sparse_steps import Steps
from cppo.benchmarks.mnist.sparse_training import train_examples

NOISE_POOL = 2**20


class CompiledLearner:
    """Equals ``TorchLearner`` to rounding: SGD with L2, continual backpropagation or shrink and perturb, and Adam.

    The noise of shrink and perturb is of the same distribution, from a pool of a million normal numbers.

    :param settings: resolved settings, with ``is_compiled``
    :param seed: of the run
    :param digits: the images without their black pixels
    """

    def __init__(self, settings: MnistSettings, seed: int, digits: Digits) -> None:
        assert settings.width is not None and settings.depth is not None
        self._digits = digits
        self.network = build_network(settings, seed)
        self._weights = _weights_of(self.network, settings.width)
        self._moments = [Weights(*map(np.zeros_like, self._weights)) for _ in range(2)]
        rate = settings.replacement_rate or 0.0
        self._units = new_units((settings.depth, settings.width, 1), [seed], [rate])
        self._optimizer = _steps(settings, seed)
        self._rules = _rules(settings)
        self._steps = 0
        fan_ins = PIXELS + (settings.depth - 1) * settings.width
        self._draws = DrawnAhead(
            [seed_of_new_units(seed)], rate * settings.width * fan_ins, fan_ins, settings.examples_per_task
        )

    def train(self, tasks: PermutedTasks, first: int, count: int) -> int:
        """Train on some of the task's examples; return how many were classified correctly before their step."""
        correct = np.zeros(count, np.bool_)
        for start in range(0, count, self._draws.steps):
            end = min(count, start + self._draws.steps)
            with without_denormals():
                train_examples(
                    self._weights, *self._moments, self._units, self._optimizer, self._rules, self._digits,
                    tasks.order[first + start : first + end], tasks.permutation, self._steps,
                    self._draws.numbers, self._draws.used, correct[start:end],
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


def _steps(settings: MnistSettings, seed: int) -> Steps:
    return Steps(
        is_adam=settings.optimizer == "adam",
        step_size=settings.step_size or 0.0,
        weight_decay=settings.weight_decay or 0.0,
        shrinks_after=settings.noise is not None,
        noise=settings.noise or 0.0,
        pool=np.random.default_rng([seed, 3]).standard_normal(NOISE_POOL, np.float32),
        state=np.array([seed + 1], np.uint64) * np.uint64(0x9E3779B97F4A7C15),
    )


def _rules(settings: MnistSettings) -> Rules:
    utility = UTILITIES.index(settings.utility or "contribution")
    return Rules(utility, settings.maturity_threshold or 0, settings.decay_rate or 0.0, math.sqrt(2))
