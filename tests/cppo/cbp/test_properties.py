"""Generate-and-test on random small networks, batch shapes and hyperparameters."""

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cppo import ContinualBackprop
from tests.cppo.networks import network, same, step, still, weights_and_state


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    shapes=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=12),
    rate=st.floats(0.0, 1.0),
    maturity=st.integers(0, 5),
    decay=st.floats(0.0, 0.999),
    at=st.integers(0, 11),
)
@settings(max_examples=25, deadline=None)
def test_saved_and_restored_anywhere_it_continues_alike(sizes, shapes, rate, maturity, decay, at):
    """Batches of one to three axes, one or two passes a step; counts and ages stay in their bounds."""
    nets = [network(3, *sizes, 2) for _ in range(2)]
    optimizers = [torch.optim.Adam(net.parameters(), lr=1e-2) for net in nets]
    cbps = [
        ContinualBackprop(net, optimizer, rate, maturity, decay, seed=number)
        for number, (net, optimizer) in enumerate(zip(nets, optimizers, strict=True))
    ]
    for count, shape in enumerate(shapes):
        if count == at:
            nets[1].load_state_dict(nets[0].state_dict())
            optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
            cbps[1].load_state_dict(copy.deepcopy(cbps[0].state_dict()))
        batch = torch.randn(*shape, 3)
        eligible = [int((layer.age + 1 > maturity).sum()) for layer in cbps[0].layers]
        for net, optimizer in zip(nets, optimizers, strict=True):
            step(net, optimizer, batch)
        for layer, most in zip(cbps[0].layers, eligible, strict=True):
            assert len(layer.replaced) == len(set(layer.replaced.tolist())) <= most
            assert not layer.age[layer.replaced].any()
        assert (cbps[0].accumulator < 1).all()
    if at < len(shapes):
        assert same(weights_and_state(nets[0], cbps[0]), weights_and_state(nets[1], cbps[1]))


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    batch=st.integers(1, 5),
    rate=st.floats(0.1, 1.0),
    steps=st.integers(1, 6),
    utility=st.sampled_from(["contribution", "mean_corrected_contribution", "gradient", "random"]),
)
@settings(max_examples=25, deadline=None)
def test_where_all_units_are_constant_no_replacement_changes_the_output(sizes, batch, rate, steps, utility):
    """The first layer reads nothing, so every unit of the network is constant; new units start silent."""
    net = network(3, *sizes, 2).double()
    nn.init.zeros_(net[0].weight)
    optimizer = still(net)
    cbp = ContinualBackprop(
        net,
        optimizer,
        rate,
        0,
        utility=utility,
        initializer=lambda layer, count, _: torch.zeros(count, layer.incoming.weight.shape[1]),
    )
    inputs = torch.randn(batch, 3, dtype=torch.float64)
    expected = net(inputs).detach()
    for _ in range(steps):
        step(net, optimizer, inputs)
    torch.testing.assert_close(net(inputs), expected)
    assert cbp.total_replaced <= steps * sum(sizes)
