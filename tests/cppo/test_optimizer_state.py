"""A replaced unit's weights are stepped as by a new optimizer, and no other weight notices."""

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop

ADAMS = {
    "plain": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "amsgrad": {"amsgrad": True},
    "l2": {"weight_decay": 0.01},
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 12), nn.Tanh(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 3))


def train(net, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        (net(torch.randn(16, 7)) - torch.randn(16, 3)).square().mean().backward()
        optimizer.step()
        yield


def replace(cbp, layer, unit):
    """Replace one unit now, by hand: the phases of a step on a choice of our own."""
    cbp.layers[layer].replaced = torch.tensor([unit])
    cbp.layers[layer].redraw_incoming()
    cbp.layers[layer].silence_outgoing()


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.99, 0.99)])
@pytest.mark.parametrize("options", ADAMS.values(), ids=ADAMS.keys())
def test_replaced_weights_are_stepped_as_by_a_new_adam_and_the_others_as_before(options, betas):
    """Neighbouring layers lose a unit at different times, so that one weight of theirs is replaced twice."""
    net = network()
    hyperparameters = {"lr": 1e-3, "betas": betas, "eps": 1e-5, **options}
    optimizer = torch.optim.Adam(net.parameters(), **hyperparameters)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.0)
    undisturbed = [nn.Parameter(parameter.detach().clone()) for parameter in net.parameters()]
    reference = torch.optim.Adam(undisturbed, **hyperparameters)
    fresh: dict[str, tuple[nn.Parameter, torch.optim.Adam]] = {}
    inner, reader = net[2].weight, net[4].weight
    # where the weights of unit 4 of the first layer and unit 6 of the second lie, and who must be new from when on
    places = {
        "into first": (net[0].weight, (4,), 100),
        "bias of first": (net[0].bias, (4,), 100),
        "out of first": (inner, (torch.tensor([0, 1, 2, 3, 4, 5, 7, 8, 9]), 4), 100),
        "into second": (inner, (6,), 150),
        "bias of second": (net[2].bias, (6,), 150),
        "out of second": (reader, (slice(None), 6), 150),
    }
    for step, _ in enumerate(train(net, optimizer, 250)):
        if step in (99, 149):
            replace(cbp, *((0, 4) if step == 99 else (1, 6)))
        for name, (parameter, place, since) in places.items():
            if step == since - 1:
                copy = nn.Parameter(parameter.detach()[place].clone())
                fresh[name] = copy, torch.optim.Adam([copy], **hyperparameters)
            elif step >= since:
                copy, adam = fresh[name]
                copy.grad = parameter.grad[place].clone()
                adam.step()
                torch.testing.assert_close(parameter.detach()[place], copy.detach(), atol=1e-6, rtol=0)
                copy.data.copy_(parameter.detach()[place])  # compare each update, not their accumulated rounding
        for copy, parameter in zip(undisturbed, net.parameters(), strict=True):
            copy.grad = parameter.grad.clone()
        reference.step()
        for copy, parameter in zip(undisturbed, net.parameters(), strict=True):
            old = torch.ones_like(parameter, dtype=torch.bool)
            for other, place, since in places.values():
                if other is parameter and step >= since - 1:
                    old[place] = False
            if parameter is inner and step >= 99:
                old[:, 4] = False
            torch.testing.assert_close(parameter.detach()[old], copy.detach()[old], atol=1e-6, rtol=0)
            copy.data.copy_(parameter.detach())


def test_the_first_update_of_a_new_weight_is_the_learning_rate():
    """Adam's first update is lr * g / (|g| + eps) whatever came before; uncorrected it would be .1 / sqrt(.001) as big.

    A new unit's incoming weights have no gradient in the first step, because nothing reads it yet; so the second is theirs.
    """
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-12)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.0)
    for _ in train(net, optimizer, 500):
        pass
    replace(cbp, 0, 4)
    before = net[2].weight[:, 4].detach().clone()
    for _ in train(net, optimizer, 1):
        pass
    changed = (net[2].weight[:, 4] - before).abs()[net[2].weight.grad[:, 4] != 0]
    assert len(changed)
    torch.testing.assert_close(changed, torch.full_like(changed, 1e-3), atol=1e-7, rtol=0)


def test_without_the_reset_the_old_state_stays():
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.0, reset_optimizer_state=False)
    for _ in train(net, optimizer, 20):
        pass
    before = {key: value.clone() for key, value in optimizer.state[net[0].weight].items()}
    replace(cbp, 0, 4)
    assert all(torch.equal(before[key], value) for key, value in optimizer.state[net[0].weight].items())


def test_moments_of_replaced_weights_are_zero_and_no_others():
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.0)
    for _ in train(net, optimizer, 20):
        pass
    replace(cbp, 0, 4)
    for moment in ("exp_avg", "exp_avg_sq"):
        assert (optimizer.state[net[0].weight][moment] == 0).all(dim=1).nonzero().flatten().tolist() == [4]
        assert (optimizer.state[net[2].weight][moment] == 0).all(dim=0).nonzero().flatten().tolist() == [4]
        assert optimizer.state[net[0].bias][moment][4] == 0


def test_a_parameter_without_gradient_is_not_moved():
    """A head that isn't part of the loss for a while isn't stepped by Adam, so nothing of it may be corrected."""
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.0)
    for _ in train(net, optimizer, 20):
        pass
    replace(cbp, 1, 6)
    for _ in train(net, optimizer, 1):
        pass
    before = net[4].weight.detach().clone()
    optimizer.zero_grad()
    net[:3](torch.randn(16, 7)).square().mean().backward()
    optimizer.step()
    assert torch.equal(net[4].weight, before)


def test_the_learning_rate_of_each_step_counts():
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.0)
    for _ in train(net, optimizer, 3):
        scheduler.step()
    replace(cbp, 0, 4)
    before = net[2].weight[:, 4].detach().clone()
    for _ in train(net, optimizer, 1):
        pass
    changed = (net[2].weight[:, 4] - before).abs()[net[2].weight.grad[:, 4].abs() > 1e-3]
    assert len(changed)
    torch.testing.assert_close(changed, torch.full_like(changed, 1e-3 / 8), atol=1e-7, rtol=0)
