"""The published network of Continual ImageNet, and the linear baseline."""

import torch
from torch import nn

from cppo.benchmarks.images.data import SHAPE
from cppo.benchmarks.images.images_settings import ImagesSettings
from cppo.benchmarks.initial_networks import draw_initial_weights

CLASSES = 2


def build_network(settings: ImagesSettings, seed: int) -> nn.Sequential:
    """Three convolutions with ReLU and max-pooling and three linear layers; for the linear baseline only one."""
    if settings.is_convolutional:
        network = _convolutional()
    else:
        network = nn.Sequential(nn.Flatten(), nn.Linear(SHAPE[0] * SHAPE[1] * SHAPE[2], CLASSES))
    draw_initial_weights(network, nn.ReLU(), torch.Generator().manual_seed(seed))
    return network


def _convolutional() -> nn.Sequential:
    modules: list[nn.Module] = []
    for channels, units, kernel in ((3, 32, 5), (32, 64, 3), (64, 128, 3)):
        modules += [nn.Conv2d(channels, units, kernel), nn.ReLU(), nn.MaxPool2d(2)]
    modules.append(nn.Flatten())
    for inputs in (128 * 2 * 2, 128):
        modules += [nn.Linear(inputs, 128), nn.ReLU()]
    return nn.Sequential(*modules, nn.Linear(128, CLASSES))


@torch.no_grad()
def renew_output(network: nn.Sequential) -> None:
    """Give a new task a new output layer: one of zeros, as published; the optimizer's momentum stays."""
    output = network[-1]
    assert isinstance(output, nn.Linear)
    output.weight.zero_()
    output.bias.zero_()
