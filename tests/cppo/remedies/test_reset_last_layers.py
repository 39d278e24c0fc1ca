"""Resetting the last layers."""

import pytest
import torch
from torch import nn

from cppo.remedies import ResetLastLayers


def trained(n_steps, lr=0.1, layers=None, **settings):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 20), nn.ReLU(), nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 2))
    nn.init.uniform_(net[4].weight, -0.01, 0.01)
    first = [parameter.detach().clone() for parameter in net.parameters()]
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    remedy = ResetLastLayers(net, optimizer, seed=0, layers=layers and [net[each] for each in layers], **settings)
    for _ in range(n_steps):
        optimizer.zero_grad()
        net(torch.ones(4, 3)).sum().backward()
        before = [parameter.detach().clone() for parameter in net.parameters()]
        optimizer.step()
    return net, optimizer, remedy, first, before


def far(net, before, lr=0.1):
    """Layers whose weights moved further than one step of Adam moves them."""
    moved = [(one - other).abs().max().item() for one, other in zip(net.parameters(), before, strict=True)]
    return [number for number, weight in zip((0, 2, 4), moved[::2], strict=True) if weight > 1.5 * lr]


@pytest.mark.parametrize(("settings", "reset"), [({}, [4]), ({"n_layers": 2}, [2, 4]), ({"layers": [0]}, [0])])
def test_the_last_layers_are_reset_at_the_period(settings, reset):
    net, _, remedy, _, before = trained(5, every=6, **settings)
    assert far(net, before) == [] and remedy.n_resets == 0
    net, _, remedy, _, before = trained(6, every=6, **settings)
    assert far(net, before) == reset and remedy.n_resets == 1


def test_new_weights_have_the_size_of_the_first_and_biases_are_the_first():
    net, _, _, first, _ = trained(6, every=6)
    weight, bias = net[4].weight, net[4].bias
    assert weight.square().mean().item() == pytest.approx(first[4].square().mean().item(), rel=1e-4)
    assert not torch.allclose(weight, first[4], atol=1e-4)
    assert torch.equal(bias, first[5])


def test_the_next_step_is_that_of_a_new_optimizer():
    net, optimizer, _, _, _ = trained(6, every=6)
    before = net[4].weight.clone()
    net[4].weight.grad = torch.full_like(before, 0.3)
    optimizer.step()
    torch.testing.assert_close(net[4].weight, before - 0.1, atol=1e-5, rtol=0)
    assert optimizer.state[net[4].weight]["step"] == 1 and optimizer.state[net[0].weight]["step"] == 7


def test_a_network_with_two_ends_is_reset_at_both():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.body, self.two = nn.Linear(4, 1), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            features = self.body(x).relu()
            return self.one(features), self.two(features)

    net = TwoHeads()
    remedy = ResetLastLayers(net, torch.optim.SGD(net.parameters(), lr=0.1), example_input=torch.zeros(1, 3))
    assert set(remedy.layers) == {net.one, net.two}


def test_what_can_not_be_reset_is_refused():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    body = torch.optim.SGD(net[0].parameters(), lr=0.1)
    with pytest.raises(ValueError, match="the optimizer trains none of the layers to reset"):
        ResetLastLayers(net, body)
    with pytest.raises(TypeError, match="linear layers or convolutions, not ReLU"):
        ResetLastLayers(net, body, layers=[net[1]])
    with pytest.raises(ValueError, match="n_layers=0"):
        ResetLastLayers(net, body, n_layers=0)
