"""Steps that AMP's ``GradScaler`` skips."""

import copy

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop
from tests.cppo.networks import NEVER, network, same, still, weights_and_state


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
def test_a_step_that_grad_scaler_skips_does_nothing(fused, unscale):
    """The loss overflows in every third step; units age in the others. Unfused, nothing hears of a skipped step."""
    net = network(3, 8, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, fused=fused)
    cbp = ContinualBackprop(net, optimizer, 0.2, 2, decay_rate=0.0, seed=0)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    steps = 0
    for count in range(12):
        overflows = count % 3 == 1
        before = copy.deepcopy(weights_and_state(net, cbp))
        optimizer.zero_grad()
        loss = net(torch.randn(4, 3)).square().mean() * (float("inf") if overflows else 1.0)
        scaler.scale(loss).backward()
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        steps += not overflows
        if overflows:
            assert same(before, weights_and_state(net, cbp))
            assert not (fused and len(cbp.layers[0].replaced))
    assert cbp.age.max() == steps == 8
    assert cbp.total_replaced > 4


def test_features_that_overflowed_in_a_skipped_step_are_dropped():
    net = network(3, 8, 2, activation=nn.Identity)
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer, **NEVER)
    scaler = torch.amp.GradScaler("cpu")
    good = torch.randn(4, 3)
    for inputs in (torch.full((4, 3), float("inf")), good):
        optimizer.zero_grad()
        scaler.scale(net(inputs).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    torch.testing.assert_close(cbp.layers[0].mean_activation, net[0](good).mean(dim=0))


def test_fused_and_scaled_the_gradient_utility_is_that_of_the_loss():
    utilities = []
    for scale in (None, 1024.0):
        torch.manual_seed(0)
        net = network(3, 8, 2)
        optimizer = torch.optim.Adam(net.parameters(), fused=True)
        cbp = ContinualBackprop(net, optimizer, **NEVER, utility="gradient")
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        scaler.scale(net(torch.randn(4, 3)).square().mean()).backward()
        scaler.step(optimizer)
        utilities.append(cbp.layers[0].utility)
    torch.testing.assert_close(*utilities)
