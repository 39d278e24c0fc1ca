"""Activations that are computed again in the backward pass are counted once."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from cppo import ContinualBackprop
from tests.cppo.networks import NEVER

WAYS = {
    "the whole": lambda net, x: checkpoint(net, x, use_reentrant=False),
    "the whole, the gradient through the second pass": lambda net, x: checkpoint(net, x, use_reentrant=True),
    "the first layers": lambda net, x: net[4](checkpoint(net[:4], x, use_reentrant=False)),
    "the last layers": lambda net, x: checkpoint(net[2:], net[:2](x), use_reentrant=False),
    "the last layers, the gradient through the second pass": lambda net, x: checkpoint(
        net[2:], net[:2](x), use_reentrant=True
    ),
    "in two": lambda net, x: checkpoint_sequential(net, 2, x, use_reentrant=False),
    "nested": lambda net, x: checkpoint(
        lambda y: net[2:](checkpoint(net[:2], y, use_reentrant=False)), x, use_reentrant=False
    ),
}


def learn(passing, utility):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    cbp = ContinualBackprop(net, optimizer, utility=utility, seed=0, **NEVER)
    for _ in range(3):
        optimizer.zero_grad()
        for scale in (1, 2):
            passing(net, scale * torch.randn(8, 3, requires_grad=True)).square().mean().backward()
        optimizer.step()
    assert [layer.n_samples for layer in cbp.layers] == [16, 16]
    return cbp.average_utility, cbp.average_activation


@pytest.mark.parametrize("utility", ["gradient", "contribution", "mean_corrected_contribution"])
@pytest.mark.parametrize("way", WAYS)
def test_utilities_are_those_without_checkpointing(way, utility):
    for with_it, without in zip(learn(WAYS[way], utility), learn(lambda net, x: net(x), utility), strict=True):
        torch.testing.assert_close(with_it, without)
