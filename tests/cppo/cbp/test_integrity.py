"""A part of a watched network that is exchanged is noticed before any weight changes."""

import copy
import warnings

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop, HiddenLayer
from tests.cppo.networks import network, step


def exchange_inner(net):
    net[0][2] = nn.Linear(8, 8)


def exchange_outer(net):
    net[0] = network(3, 8, 8, 5)


def take_away(net):
    net[0][4] = nn.Identity()
    net[2] = nn.Linear(8, 2)


def exchange_weight(net):
    net[0][2].weight = nn.Parameter(torch.zeros(8, 8))


@pytest.mark.parametrize(
    ("change", "what"),
    [(exchange_inner, r"0\.2"), (exchange_outer, "0"), (take_away, r"0\.4"), (exchange_weight, r"0\.2\.weight")],
)
@pytest.mark.parametrize("copied", [False, True])
def test_an_exchanged_part_stops_the_step(change, what, copied):
    net = nn.Sequential(network(3, 8, 8, 5), nn.Tanh(), nn.Linear(5, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=1.0, maturity_threshold=0)
    if copied:
        net, optimizer, cbp = copy.deepcopy((net, optimizer, cbp))
    change(net)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(RuntimeError, match=rf"^{what} was exchanged or taken away.*the step was not taken"):
        step(net, optimizer, torch.randn(4, 3))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    cbp.remove()
    step(net, optimizer, torch.randn(4, 3))


def test_parts_that_are_not_watched_may_be_exchanged_and_weights_moved():
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2), nn.Identity())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=1.0, maturity_threshold=0)
    net[1], net[3] = nn.Tanh(), nn.Sigmoid()
    net.double()
    net.load_state_dict({name: torch.zeros_like(value) for name, value in net.state_dict().items()})
    step(net, optimizer, torch.randn(4, 3).double())
    assert cbp.total_replaced == 8


class Auxiliary(nn.Module):
    """Has a head of which forward knows nothing."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.auxiliary = nn.Linear(3, 8), nn.Linear(8, 2), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))

    def loss(self, x):
        return self.auxiliary(torch.tanh(self.body(x))).square().sum()


def test_a_layer_that_did_not_run_when_traced_raises_an_alarm_when_it_is_trained():
    net = Auxiliary()
    cbp = ContinualBackprop(net, torch.optim.Adam(net.parameters()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(torch.randn(2, 3))
        with torch.no_grad():
            net.loss(torch.randn(2, 3))
        copy.deepcopy(net).loss(torch.randn(2, 3))
    with pytest.warns(UserWarning, match="auxiliary runs in training, but did not when the network was traced"):
        net.loss(torch.randn(2, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.loss(torch.randn(2, 3))  # once is enough
    cbp.remove()
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_no_alarm_where_the_layers_were_named_or_the_head_is_frozen():
    for frozen in (False, True):
        net = Auxiliary()
        net.auxiliary.requires_grad_(not frozen)
        named = None if frozen else [HiddenLayer(net.body, [net.head, net.auxiliary], torch.tanh)]
        ContinualBackprop(net, torch.optim.Adam(net.parameters()), hidden_layers=named)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net.loss(torch.randn(2, 3))
