"""Generate-and-test in training loops as people write them."""

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop, HiddenLayer
from tests.cppo.networks import NEVER, OFTEN, network, still


def test_accumulated_gradients_equal_one_large_batch():
    """Uneven parts of a batch, their losses summed: ages count steps, averages weigh every sample the same."""
    results = []
    for parts in ([12], [1, 4, 7]):
        torch.manual_seed(0)
        net = network(3, 8, 6, 2).double()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        cbp = ContinualBackprop(net, optimizer, **OFTEN)
        generator = torch.Generator().manual_seed(1)
        for _ in range(30):
            optimizer.zero_grad()
            for part in torch.randn(12, 3, generator=generator, dtype=torch.float64).split(parts):
                net(part).square().sum().backward()
            optimizer.step()
        assert cbp.total_replaced > 10
        results.append([*net.parameters(), cbp.age, cbp.average_utility, cbp.average_activation])
    for one, accumulated in zip(*results, strict=True):
        torch.testing.assert_close(one, accumulated, rtol=1e-9, atol=1e-9)


def test_scheduler_clipping_and_changing_modes():
    """Evaluation between the steps, a new learning rate each step and clipped gradients: a unit ages once a step."""
    net = network(3, 8, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    cbp = ContinualBackprop(net, optimizer, **NEVER)
    for count in range(1, 11):
        optimizer.zero_grad()
        net(torch.randn(4, 3)).square().mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
        scheduler.step()
        net.eval()
        net(torch.randn(4, 3)).sum().backward()
        net.train()
        assert cbp.age.tolist() == [count] * 8


def test_an_empty_batch_says_nothing():
    net = network(3, 4, 2)
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer, **NEVER)
    net(torch.empty(0, 3)).sum().backward()
    optimizer.step()
    assert not cbp.age.any()


def test_passes_that_no_step_follows_are_warned_of_and_do_not_eat_the_memory_up():
    net = network(3, 4, 2)
    layer = ContinualBackprop(net, still(net), **NEVER).layers[0]
    with pytest.warns(UserWarning, match="1000 training passes without a step of the optimizer") as caught:
        for _ in range(1005):
            net(torch.randn(1, 3))
    assert len(caught) == 1
    assert len(layer.seen) == 1000


class Sequences(nn.Module):
    """Reads its hidden units twice a pass and by keyword; inputs have a time axis."""

    def __init__(self):
        super().__init__()
        self.hidden, self.reader = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x):
        h = torch.tanh(self.hidden(x))
        return self.reader(input=h[:, :1]) + self.reader(input=h[:, 1:])


def test_keyword_inputs_several_calls_and_a_time_axis():
    """The mean activation is that over batch and time of all calls: all 4 * 6 positions once."""
    net = Sequences()
    optimizer = still(net)
    layer = ContinualBackprop(
        net, optimizer, **NEVER, utility="gradient", hidden_layers=[HiddenLayer(net.hidden, [net.reader], torch.tanh)]
    ).layers[0]
    inputs = torch.randn(4, 6, 3)
    net(inputs).square().sum().backward()
    optimizer.step()
    torch.testing.assert_close(layer.mean_activation, torch.tanh(net.hidden(inputs)).mean(dim=(0, 1)))
    assert layer.utility.all()


class TwoHeads(nn.Module):
    """An actor and a critic on one hidden layer; one may run without the other, and each reads its own tensor."""

    def __init__(self):
        super().__init__()
        self.hidden, self.actor, self.critic = nn.Linear(3, 5), nn.Linear(5, 2), nn.Linear(7, 1)

    def forward(self, x, actor=True, critic=True):
        h = torch.tanh(self.hidden(x))
        values = self.critic(torch.cat([x[:, :2], h], dim=1)) if critic else 0
        return (self.actor(h) if actor else 0) + values

    def layer(self):
        return HiddenLayer(self.hidden, [self.actor, self.critic], torch.tanh, columns=[(0, 1), (2, 1)])


def test_gradient_utility_sums_the_effect_over_readers_and_passes():
    """|sum over samples of h * dLoss/dh| / samples, taken by autograd at h itself, over two backward passes."""
    net = TwoHeads().double()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    layer = ContinualBackprop(net, optimizer, **NEVER, utility="gradient", hidden_layers=[net.layer()]).layers[0]
    effect = torch.zeros(5, dtype=torch.float64)
    for batch in (torch.randn(4, 3).double(), torch.randn(9, 3).double()):
        net(batch).pow(3).sum().backward()
        h = torch.tanh(net.hidden(batch)).detach().requires_grad_()
        loss = (net.actor.forward(h) + net.critic.forward(torch.cat([batch[:, :2], h], dim=1))).pow(3).sum()
        effect += (h * torch.autograd.grad(loss, h)[0]).sum(dim=0).detach()
    expected = effect.abs() / 13
    optimizer.step()
    torch.testing.assert_close(layer.utility, expected)


@pytest.mark.parametrize("heads", [{"critic": False}, {"actor": False}])
def test_any_reader_shows_the_features(heads):
    net = TwoHeads()
    optimizer = still(net)
    layer = ContinualBackprop(net, optimizer, **NEVER, hidden_layers=[net.layer()]).layers[0]
    inputs = torch.randn(6, 3)
    net(inputs, **heads).sum().backward()
    optimizer.step()
    torch.testing.assert_close(layer.mean_activation, torch.tanh(net.hidden(inputs)).mean(dim=0))


def test_a_reader_whose_input_needs_no_gradient():
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    optimizer = still(net)
    layer = ContinualBackprop(net, optimizer, **NEVER, utility="gradient").layers[0]
    features = torch.tanh(net[0](torch.randn(7, 3))).detach()
    net[2](features).sum().backward()
    optimizer.step()
    torch.testing.assert_close(layer.utility, (features * net[2].weight.sum(dim=0)).mean(dim=0).abs())


def test_the_gradient_of_a_closure_counts():
    net = network(3, 5, 2)
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer, **NEVER, utility="gradient")

    def closure():
        loss = net(torch.randn(4, 3)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert cbp.layers[0].utility.all()


@pytest.mark.parametrize("loop", ["plain", "several passes", "two readers"])
def test_a_utility_of_ones_own_sees_everything(loop):
    seen = {}

    def mine(signals):
        seen.update(samples=len(signals.features), gradient=signals.feature_gradient)
        return signals.mean_deviation + signals.incoming_magnitude

    mine.needs_gradient = True
    net = TwoHeads() if loop == "two readers" else network(3, 5, 2)
    optimizer = still(net)
    layers = [net.layer()] if loop == "two readers" else None
    ContinualBackprop(net, optimizer, **NEVER, utility=mine, hidden_layers=layers)
    for _ in range(2 if loop == "several passes" else 1):
        net(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    assert seen["samples"] == (8 if loop == "several passes" else 4)
    assert seen["gradient"].all()
