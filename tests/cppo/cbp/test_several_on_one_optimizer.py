"""Two networks with a ContinualBackprop each, trained by one optimizer."""

import copy

import pytest
import torch

from cppo import ContinualBackprop
from tests.cppo.networks import network

OPTIONS = {"loop": {}, "corrected": {"foreach": True}, "amsgrad": {"amsgrad": True}, "sometimes": {"betas": (0.8, 0.9)}}


def build(**options):
    torch.manual_seed(0)
    nets = [network(3, 12, 10, outputs) for outputs in (2, 1)]
    optimizer = torch.optim.Adam([parameter for net in nets for parameter in net.parameters()], 1e-3, **options)
    return nets, optimizer


def learn(nets, optimizers, inputs):
    for optimizer in optimizers:
        optimizer.zero_grad()
    for net in nets:
        net(inputs).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()


@pytest.mark.parametrize(
    ("name", "utility"),
    [
        ("loop", "contribution"),
        ("loop", "gradient"),
        ("corrected", "gradient"),
        ("amsgrad", "contribution"),
        ("sometimes", "gradient"),
    ],
)
def test_each_network_learns_as_with_an_optimizer_of_its_own(name, utility):
    """Each one's births count for its own weights only, whoever of them has the step taken by a loop of its own."""
    settings = {"replacement_rate": 0.03, "maturity_threshold": 3, "utility": utility}
    nets, optimizer = build(**OPTIONS[name])
    others = copy.deepcopy(nets)
    alone = [torch.optim.Adam(net.parameters(), 1e-3, **OPTIONS[name]) for net in others]
    together = [ContinualBackprop(net, optimizer, seed=n, **settings) for n, net in enumerate(nets)]
    apart = [ContinualBackprop(others[n], alone[n], seed=n, **settings) for n in range(2)]
    for inputs in torch.randn(60, 8, 3):
        learn(nets, [optimizer], inputs)
        learn(others, alone, inputs)
        for one, other in zip(together, apart, strict=True):
            torch.testing.assert_close(one.average_utility, other.average_utility, rtol=1e-3, atol=1e-6)
    for net, other in zip(nets, others, strict=True):
        for one, two in zip(net.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    assert min(each.total_replaced for each in together) > 10
