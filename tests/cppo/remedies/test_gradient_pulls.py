"""L2 and regenerative regularisation."""

import pytest
import torch
from torch import nn

from cppo.remedies import L2, RegenerativeRegularization
from cppo.remedies.remedy import GradientPull


def one_weight(value, lr=0.1):
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, value)
    return net, torch.optim.SGD(net.parameters(), lr=lr)


def step(net, optimizer, gradient):
    net.weight.grad = torch.tensor([[gradient]])
    optimizer.step()


def test_regenerative_regularisation_pulls_to_the_first_weights():
    net, optimizer = one_weight(2.0)
    RegenerativeRegularization(net, optimizer, strength=0.25)
    step(net, optimizer, 10.0)
    assert net.weight.item() == pytest.approx(2 - 0.1 * 10)  # at the initial weight there is no pull
    step(net, optimizer, 0.0)
    assert net.weight.item() == pytest.approx(1 - 0.1 * (2 * 0.25 * (1 - 2)))  # 1.05: back towards 2


def test_the_initial_weights_are_those_before_the_first_step():
    net, optimizer = one_weight(2.0)
    pull = RegenerativeRegularization(net, optimizer)
    nn.init.constant_(net.weight, 5.0)  # drawn anew after the remedy was put in, as a run does
    step(net, optimizer, 1.0)
    assert pull.initial(0).item() == 5.0


def test_l2_pulls_to_zero():
    net, optimizer = one_weight(2.0)
    L2(net, optimizer, weight_decay=0.5)
    step(net, optimizer, 1.0)
    assert net.weight.item() == pytest.approx(2 - 0.1 * (1 + 0.5 * 2))


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("foreach", [False, True])
def test_l2_is_the_optimizers_own_weight_decay_bit_for_bit(kind, foreach):
    results = []
    for own in (0.01, 0.0):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 3))
        optimizer = kind(net.parameters(), lr=0.01, weight_decay=own, foreach=foreach)
        if not own:
            L2(net, optimizer, weight_decay=0.01)
        for _ in range(10):
            optimizer.zero_grad()
            net(torch.randn(8, 6)).square().mean().backward()
            optimizer.step()
        results.append(torch.cat([parameter.flatten() for parameter in net.parameters()]))
    assert torch.equal(*results)


@pytest.mark.parametrize("make", [lambda n, o: L2(n, o, 0), lambda n, o: RegenerativeRegularization(n, o, 0)])
def test_strength_zero_leaves_the_gradient_as_it_is(make):
    net, optimizer = one_weight(2.0)
    make(net, optimizer)
    step(net, optimizer, 1.0)
    step(net, optimizer, 1.0)
    assert net.weight.grad.item() == 1.0


def test_the_pull_is_in_the_scale_in_which_amp_hands_gradients_to_a_fused_optimizer():
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=True)
    L2(net, optimizer, weight_decay=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(net(torch.full((1, 1), 3.0)).sum()).backward()
    scaler.step(optimizer)
    assert net.weight.item() == pytest.approx(2 - 0.1 * (3 + 0.5 * 2))


def test_a_step_with_a_closure_is_refused():
    net, optimizer = one_weight(2.0)
    L2(net, optimizer)
    with pytest.raises(ValueError, match="closure"):
        optimizer.step(lambda: net(torch.ones(1, 1)).sum())


def test_a_pull_without_a_direction_is_no_remedy():
    net = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"abstract method '?direction"):
        GradientPull(net, torch.optim.SGD(net.parameters(), lr=0.1))
