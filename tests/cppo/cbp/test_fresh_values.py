"""Optimizers of one's own: what their state starts from is seen when it is made, or told by the user."""

import copy
import math
import re
import warnings

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop
from tests.cppo.networks import OFTEN, network, step

START = math.log(0.02)


class Idbd(torch.optim.Optimizer):
    """Learns the logarithm of a step size by weight; ``way`` is how the state is made."""

    def __init__(self, params, lr=0.02, way="update"):
        super().__init__(params, {"lr": lr})
        self.way = way

    def make(self, p, **entries):
        if self.way == "update":
            self.state[p].update(entries)
        elif self.way == "whole":
            self.state[p] = entries
        elif self.way == "setdefault":
            for name, value in entries.items():
                self.state.setdefault(p, {}).setdefault(name, value)
        else:
            for name, value in entries.items():
                self.state[p][name] = value

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p not in self.state:
                    log = math.log(group["lr"])
                    self.make(p, log=torch.full_like(p, log), trace=torch.zeros_like(p), anchor=p.clone())
                state = self.state[p]
                state["log"].add_(p.grad.sign(), alpha=0.01)  # at once, so that nothing is constant after the step
                p.sub_(state["log"].exp() * p.grad)
                state["trace"].mul_(0.9).add_(p.grad)
                state["anchor"].lerp_(p, 0.1)


def build(way="update", **settings):
    torch.manual_seed(0)
    net = network(3, 12, 12, 2)
    groups = [{"params": net[0].parameters(), "lr": 0.01}, {"params": [*net[2].parameters(), *net[4].parameters()]}]
    optimizer = Idbd(groups, way=way)
    return net, optimizer, ContinualBackprop(net, optimizer, **OFTEN | settings)


def train(net, optimizer, cbp, steps=30):
    for _ in range(steps):
        step(net, optimizer, torch.randn(8, 3))


def check_last_replaced(net, optimizer, cbp):
    log = math.log(0.01), START
    checked = 0
    for number, layer in enumerate(cbp.layers):
        incoming, outgoing = net[2 * number], net[2 * number + 2]
        for unit in layer.replaced.tolist():
            of_incoming, of_outgoing = optimizer.state[incoming.weight], optimizer.state[outgoing.weight]
            torch.testing.assert_close(of_incoming["log"][unit], torch.full_like(incoming.weight[unit], log[number]))
            torch.testing.assert_close(of_outgoing["log"][:, unit], torch.full_like(outgoing.weight[:, unit], START))
            assert not of_incoming["trace"][unit].any() and not of_outgoing["trace"][:, unit].any()
            torch.testing.assert_close(of_incoming["anchor"][unit], incoming.weight[unit].detach())
            assert not of_outgoing["anchor"][:, unit].any()
            checked += 1
    return checked


@pytest.mark.filterwarnings("ignore:Idbd is not an optimizer")
@pytest.mark.parametrize("way", ["update", "whole", "setdefault", "by entry"])
def test_a_new_unit_gets_what_each_tensor_was_when_it_was_made(way):
    net, optimizer, cbp = build(way)
    kept, checked = optimizer.state, 0
    for _ in range(40):
        train(net, optimizer, cbp, 1)
        checked += check_last_replaced(net, optimizer, cbp)
    assert checked > 20
    assert optimizer.state is kept and all(type(state) is dict for state in kept.values())


@pytest.mark.filterwarnings("ignore:Idbd is not an optimizer")
def test_parameters_that_join_later_are_seen_then():
    net, optimizer, cbp = build()
    for _ in range(5):
        optimizer.zero_grad()
        net[:3](torch.randn(8, 3)).square().mean().backward()  # the last layer isn't part of the loss yet
        optimizer.step()
    assert net[4].weight not in optimizer.state
    checked = 0
    for _ in range(40):
        train(net, optimizer, cbp, 1)
        checked += check_last_replaced(net, optimizer, cbp)
    assert checked > 20


@pytest.mark.filterwarnings("ignore:Idbd is not an optimizer")
def test_what_was_seen_is_saved_with_the_rest():
    trained = build()
    train(*trained, 10)
    saved = copy.deepcopy([each.state_dict() for each in trained])
    resumed = build()
    for each, state in zip(resumed, saved, strict=True):
        each.load_state_dict(state)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*could not be seen")
        checked = 0
        for _ in range(30):
            train(*resumed, 1)
            checked += check_last_replaced(*resumed)
    assert checked > 10


@pytest.mark.filterwarnings("ignore:Idbd is not an optimizer")
def test_what_comes_too_late_to_be_seen_is_named_and_can_be_given():
    net, optimizer, cbp = build()
    train(net, optimizer, cbp, 10)
    cbp.remove()
    late = ContinualBackprop(net, optimizer, **OFTEN)
    with pytest.warns(UserWarning, match=r"could not be seen of log, trace, anchor: .* fresh_state=\{\"log\": \.\.\."):
        train(net, optimizer, late, 1)
    late.remove()
    given = {
        "log": lambda parameter: torch.full_like(parameter, -3),
        "trace": 0.0,
        "anchor": lambda parameter: parameter,
    }
    told, checked = ContinualBackprop(net, optimizer, fresh_state=given, **OFTEN), 0
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*could not be seen")
        train(net, optimizer, told, 1)
    for _ in range(30):
        train(net, optimizer, told, 1)
        for unit in told.layers[0].replaced.tolist():
            state = optimizer.state[net[0].weight]
            assert (state["log"][unit] == -3).all() and not state["trace"][unit].any()
            torch.testing.assert_close(state["anchor"][unit], net[0].weight[unit].detach())
            checked += 1
    assert checked > 10


@pytest.mark.filterwarnings("ignore:Idbd is not an optimizer")
def test_copies_of_a_bias_move_with_what_it_takes_over():
    """The bias of the output takes over constant units' contributions; its copy in the state, equal before, follows."""
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    nn.init.zeros_(net[0].weight)
    optimizer = Idbd(net.parameters(), lr=1e-12)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.2, maturity_threshold=2, seed=0)
    before = net[2].bias.detach().clone()
    train(net, optimizer, cbp, 12)
    assert cbp.total_replaced > 4 and not torch.allclose(net[2].bias, before)
    torch.testing.assert_close(optimizer.state[net[2].bias]["anchor"], net[2].bias.detach())


class Own(torch.optim.Optimizer):
    """Keeps what ``make`` makes of a parameter, from a parameter's third step on if it is ``late``."""

    def __init__(self, params, make, late=False):
        super().__init__(params, {})
        self.make, self.late = make, late

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            state["n"] = state.get("n", 0) + 1
            if state["n"] == (3 if self.late else 1):
                state.update(self.make(p))
            p.sub_(0.01 * p.grad)


def warned(make, **settings):
    net = network(3, 12, 2)
    optimizer = Own(net.parameters(), make, **settings)
    cbp = ContinualBackprop(net, optimizer, **OFTEN)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(30):
            step(net, optimizer, torch.randn(8, 3))
    assert cbp.total_replaced
    return [str(each.message) for each in found]


def test_a_tensor_that_is_made_after_the_first_step_is_named_once():
    messages = warned(lambda p: {"log": torch.full_like(p, START)}, late=True)
    assert sum("could not be seen of log: set to zero" in each for each in messages) == 1
    assert not any("could not be seen" in each for each in warned(lambda p: {"log": torch.full_like(p, START)}))


@pytest.mark.parametrize(
    ("make", "end"),
    [
        (lambda p: {"log": torch.zeros_like(p)}, "its step count goes on"),
        (lambda p: {"log": torch.zeros_like(p), "rows": torch.zeros(len(p) + 1)}, "; rows of another form go on"),
        (lambda p: {"all": [torch.zeros_like(p)]}, "; it keeps no such tensor .* whatever it keeps elsewhere goes on"),
    ],
)
def test_what_lies_elsewhere_is_said_to_go_on(make, end):
    (message,) = warned(make)
    assert re.search(f"{end}$", message), message
