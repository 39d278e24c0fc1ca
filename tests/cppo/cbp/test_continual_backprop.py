"""Generate-and-test: against the reference trace, by hand, and as properties."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cppo import ContinualBackprop
from tests.cppo.networks import network, step, still

GOLDEN = Path(__file__).parents[1] / "golden_contribution.npz"


def test_the_trace_of_the_reference_code_is_matched():
    """Features, ranks, ages and replaced units of the reference code; its ages are those before the replacement."""
    trace = np.load(GOLDEN)
    net = network(7, 12, 10, 3, activation=nn.ReLU)
    optimizer = still(net)
    cbp = ContinualBackprop(
        net,
        optimizer,
        replacement_rate=float(trace["replacement_rate"]),
        maturity_threshold=int(trace["maturity_threshold"]),
        decay_rate=float(trace["decay_rate"]),
    )
    total = 0
    for t, x in enumerate(trace["x"]):
        for number, linear in enumerate((net[0], net[2], net[4]), start=1):
            linear.weight.data = torch.tensor(trace[f"w{number}"][t])
            linear.bias.data = torch.tensor(trace[f"b{number}"][t])
        step(net, optimizer, torch.tensor(x))
        for number, layer in enumerate(cbp.layers, start=1):
            expected = trace[f"mask{number}"][t].nonzero()[0]
            total += len(expected)
            assert sorted(layer.replaced.tolist()) == expected.tolist()
            ages = trace[f"age{number}"][t].copy()
            ages[expected] = 0
            assert layer.age.tolist() == ages.tolist()
            np.testing.assert_allclose(layer.utility, trace[f"util{number}"][t], atol=1e-5)
    assert cbp.total_replaced == total > 20


def test_the_first_steps_by_hand():
    """One linear unit a layer's worth of numbers: h = 2 then 4, w_out = 3, decay .5, contribution = |h| * |w_out|."""
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1))
    net[0].weight.data = torch.tensor([[1.0], [0.5]])
    net[1].weight.data = torch.tensor([[3.0, -1.0]])
    optimizer = still(net)
    layer = ContinualBackprop(net, optimizer, replacement_rate=0, decay_rate=0.5).layers[0]
    step(net, optimizer, torch.tensor([[1.0], [3.0]]))
    assert layer.mean_activation.tolist() == [2.0, 1.0]  # (1 + 3) / 2, half of it; the first average is the first value
    assert layer.utility.tolist() == [6.0, 1.0]
    step(net, optimizer, torch.tensor([[4.0]]))
    assert layer.mean_activation.tolist() == pytest.approx([10 / 3, 5 / 3])  # (.5 * .5 * 2 + .5 * 4) / (1 - .25)
    assert layer.utility.tolist() == pytest.approx([10.0, 5 / 3])
    assert layer.age.tolist() == [2, 2]


@pytest.mark.parametrize("decay", [0.0, 0.5, 1 - 1e-7, 1 - 1e-12])
def test_the_mean_of_equal_steps_is_that_of_one_whatever_the_decay_rate(decay):
    """f^ = f / (1 - eta^a) undoes the start at zero; 1 - eta^a is 5e-7 or 5e-12 here, with all its digits."""
    net = network(3, 6, 2)
    optimizer = still(net)
    layer = ContinualBackprop(net, optimizer, replacement_rate=0, decay_rate=decay).layers[0]
    inputs = torch.randn(4, 3)
    for _ in range(5):
        step(net, optimizer, inputs)
    torch.testing.assert_close(layer.mean_activation, torch.tanh(net[0](inputs)).mean(dim=0), rtol=1e-5, atol=0)


@given(
    sizes=st.lists(st.integers(2, 9), min_size=1, max_size=3),
    rate=st.floats(0.0, 0.2),
    maturity=st.integers(0, 12),
    batches=st.lists(st.integers(1, 5), min_size=1, max_size=40),
    utility=st.sampled_from(["contribution", "adaptable_contribution", "random", "gradient", "weight"]),
)
@settings(max_examples=40, deadline=None)
def test_counts_ages_and_weights(sizes, rate, maturity, batches, utility):
    """Replaced so far = floor of the accumulated shares; ages count steps; new units are silent, all weights finite."""
    net = network(3, *sizes, 2, activation=nn.Tanh)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    cbp = ContinualBackprop(net, optimizer, rate, maturity, utility=utility, seed=0)
    shares = np.zeros(len(sizes))
    for batch in batches:
        ages = [layer.age.clone() for layer in cbp.layers]
        step(net, optimizer, torch.randn(batch, 3))
        for number, layer in enumerate(cbp.layers):
            grown = ages[number] + 1
            shares[number] += rate * int((grown > maturity).sum())
            assert layer.total_replaced == pytest.approx(np.floor(shares[number] + 1e-9), abs=1e-9) or (
                abs(shares[number] - round(shares[number])) < 1e-9
            )
            assert (grown[layer.replaced] > maturity).all()
            grown[layer.replaced] = 0
            assert torch.equal(layer.age, grown)
            for part in layer.hidden_layer.outgoing_weights:
                assert not part.view().index_select(1, layer.replaced).any()
    assert all(parameter.isfinite().all() for parameter in net.parameters())


def test_the_least_useful_mature_units_go():
    net = network(3, 6, 2)
    net[0].weight.data = torch.full((6, 3), 0.1)
    net[0].bias.data = torch.ones(6)
    net[2].weight.data = torch.tensor([[5.0, 1.0, 4.0, 2.0, 6.0, 3.0]]).repeat(2, 1)
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.4, maturity_threshold=2)
    for _ in range(2):
        step(net, optimizer, torch.ones(4, 3))
        assert cbp.total_replaced == 0
    step(net, optimizer, torch.ones(4, 3))  # age 3 > 2: six units are mature, floor(.4 * 6) = 2 go
    assert sorted(cbp.layers[0].replaced.tolist()) == [1, 3]
    assert cbp.layers[0].age.tolist() == [3, 0, 3, 0, 3, 3]


@pytest.mark.parametrize(("rate", "expected"), [(0.25, [0]), (0.75, [0, 1, 2])])
def test_of_equally_useless_units_the_first_go(rate, expected):
    """4 units without outgoing weights: all utilities are 0, and 4 * rate of the units are due in the first step."""
    net = network(3, 4, 1)
    net[2].weight.data.zero_()
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=rate, maturity_threshold=0)
    step(net, optimizer, torch.ones(2, 3))
    assert cbp.layers[0].replaced.tolist() == expected


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_replacing_constant_units_changes_no_output(activation):
    """Their mean contribution moves to the biases; in two neighbouring layers at once."""
    net = network(4, 8, 6, 3, activation=activation)
    net[0].weight.data[:4] = 0.0  # the constant ones; all others get outgoing weights that make them useful
    net[2].weight.data[:2] = 0.0
    net[2].weight.data[2:, 4:] += 10.0
    net[4].weight.data[:, 2:] += 10.0
    net[2].weight.data[2:, :4] *= 0.01
    net[4].weight.data[:, :2] *= 0.01
    net[0].bias.data = net[0].bias.data.abs() + 0.5
    net[2].bias.data = net[2].bias.data.abs() + 0.5
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.26, maturity_threshold=3)
    inputs = torch.randn(64, 4)
    before = net(inputs).detach()
    for _ in range(4):
        step(net, optimizer, inputs)
    assert [layer.total_replaced for layer in cbp.layers] == [2, 1]
    assert all(layer.replaced.max() < limit for layer, limit in zip(cbp.layers, (4, 2), strict=True))
    torch.testing.assert_close(net(inputs), before, atol=1e-5, rtol=1e-5)


def test_the_bias_takes_over_the_running_mean():
    """A reader's bias grows by w_out * f^ = .5 * mean(h), and stays without bias transfer."""
    for transfer, expected in ((True, 1.0 + 0.5 * 3.0), (False, 1.0)):
        net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        net[0].weight.data, net[0].bias.data = torch.tensor([[1.0]]), torch.tensor([0.0])
        net[1].weight.data, net[1].bias.data = torch.tensor([[0.5]]), torch.tensor([1.0])
        optimizer = still(net)
        ContinualBackprop(net, optimizer, replacement_rate=1.0, maturity_threshold=0, bias_transfer=transfer)
        step(net, optimizer, torch.tensor([[2.0], [4.0]]))
        assert net[1].bias.item() == pytest.approx(expected)
        assert net[1].weight.item() == 0.0


def test_all_layers_choose_before_any_is_changed():
    """Neighbours replace their units in one step; a new unit's outgoing weights end at zero whichever way they meet."""
    net = network(3, 5, 4, 2)
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.5, maturity_threshold=1, initializer="torch_default")
    for _ in range(2):
        step(net, optimizer, torch.randn(16, 3))
    first, second = cbp.layers
    assert len(first.replaced) and len(second.replaced)
    assert not net[2].weight[:, first.replaced].any()
    assert net[2].weight[second.replaced][:, [u for u in range(5) if u not in first.replaced]].all()


def test_evaluation_and_passes_without_gradient_do_not_count():
    net = network(3, 6, 2)
    optimizer = still(net)
    layer = ContinualBackprop(net, optimizer, replacement_rate=0).layers[0]
    inputs = torch.randn(8, 3)
    step(net, optimizer, inputs)
    expected = layer.mean_activation.clone()
    with torch.no_grad():
        net(inputs + 100)
    net.eval()
    net(inputs - 100)
    net.train()
    step(net, optimizer, inputs)
    torch.testing.assert_close(layer.mean_activation, expected)


def test_all_passes_since_the_last_step_count_whatever_their_size():
    net = network(3, 6, 2, activation=nn.Tanh)
    optimizer = still(net)
    layer = ContinualBackprop(net, optimizer, replacement_rate=0).layers[0]
    inputs = torch.randn(9, 3)
    net(inputs[:2]).sum().backward()
    net(inputs[2:]).sum().backward()
    optimizer.step()
    torch.testing.assert_close(layer.mean_activation, torch.tanh(net[0](inputs)).mean(dim=0))


def test_a_step_without_a_training_pass_leaves_a_layer_as_it_is():
    net = network(3, 6, 2)
    optimizer = still(net)
    layer = ContinualBackprop(net, optimizer, replacement_rate=1.0, maturity_threshold=0).layers[0]
    optimizer.step()
    assert (layer.age.max(), layer.total_replaced) == (0, 0)


def test_rate_zero_changes_nothing():
    results = []
    for watched in (True, False):
        torch.manual_seed(1)
        net = network(3, 16, 16, 2, activation=nn.Tanh)
        optimizer = torch.optim.Adam(net.parameters())
        if watched:
            ContinualBackprop(net, optimizer, replacement_rate=0.0, maturity_threshold=0)
        for _ in range(20):
            step(net, optimizer, torch.randn(8, 3))
        results.append([*net.parameters(), torch.get_rng_state()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_gradient_utility_is_the_first_order_effect_of_a_unit():
    """For a linear output and loss = sum of outputs / n, taking a unit away changes the loss by mean(h) * w_out."""
    net = network(3, 6, 1, activation=nn.Tanh)
    optimizer = still(net)
    layer = ContinualBackprop(net, optimizer, replacement_rate=0, utility="gradient").layers[0]
    inputs = torch.randn(32, 3)
    net(inputs).sum().backward()
    optimizer.step()
    features = torch.tanh(net[0](inputs))
    without = torch.stack([-(net[2].weight[0, unit] * features[:, unit]).mean() for unit in range(6)])
    torch.testing.assert_close(layer.utility, without.abs(), atol=1e-6, rtol=1e-4)
