"""What ``ContinualBackprop`` is given: layers, functions of one's own, and mistakes."""

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop, HiddenLayer
from tests.cppo.networks import network, step, still


def test_a_utility_and_an_initializer_of_ones_own():
    net = network(3, 4, 2)
    optimizer = still(net)
    ContinualBackprop(
        net,
        optimizer,
        replacement_rate=0.25,
        maturity_threshold=0,
        utility=lambda signals: torch.tensor([3.0, 2.0, 0.0, 1.0]),
        initializer=lambda layer, count, generator: torch.full((count, 3), 7.0),
    )
    step(net, optimizer, torch.randn(5, 3))
    assert (net[0].weight == 7).all(dim=1).tolist() == [False, False, True, False]


def test_layers_named_by_hand():
    net = network(3, 6, 5, 2)
    layer = HiddenLayer(incoming=net[2], outgoing=[net[4]], activation=net[3], name="the second")
    cbp = ContinualBackprop(net, still(net), hidden_layers=[layer])
    assert [watched.name for watched in cbp.layers] == ["the second"]


def test_layers_named_by_hand_are_checked_by_numbers_where_there_is_an_example():
    net = network(3, 6, 5, 2)
    right = HiddenLayer(incoming=net[2], outgoing=[net[4]], activation=net[3], name="right")
    wrong = HiddenLayer(incoming=net[0], outgoing=[nn.Linear(6, 5)], activation=net[1], name="wrong")
    ContinualBackprop(net, still(net), hidden_layers=[right], example_input=torch.randn(4, 3)).remove()
    both = nn.ModuleList([net, wrong.outgoing[0]])
    with pytest.raises(ValueError, match=r"wrong: more than the outgoing weights.*leave out example_input"):
        ContinualBackprop(net, still(both), hidden_layers=[right, wrong], example_input=torch.randn(4, 3))


def test_it_may_be_built_in_inference_mode():
    net = network(3, 6, 2)
    optimizer = still(net)
    with torch.inference_mode():
        cbp = ContinualBackprop(net, optimizer, replacement_rate=0.5, maturity_threshold=0)
    step(net, optimizer, torch.randn(4, 3))
    assert cbp.total_replaced == 3


def test_only_layers_the_optimizer_trains_are_watched():
    net = network(3, 6, 5, 2)
    net[0].weight.requires_grad_(False)
    assert [layer.hidden_layer.incoming for layer in ContinualBackprop(net, still(net)).layers] == [net[2]]
    with pytest.raises(ValueError, match=r"none of the hidden layers whole \(0: .*its own weight; 2: .*own weight"):
        ContinualBackprop(net, torch.optim.SGD(net[0].parameters(), lr=0.1))


@pytest.mark.parametrize(
    ("argument", "value", "error", "message"),
    [
        ("replacement_rate", -0.1, ValueError, "replacement_rate=-0.1 is not allowed: it must be a number from 0 to 1"),
        ("replacement_rate", float("nan"), ValueError, "replacement_rate=nan"),
        ("replacement_rate", "0.1", TypeError, "replacement_rate='0.1'"),
        ("maturity_threshold", -1, ValueError, "maturity_threshold=-1"),
        ("maturity_threshold", 1.5, ValueError, "maturity_threshold=1.5 is not allowed: it must be a whole number"),
        ("decay_rate", 1.0, ValueError, "decay_rate=1.0"),
        ("seed", "a", TypeError, "seed='a' is not allowed: it must be None or a whole number"),
        ("seed", True, TypeError, "seed=True is not allowed"),
        ("seed", -1, ValueError, "seed=-1 is not allowed"),
        ("utility", "useful", ValueError, "'useful' is unknown"),
        ("initializer", "zeros", ValueError, "'zeros' is unknown"),
        ("hidden_layers", nn.Linear(3, 6), TypeError, "hidden_layers must be a list of HiddenLayer.*not Linear"),
        ("hidden_layers", [nn.Linear(3, 6)], TypeError, r"hidden_layers must be a list of .*not \['Linear'\]"),
        ("hidden_layers", [], ValueError, "names no layer"),
        ("module", "net", TypeError, "module must be a torch.nn.Module, not str"),
        ("optimizer", None, TypeError, "optimizer must be a torch.optim.Optimizer, not NoneType"),
    ],
)
def test_bad_arguments_are_named(argument, value, error, message):
    net = network(3, 6, 2)
    arguments = {"module": net, "optimizer": still(net)} | {argument: value}
    with pytest.raises(error, match=message):
        ContinualBackprop(**arguments)


def test_a_utility_of_wrong_shape_is_refused():
    net = network(3, 6, 2)
    optimizer = still(net)
    ContinualBackprop(net, optimizer, utility=lambda signals: torch.zeros(5))
    with pytest.raises(ValueError, match=r"the utility of 0 has shape \(5,\), not \(6,\)"):
        step(net, optimizer, torch.randn(4, 3))
