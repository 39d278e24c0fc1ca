"""A module is watched by one ``ContinualBackprop`` at a time."""

import copy

import pytest
import torch

from cppo import ContinualBackprop, HiddenLayer
from tests.cppo.networks import OFTEN, network, step, still


def test_a_second_one_on_the_same_network_is_refused():
    net = network(3, 8, 2)
    cbp = ContinualBackprop(net, still(net), **OFTEN)
    with pytest.raises(
        ValueError, match=r"0: Linear.* is watched by another ContinualBackprop; call that one's remove"
    ):
        ContinualBackprop(net, still(net))
    cbp.remove()
    assert ContinualBackprop(net, still(net)).layers


def test_neighbours_that_share_a_module_are_refused_and_others_are_not():
    """Both would correct the optimizer's updates of the weights between two layers whose units both replace."""
    net = network(3, 8, 7, 6, 2)
    optimizer = still(net)
    first, second, third = (HiddenLayer(net[at], [net[at + 2]], net[at + 1], name=str(at)) for at in (0, 2, 4))
    cbp = ContinualBackprop(net, optimizer, hidden_layers=[first])
    with pytest.raises(ValueError, match="2: Linear"):
        ContinualBackprop(net, optimizer, hidden_layers=[second])
    other = ContinualBackprop(net, optimizer, 1.0, 0, hidden_layers=[third])
    step(net, optimizer, torch.randn(4, 3))
    assert (cbp.total_replaced, other.total_replaced) == (0, 6)


def test_one_dropped_with_its_optimizer_does_not_count_and_leaves_nothing():
    net = network(3, 8, 2)
    ContinualBackprop(net, still(net))
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer, 1.0, 0)
    step(net, optimizer, torch.randn(4, 3))
    assert cbp.total_replaced == 8
    assert [len(module._forward_pre_hooks) for module in net] == [0, 0, 1]


def test_a_copy_claims_its_own_network():
    net = network(3, 8, 2)
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer)
    other_net, other_optimizer, other = copy.deepcopy((net, optimizer, cbp))
    with pytest.raises(ValueError, match="watched by another"):
        ContinualBackprop(other_net, other_optimizer)
    other.remove()
    assert ContinualBackprop(other_net, other_optimizer).layers
