"""Features and weights that stop being finite are named before a unit is replaced."""

import pytest
import torch

from cppo import ContinualBackprop
from tests.cppo.networks import network


def test_what_is_not_finite_raises_and_names_the_layer():
    net = network(3, 6, 5, 2)
    optimizer = torch.optim.Adam(net.parameters())
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.5, maturity_threshold=0)
    net(torch.randn(4, 3)).sum().backward()
    net[0](torch.randn(4, 3))
    net[2](torch.full((1, 6), float("inf")))
    with pytest.raises(FloatingPointError, match=r"activation of 0 is not finite"):
        optimizer.step()
    assert cbp.total_replaced == 0


def test_a_gradient_that_is_not_finite_shows_in_the_utilities_after_the_step():
    net = network(3, 6, 5, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.5, maturity_threshold=0)
    net(torch.randn(4, 3)).sum().backward()
    net[2].weight.grad[3, 4] = float("nan")
    with pytest.raises(FloatingPointError, match=r"utility of 0 is not finite \(units \[4\]\); nothing was replaced"):
        optimizer.step()
    assert cbp.total_replaced == 0
