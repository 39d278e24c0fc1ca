"""One learner on slowly-changing regression, built from torch and the library; the slow way, and the reference."""

from collections.abc import Iterator

import torch
from torch import nn

from cppo.benchmarks.initial_networks import chain, draw_initial_weights
from cppo.benchmarks.learner import Learner
from cppo.benchmarks.regression.activations import MODULES
from cppo.benchmarks.regression.bit_flipping import INPUTS, Stream
from cppo.benchmarks.regression.regression_settings import RegressionSettings


def build_network(settings: RegressionSettings, seed: int) -> nn.Sequential:
    """The network a run begins with: one hidden layer, or none for the linear baseline."""
    kind = MODULES[settings.activation or "linear"]
    sizes = [INPUTS, 1] if settings.is_linear else [INPUTS, settings.units, 1]
    network = chain(sizes, kind, settings)
    draw_initial_weights(network, kind(), torch.Generator().manual_seed(seed))
    return network


def build_learner(settings: RegressionSettings, seed: int) -> Learner:
    """A run's learner."""
    return Learner(build_network(settings, seed), settings, seed, nn.functional.mse_loss)


def squared_errors(settings: RegressionSettings, seed: int, learner: Learner) -> Iterator[float]:
    """Train step by step; yield each step's squared error."""
    stream = Stream(seed, settings.change_every, settings.flip)
    for task in stream.tasks():
        targets = torch.from_numpy(task.targets).unsqueeze(1)
        for x, y in zip(torch.from_numpy(task.inputs()).unsqueeze(1), targets.unsqueeze(1), strict=True):
            yield float((learner.learn(x, y) - y).square())
