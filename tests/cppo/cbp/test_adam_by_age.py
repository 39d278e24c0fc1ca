"""Adam's step in a compiled loop equals torch's step and its correction, from the first replacement on."""

import copy

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop
from cppo.cbp.adam_by_age import AdamByAge


def mlp():
    return nn.Sequential(nn.Linear(7, 12), nn.Tanh(), nn.Linear(12, 150), nn.ReLU(), nn.Linear(150, 3))


def convolutional():
    """Columns in blocks: 3 x 3 weights of a kernel, and 4 positions of a channel behind the flattening."""
    features = [nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(20, 9), nn.LayerNorm(9), nn.ReLU(), nn.Linear(9, 3))


class Joined(nn.Module):
    """The last layer reads two layers' units side by side, and there is a parameter that nothing uses."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(7, 8), nn.Linear(7, 5)
        self.last = nn.Linear(13, 3)
        self.idle = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.last(torch.cat([self.one(x).relu(), self.other(x).relu()], dim=1))


INPUTS = {mlp: (7,), convolutional: (2, 6, 6), Joined: (7,)}


def train(net, optimizer, steps, seed=0, shape=(7,)):
    generator = torch.Generator().manual_seed(seed)
    dtype = next(net.parameters()).dtype
    for _ in range(steps):
        x = torch.randn(16, *shape, generator=generator).to(dtype)
        y = torch.randn(16, 3, generator=generator).to(dtype)
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()


def pair(build, kind=torch.optim.Adam, dtype=torch.float32, **options):
    """Two equal networks, whose units are replaced fast from the start."""
    torch.manual_seed(0)
    first = build().to(dtype)
    trained = []
    for net in (first, copy.deepcopy(first)):
        optimizer = kind(net.parameters(), **{"lr": 1e-3, **options})
        example = torch.zeros(2, *INPUTS[build], dtype=dtype)
        trained.append((net, optimizer, ContinualBackprop(net, optimizer, 2e-2, 5, seed=1, example_input=example)))
    return trained


def assert_equal_with_and_without(trained, shape, monkeypatch, steps=40):
    (net, optimizer, cbp), (other_net, other_optimizer, other_cbp) = trained
    steps_taken = []
    take_step = AdamByAge.take_step
    monkeypatch.setattr(AdamByAge, "take_step", lambda *args: (steps_taken.append(1), take_step(*args)))
    train(net, optimizer, steps, shape=shape)
    monkeypatch.setattr(AdamByAge, "is_current", lambda _: False)
    monkeypatch.setattr(AdamByAge, "look_up", lambda _: False)
    train(other_net, other_optimizer, steps, shape=shape)
    assert len(steps_taken) > steps / 2
    assert cbp.total_replaced == other_cbp.total_replaced > 5
    for mine, theirs in zip(net.parameters(), other_net.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=2e-6)
    for mine, theirs in zip(optimizer.state.values(), other_optimizer.state.values(), strict=True):
        assert mine["step"] == theirs["step"]
        torch.testing.assert_close(mine["exp_avg_sq"], theirs["exp_avg_sq"], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("build", [mlp, convolutional])
def test_equals_torch_and_its_correction(build, monkeypatch):
    """In front of a batch norm a bias' gradient is nothing but rounding, which Adam would blow up but for its eps."""
    assert_equal_with_and_without(pair(build, eps=1e-3), INPUTS[build], monkeypatch)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.Adam, {"weight_decay": 0.1, "betas": (0.99, 0.99)}),
        (torch.optim.AdamW, {"weight_decay": 0.1, "eps": 1e-5}),
        (torch.optim.Adam, {"maximize": True, "lr": 1e-4, "betas": (0.0, 0.9)}),
        (torch.optim.Adam, {"dtype": torch.float64}),
        (torch.optim.AdamW, {"fused": True}),
    ],
)
def test_equals_torch_and_its_correction_with_every_option(kind, options, monkeypatch):
    assert_equal_with_and_without(pair(mlp, kind, **options), (7,), monkeypatch)


def test_a_group_has_its_own_rules_and_a_parameter_without_gradient_stays(monkeypatch):
    torch.manual_seed(0)
    trained = []
    first = Joined()
    for net in (first, copy.deepcopy(first)):
        groups = [{"params": net.last.parameters(), "lr": 1e-2}, {"params": [*net.one.parameters(), net.idle]}]
        optimizer = torch.optim.Adam([*groups, {"params": net.other.parameters(), "betas": (0.5, 0.9)}], lr=1e-3)
        trained.append((net, optimizer, ContinualBackprop(net, optimizer, 2e-2, 5, seed=1)))
    assert_equal_with_and_without(trained, (7,), monkeypatch)
    assert torch.equal(first.idle, torch.ones(2))


def test_hooks_of_others_run_before_and_after_the_step():
    net, optimizer, cbp = pair(mlp)[0]
    train(net, optimizer, 30)
    assert cbp.total_replaced
    seen = []

    def silence(*_):
        net[0].weight.grad.zero_()

    optimizer.register_step_pre_hook(silence)  # it comes after ours, and counts
    optimizer.register_step_post_hook(
        lambda self, *_: seen.append(self is optimizer and net[4].weight.grad is not None)
    )
    square = optimizer.state[net[0].weight]["exp_avg_sq"].clone()
    train(net, optimizer, 1)
    assert seen == [True]
    decayed = 0.999 * square
    torch.testing.assert_close(optimizer.state[net[0].weight]["exp_avg_sq"], decayed, rtol=1e-5, atol=1e-12)


def test_a_group_added_later_is_stepped_and_so_is_one_that_had_no_gradient():
    net, optimizer, cbp = pair(mlp)[0]
    late, later = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))
    optimizer.add_param_group({"params": [late]})
    train(net, optimizer, 30)
    assert cbp.total_replaced
    assert torch.equal(late, torch.ones(3))
    optimizer.add_param_group({"params": [later]})
    for number in range(1, 4):
        for parameter in (*net.parameters(), late, later):
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        torch.testing.assert_close(late, torch.full((3,), 1 - number * 1e-3))  # Adam's steps for a constant gradient
        torch.testing.assert_close(later, torch.full((2, 2), 1 - number * 1e-3))


@pytest.mark.parametrize("exchange", [lambda _: None, lambda gradient: torch.ones(1, 1).expand_as(gradient)])
def test_a_hook_may_exchange_a_gradient_for_one_that_the_loop_cannot_take(exchange):
    """Without one a parameter stays; one that lies in memory in another way has the effect of its copy."""
    ways = exchange, lambda gradient: found.contiguous() if (found := exchange(gradient)) is not None else None
    trained = pair(mlp)
    for (net, optimizer, cbp), way in zip(trained, ways, strict=True):
        train(net, optimizer, 30)
        assert cbp.total_replaced
        weight = net[0].weight
        optimizer.register_step_pre_hook(lambda *_, way=way, weight=weight: setattr(weight, "grad", way(weight.grad)))
        train(net, optimizer, 3, seed=1)
    for mine, theirs in zip(trained[0][0].parameters(), trained[1][0].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_autograd_notices_that_weights_have_changed():
    net, optimizer, cbp = pair(mlp)[0]
    train(net, optimizer, 30)
    assert cbp.total_replaced
    loss = net(torch.randn(16, 7)).mean()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_what_a_user_chose_stays(monkeypatch):
    monkeypatch.setattr(AdamByAge, "take_step", lambda *_: pytest.fail("the optimizer's own step was asked for"))
    for options in ({"foreach": True}, {"amsgrad": True}):
        net, optimizer, cbp = pair(mlp, **options)[0]
        train(net, optimizer, 30)
        assert cbp.total_replaced


def test_an_empty_group_leaves_the_step_to_the_loop():
    net = mlp()
    optimizer = torch.optim.Adam([{"params": list(net.parameters())}, {"params": []}])
    cbp = ContinualBackprop(net, optimizer, 2e-2, 5, seed=1)
    train(net, optimizer, 20)
    assert cbp.total_replaced
    assert cbp.optimizer_state._by_age.is_current()
