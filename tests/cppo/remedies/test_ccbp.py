"""Continuous continual backpropagation."""

import math

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop
from cppo.remedies import CCBP


def network():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
        net[0].bias.fill_(0.5)
        net[2].weight.copy_(torch.tensor([[4.0, 8.0]]))
    return net


def stepped(net, gradients, n_steps=1, **settings):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    ccbp = CCBP(net, optimizer, initializer=lambda layer, count, generator: torch.full((count, 2), 10.0), **settings)
    for _ in range(n_steps):
        net[0].weight.grad = torch.tensor(gradients)
        optimizer.step()
    return ccbp


def test_utility_is_a_running_average_of_the_units_share_of_the_gradient():
    ccbp = stepped(network(), [[0.1, -0.2], [0.4, 0.5]], decay_rate=0.9)
    # mean |g| is 0.15 and 0.45, their mean 0.3: scores 0.5 and 1.5; averages start from 1
    assert ccbp.utility(0).tolist() == pytest.approx([0.9 * 1 + 0.1 * 0.5, 0.9 * 1 + 0.1 * 1.5])


def test_the_share_falls_with_utility():
    ccbp = stepped(network(), [[1.0, 1.0], [1.0, 1.0]], replacement_rate=0.5, sharpness=2.0, threshold=0.5)
    assert ccbp.share(torch.tensor([0.0, 0.5, 1.5])).tolist() == pytest.approx([0.5, 0.5, 0.5 * math.exp(-2)])


def test_weights_move_by_the_share_to_new_ones_and_to_zero():
    net = network()
    # utilities 0.5 and 1.5 with decay 0: shares 0.4 and 0.4 * exp(-(1.5 - 0.5))
    ccbp = stepped(
        net,
        [[0.1, -0.2], [0.4, 0.5]],
        every=1,
        replacement_rate=0.4,
        decay_rate=0.0,
        sharpness=1.0,
        threshold=0.5,
    )
    p, q = 0.4, 0.4 * math.exp(-1)
    assert net[0].weight[:, 0].tolist() == pytest.approx([(1 - p) * 1 + p * 10, (1 - q) * 2 + q * 10])
    assert net[2].weight[0].tolist() == pytest.approx([(1 - p) * 4, (1 - q) * 8])
    assert net[0].bias.tolist() == [0.5, 0.5]
    assert ccbp.utility(0).tolist() == [1, 1]  # from here on they are measured anew


def test_it_acts_every_so_many_steps():
    net = network()
    stepped(net, [[0.0, 0.0], [1.0, 1.0]], n_steps=3, every=4, decay_rate=0.0)
    assert torch.equal(net[0].weight, network()[0].weight)
    stepped(net, [[0.0, 0.0], [1.0, 1.0]], n_steps=4, every=4, decay_rate=0.0)
    assert not torch.equal(net[0].weight, network()[0].weight)


def test_rate_zero_changes_no_bit():
    net = network()
    stepped(net, [[0.1, 0.2], [0.3, 0.4]], n_steps=3, every=1, replacement_rate=0.0)
    assert torch.equal(net[0].weight, network()[0].weight) and torch.equal(net[2].weight, network()[2].weight)


def test_two_that_replace_units_do_not_share_a_network():
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    ccbp = CCBP(net, optimizer)
    with pytest.raises(ValueError, match="is watched by a CCBP; call that one's remove"):
        ContinualBackprop(net, optimizer)
    ccbp.remove()
    ContinualBackprop(net, optimizer)
