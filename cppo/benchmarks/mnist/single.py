"""One learner on Online Permuted MNIST, built from torch and the library."""

import torch
from torch import nn

from cppo.benchmarks.initial_networks import chain, draw_initial_weights
from cppo.benchmarks.learner import Learner
from cppo.benchmarks.mnist.data import CLASSES, PIXELS, PermutedTasks
from cppo.benchmarks.mnist.mnist_settings import MnistSettings

BATCHES_AT_ONCE = 1000
"""Batches whose images are made ready together."""


def build_network(settings: MnistSettings, seed: int) -> nn.Sequential:
    """The network a run begins with; without hidden layers for the linear baseline."""
    hidden = [] if settings.width is None else [settings.width] * (settings.depth or 1)
    network = chain([PIXELS, *hidden, CLASSES], nn.ReLU, settings)
    draw_initial_weights(network, nn.ReLU(), torch.Generator().manual_seed(seed))
    return network


class TorchLearner:
    """A run's learner as a module of torch, one step a batch.

    :param settings: resolved settings
    :param seed: of the run; dropout takes its masks from torch's global generator
    """

    def __init__(self, settings: MnistSettings, seed: int) -> None:
        self._settings = settings
        self.network = build_network(settings, seed)
        self._learner = Learner(self.network, settings, seed, nn.functional.cross_entropy)
        torch.manual_seed(seed)

    def train(self, tasks: PermutedTasks, first: int, count: int) -> int:
        """Train on some of the task's examples; return how many were classified correctly before their step."""
        correct, size = 0, self._settings.batch_size
        for start in range(first, first + count, size * BATCHES_AT_ONCE):
            images, labels = tasks.examples(start, min(size * BATCHES_AT_ONCE, first + count - start))
            for batch, targets in zip(images.split(size), labels.split(size), strict=True):
                correct += int((self._learner.learn(batch, targets).argmax(dim=1) == targets).sum())
        return correct

    @property
    def replaced(self) -> int:
        """Units replaced so far."""
        return self._learner.replaced

    def current_network(self) -> nn.Sequential:
        """The network with the weights as they are."""
        return self.network
