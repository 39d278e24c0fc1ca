"""Optimizers inside of others: what is out of reach is said at once, what would undo a replacement is refused."""

import warnings

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop
from tests.cppo.networks import OFTEN, network, step


class Wrapper(torch.optim.Optimizer):
    """Has the steps taken by an optimizer inside of it."""

    def __init__(self, inner):
        super().__init__([parameter for group in inner.param_groups for parameter in group["params"]], {})
        self.inner = inner
        self.param_groups = inner.param_groups

    @torch.no_grad()
    def step(self, closure=None):
        self.inner.step()


class Lookahead(Wrapper):
    def step(self, closure=None):
        super().step()
        for group in self.param_groups:
            for p in group["params"]:
                slow = self.state[p].setdefault("slow_params", p.detach().clone())
                slow.lerp_(p.detach(), 0.5)
                p.data.copy_(slow)


class SAM(Wrapper):
    """Two passes a step: the gradient is that at the worst weights nearby."""

    @torch.no_grad()
    def first_step(self):
        for p in self.param_groups[0]["params"]:
            self.state[p]["old_p"] = p.detach().clone()
            p.add_(0.05 * p.grad / p.grad.norm())

    @torch.no_grad()
    def second_step(self):
        for p in self.param_groups[0]["params"]:
            p.data = self.state[p]["old_p"]
        self.inner.step()


@pytest.mark.parametrize("kind", [Wrapper, Lookahead, SAM])
def test_a_wrapper_is_named_at_once_with_what_is_out_of_reach(kind):
    net = network(3, 12, 12, 2)
    inner = torch.optim.Adam(net.parameters())
    wrapper = kind(inner)
    with pytest.warns(UserWarning, match=f"{kind.__name__} takes its steps by the Adam .* out of reach.*'inner'"):
        cbp = ContinualBackprop(net, wrapper, **OFTEN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):
            step(net, wrapper, torch.randn(8, 3))
    assert cbp.total_replaced


def test_slow_weights_of_a_wrapper_are_refused_before_they_pull_anything_back():
    net = network(3, 12, 12, 2)
    inner = torch.optim.Adam(net.parameters())
    ContinualBackprop(net, inner, **OFTEN)
    wrapper = Lookahead(inner)  # it may come later
    before = net[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match="Lookahead keeps slow weights"):
        step(net, wrapper, torch.randn(8, 3))
    assert torch.equal(net[0].weight, before)


def test_the_optimizer_inside_of_sam_has_its_state_made_new():
    net = network(3, 12, 12, 2)
    inner = torch.optim.Adam(net.parameters())
    wrapper, replaced = SAM(inner), 0
    cbp = ContinualBackprop(net, inner, **OFTEN)
    for _ in range(40):
        x = torch.randn(8, 3)
        for half in (wrapper.first_step, wrapper.second_step):
            inner.zero_grad()
            net(x).square().mean().backward()
            half()
        for unit in cbp.layers[0].replaced.tolist():
            assert not inner.state[net[0].weight]["exp_avg"][unit].any()
            assert not net[2].weight[:, unit].any()
            replaced += 1
    assert replaced


def test_slow_weights_among_the_moments_are_the_new_weights():
    """As in an implementation that keeps them in the state of the optimizer inside of it."""
    net = network(3, 12, 2)
    optimizer = torch.optim.Adam(net.parameters())
    cbp, replaced = ContinualBackprop(net, optimizer, **OFTEN), 0
    step(net, optimizer, torch.randn(8, 3))
    for parameter in net.parameters():
        optimizer.state[parameter]["lookahead_slow_buff"] = parameter.detach().clone()
    for _ in range(40):
        step(net, optimizer, torch.randn(8, 3))
        for unit in cbp.layers[0].replaced.tolist():
            slow = optimizer.state[net[0].weight]["lookahead_slow_buff"][unit]
            assert torch.equal(slow, net[0].weight[unit].detach())
            assert not optimizer.state[net[2].weight]["lookahead_slow_buff"][:, unit].any()
            replaced += 1
    assert replaced


class Averaging:
    """Lookahead as a class of its own that is no optimizer."""

    def __init__(self, inner):
        self.inner = inner
        self.slow_weights = [p.detach().clone() for p in inner.param_groups[0]["params"]]
        self.zero_grad = inner.zero_grad

    def step(this):  # noqa: N805
        this.inner.step()


def test_whatever_keeps_slow_weights_is_refused():
    net = network(3, 12, 12, 2)
    inner = torch.optim.Adam(net.parameters())
    ContinualBackprop(net, inner, **OFTEN)
    with pytest.raises(RuntimeError, match="Averaging keeps slow weights"):
        step(net, Averaging(inner), torch.randn(8, 3))


class Hookless(torch.optim.Optimizer):
    """A wrapper that is no whole optimizer, as some are: its steps would call no hook."""

    def __init__(self, inner):
        self.inner, self.param_groups, self.state, self.defaults = inner, inner.param_groups, inner.state, {}

    def step(self, closure=None):
        self.inner.step()


def test_an_optimizer_whose_steps_call_no_hooks_is_refused():
    net = network(3, 12, 2)
    with pytest.raises(TypeError, match=r"Hookless calls no hooks at its steps.*give that one"):
        ContinualBackprop(net, Hookless(torch.optim.Adam(net.parameters())))


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
def test_a_parameter_group_may_be_empty(kind):
    """No biases, so nothing without weight decay: the weights go as with the one group alone."""
    results = []
    for is_split in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 16, bias=False), nn.Tanh(), nn.Linear(16, 2, bias=False))
        groups = [{"params": list(net.parameters()), "weight_decay": 0.01}]
        optimizer = kind(groups + [{"params": [], "weight_decay": 0.0}] * is_split, lr=1e-3)
        cbp = ContinualBackprop(net, optimizer, **OFTEN)
        for _ in range(40):
            step(net, optimizer, torch.randn(8, 3))
        assert cbp.total_replaced > 10
        results.append(nn.utils.parameters_to_vector(net.parameters()))
    torch.testing.assert_close(*results)
