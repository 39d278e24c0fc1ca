"""Layers that are frozen or never seen rest, and the description says so."""

import warnings

import pytest
import torch

from cppo import ContinualBackprop
from tests.cppo.networks import NEVER, OFTEN, network, step, still


@pytest.mark.parametrize(("frozen", "resting"), [("0.weight", [0]), ("2.weight", [0, 1]), ("4.weight", [1])])
def test_a_frozen_layer_rests_and_so_does_one_whose_reader_is_frozen(frozen, resting):
    net = network(3, 8, 8, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    cbp = ContinualBackprop(net, optimizer, **OFTEN)
    for _ in range(4):
        step(net, optimizer, torch.randn(5, 3))
    before = [(layer.age.clone(), layer.total_replaced) for layer in cbp.layers]
    parameter = net.get_parameter(frozen).requires_grad_(False)
    held = parameter.clone()
    for _ in range(30):
        step(net, optimizer, torch.randn(5, 3))
    for number, (layer, (age, replaced)) in enumerate(zip(cbp.layers, before, strict=True)):
        assert (torch.equal(layer.age, age) and layer.total_replaced == replaced) == (number in resting)
    assert torch.equal(parameter, held)
    parameter.requires_grad_(True)
    for _ in range(30):
        step(net, optimizer, torch.randn(5, 3))
    assert all(layer.total_replaced > replaced for layer, (_, replaced) in zip(cbp.layers, before, strict=True))


def test_a_frozen_bias_takes_nothing_over():
    net = network(3, 8, 2)
    net[2].bias.requires_grad_(False)
    optimizer = still(net)
    before = net[2].bias.clone()
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.5, maturity_threshold=0)
    step(net, optimizer, torch.randn(5, 3))
    assert cbp.total_replaced == 4
    assert torch.equal(net[2].bias, before)


def test_a_layer_that_is_never_seen_is_named_once():
    net = network(3, 8, 8, 2)
    optimizer = still(net)
    ContinualBackprop(net, optimizer, **NEVER)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(250):
            net[2](torch.randn(4, 8)).sum().backward()  # reads layer 0, so only layer 2 is never seen
            optimizer.step()
    assert [str(each.message).split(":")[0] for each in caught] == ["2"]
    assert "no training pass" in str(caught[0].message)


def test_the_description_tells_what_is_watched_and_what_is_not():
    net = network(3, 8, 8, 8, 2)
    net[0].bias.requires_grad_(False)
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=1.0, maturity_threshold=0)
    step(net, optimizer, torch.randn(4, 3))
    net[6].weight.requires_grad_(False)
    rows = [line.split(maxsplit=4) for line in cbp.describe().splitlines()]
    assert rows[0] == ["layer", "units", "read", "by", "replaced"]
    assert rows[1] == ["2", "8", "4", "8", "watched"]
    assert rows[2] == ["4", "8", "6", "8", "watched, but frozen now"]
    assert [" ".join(row) for row in rows[3:]] == [
        "6 left out: output of the network",
        "0 left out: the optimizer does not train its own bias",
    ]
