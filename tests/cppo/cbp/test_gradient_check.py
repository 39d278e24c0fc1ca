"""Gradients and features that are not finite are refused."""

import copy

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop
from tests.cppo.networks import network


def test_what_is_not_finite_raises_and_names_the_layer():
    net = network(3, 6, 5, 2)
    optimizer = torch.optim.Adam(net.parameters())
    ContinualBackprop(net, optimizer, replacement_rate=0.5, maturity_threshold=0)
    before = copy.deepcopy(net.state_dict())
    net(torch.randn(4, 3)).sum().backward()
    net[2].bias.grad[3] = float("nan")
    with pytest.raises(FloatingPointError, match=r"gradient of 0 or its readers is not finite"):
        optimizer.step()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())

    optimizer.zero_grad()
    net(torch.randn(4, 3))
    net[0](torch.randn(4, 3))
    net[2](torch.full((1, 6), float("inf")))
    with pytest.raises(FloatingPointError, match=r"activation of 0 is not finite"):
        optimizer.step()


def test_a_gradient_that_is_not_finite_behind_dead_units_changes_no_weight():
    """No error flows back through dead units, so only the reader's own gradient shows it."""
    net = network(3, 6, 2, activation=nn.ReLU)
    net[0].bias.data.fill_(-100.0)
    optimizer = torch.optim.Adam(net.parameters())
    ContinualBackprop(net, optimizer)
    before = copy.deepcopy(net.state_dict())
    (net(torch.randn(4, 3)) - float("nan")).square().mean().backward()
    assert not net[0].bias.grad.any()
    with pytest.raises(FloatingPointError, match="gradient of 0 or its readers is not finite"):
        optimizer.step()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
