"""What holds for every pattern of layers that is followed: the recorded readers are all there are, and a unit of
constant activation can be replaced without a trace.
"""

import copy
import re

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop
from cppo.layers.find import find_layers
from tests.cppo.patterns import BY_POSITION, MIXING, PATTERNS, Net
from tests.cppo.unwatched_patterns import LEFT_OUT


def build(name):
    """A fresh network of the pattern with norms that are not those of a new module, and an input."""
    torch.manual_seed(0)
    make, shape, watched = PATTERNS[name]
    net = make()
    for module in net.modules():
        for what in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(module, what, None) if "Norm" in type(module).__name__ else None
            if value is not None:
                value.data.uniform_(0.5, 1.5)
    inputs = torch.randn(shape) if shape else {"image": torch.rand(3, 1, 36, 36), "state": torch.randn(3, 5)}
    return net, inputs, watched


def run(net, inputs):
    outputs = net(inputs)
    return torch.cat(outputs, dim=1) if isinstance(outputs, tuple) else outputs


@pytest.mark.parametrize("name", PATTERNS)
def test_outgoing_weights_as_recorded_are_all_that_reads_a_unit(name):
    net, inputs, watched = build(name)
    net.eval()
    layers, _ = find_layers(net, inputs)
    assert [layer.name for layer in layers] == watched
    for layer in layers:
        changed = copy.deepcopy(layer.incoming.state_dict())
        before = run(net, inputs)
        layer.incoming.weight.data[1] += 1.0
        assert not torch.allclose(run(net, inputs), before, atol=1e-6)  # the unit matters
        layer.incoming.load_state_dict(changed)
        for part in layer.outgoing_weights:
            part.view().index_fill_(part.axis, torch.tensor([1]), 0.0)
        before = run(net, inputs)
        if name not in MIXING:
            layer.incoming.weight.data[1] += 1.0
        torch.testing.assert_close(run(net, inputs), before)


def replace_a_constant_unit(net, inputs, watched, unit=1):
    """Make one unit of each layer constant, replace it, and return the outputs before and after."""
    layers, _ = find_layers(net, inputs)
    layers = [layer for layer in layers if layer.name == watched]
    (layer,) = layers
    layer.incoming.weight.data[unit] = 0.0
    layer.incoming.bias.data[unit] = 0.7
    net.train()
    for module in net.modules():
        if "Norm" in type(module).__name__ or isinstance(module, nn.Dropout):
            module.eval()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    lowest = lambda signals: (torch.arange(signals.layer.n_units) != unit).float()  # noqa: E731
    rate = 1 / layer.n_units
    cbp = ContinualBackprop(net, optimizer, rate, maturity_threshold=0, utility=lowest, hidden_layers=layers, seed=0)
    before = run(net, inputs)
    before.sum().backward()
    optimizer.step()
    assert cbp.layers[0].replaced.tolist() == [unit]
    return before.detach(), run(net, inputs).detach(), layer


@pytest.mark.parametrize("name", [name for name in PATTERNS if name not in MIXING + BY_POSITION])
def test_replacing_a_unit_of_constant_activation_changes_no_output(name):
    for watched in PATTERNS[name][2]:
        net, inputs, _ = build(name)
        before, after, layer = replace_a_constant_unit(net, inputs, watched)
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
        for part in layer.outgoing_weights:
            assert not part.view().select(part.axis, 1).any()


@pytest.mark.parametrize("name", MIXING)
def test_a_layer_norm_lets_a_new_unit_move_the_others_but_not_through_its_own_weights(name):
    """Other units see the new one in the norm's mean and variance; what it sends itself is nothing."""
    net, inputs, (watched,) = build(name)
    before, after, layer = replace_a_constant_unit(net, inputs, watched)
    assert not torch.equal(before, after)
    for part in layer.outgoing_weights:
        assert not part.view().select(part.axis, 1).any()


def test_a_new_unit_has_a_new_slice_of_its_norm():
    net, inputs, _ = build("norm of a concatenation")  # x lies in 0 to 3, extra in 4 to 6, body in 7 to 12
    old = {name: value.clone() for name, value in net.norm.state_dict().items()}
    replace_a_constant_unit(net, inputs, "body", unit=2)
    new = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    for name, value in new.items():
        expected = old[name].clone()
        expected[7 + 2] = value
        assert torch.equal(net.norm.state_dict()[name], expected)


def test_behind_flattening_the_slice_of_a_norm_is_a_block():
    net, inputs, _ = build("batch norm behind flattening")
    old = net[3].weight.detach().clone()
    replace_a_constant_unit(net, inputs, "0", unit=2)
    old[2 * 36 : 3 * 36] = 1.0
    assert torch.equal(net[3].weight, old)


def test_the_optimizer_state_of_a_norm_slice_starts_afresh():
    net, inputs, _ = build("batch norm behind the activation")
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    utility = lambda signals: (torch.arange(6) != 3).float()  # noqa: E731
    ContinualBackprop(net, optimizer, 1 / 6, maturity_threshold=2, utility=utility, example_input=inputs)
    for _ in range(3):
        optimizer.zero_grad()
        net(inputs).square().sum().backward()
        optimizer.step()
    for parameter in (net[2].weight, net[2].bias):
        assert (optimizer.state[parameter]["exp_avg"] == 0).nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("name", LEFT_OUT)
def test_units_left_out_are_never_replaced_and_the_reason_is_given(name):
    make, shape, layer, reason = LEFT_OUT[name]
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape[1:]).numel(), 8), nn.ReLU(), nn.Linear(8, 1))
    net = Net(
        lambda n, x: (n.plain(x), n.odd(x)), odd=make(), plain=plain
    )  # what there is to do for certain is in plain
    inputs = torch.randn(shape)
    layers, left_out = find_layers(net, inputs)
    assert f"odd.{layer}" not in [each.name for each in layers]
    (why,) = [each.reason for each in left_out if each.name == f"odd.{layer}"]
    assert re.search(reason, why), why
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.5, maturity_threshold=0, example_input=inputs)
    before = copy.deepcopy(net.odd.get_submodule(layer).state_dict())
    for _ in range(3):
        net(inputs)[0].sum().backward()
        optimizer.step()
    assert cbp.total_replaced >= 8
    after = net.odd.get_submodule(layer).state_dict()
    assert all(torch.equal(before[key], value) for key, value in after.items())
