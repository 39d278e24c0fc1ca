"""Passes of other worlds leave no tensor behind; readers outside of the module are noticed."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap

from cppo import ContinualBackprop
from cppo.cbp.features import FeatureHook


def network(rate=0.1):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(net.parameters())
    return net, optimizer, ContinualBackprop(net, optimizer, rate, maturity_threshold=3, seed=0)


def train(net, optimizer, samples=8, steps=10):
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(samples, 3)).square().mean().backward()
        optimizer.step()


def per_sample(net):
    loss = lambda parameters, x: functional_call(net, parameters, (x[None],)).square().mean()  # noqa: E731
    parameters = {name: value.detach() for name, value in net.named_parameters()}
    vmap(grad(loss), (None, 0))(parameters, torch.randn(6, 3))


WORLDS = {
    "vmap": per_sample,
    "jacobian": lambda net: jacrev(net)(torch.randn(3)),
    "export": lambda net: torch.export.export(net, (torch.randn(6, 3),)),
    "make_fx": lambda net: torch.fx.experimental.proxy_tensor.make_fx(net)(torch.randn(6, 3)),
    "symbolic trace": torch.fx.symbolic_trace,
    "jit trace": lambda net: torch.jit.trace(net, torch.randn(6, 3)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WORLDS)
def test_a_pass_of_another_world_in_training_mode_is_passed_by(name):
    net, optimizer, cbp = network()
    train(net, optimizer)
    WORLDS[name](net)
    assert not any(layer.seen for layer in cbp.layers)
    train(net, optimizer)
    train(*network()[:2], samples=6)  # nor does another network find anything of it, with the same size of batch
    assert cbp.total_replaced > 10
    assert cbp.average_activation.isfinite().all()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_a_copy_of_a_watched_module_can_be_scripted_and_the_module_says_so():
    net, _, cbp = network()
    with pytest.raises(RuntimeError, match=r"watched by ContinualBackprop: script a copy, copy\.deepcopy\(module\)"):
        torch.jit.script(net)
    assert cbp.integrity.find_exchanged() is None
    assert torch.jit.script(copy.deepcopy(net).eval())(torch.zeros(1, 3)).shape == (1, 2)
    assert [hook for hook in net[2]._forward_pre_hooks.values() if isinstance(hook, FeatureHook)]
    cbp.remove()
    assert torch.jit.script(net)(torch.zeros(1, 3)).shape == (1, 2)


class ByName(nn.Linear):
    def forward(self, features):
        return super().forward(features)


class CallsByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 8), ByName(8, 2)

    def forward(self, x):
        return self.second(features=torch.relu(self.first(x)))


def test_a_linear_subclass_that_is_called_by_name_is_seen():
    net = CallsByName()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    cbp = ContinualBackprop(net, optimizer, 0.5, maturity_threshold=0, seed=0)
    train(net, optimizer, steps=2)
    assert cbp.total_replaced == 8


def train_shared(outside, weight_penalty=0.0):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(3, 8), nn.Tanh())
    net = nn.Sequential(encoder, nn.Linear(8, 2))
    optimizer = torch.optim.Adam([*net.parameters(), *outside.parameters()])
    cbp = ContinualBackprop(net, optimizer, 0.2, maturity_threshold=2, seed=0, example_input=torch.zeros(1, 3))
    for _ in range(10):
        optimizer.zero_grad()
        code = encoder(torch.randn(16, 3))
        loss = net[1](code).square().mean() + sum(each.square().sum() for each in net.parameters()) * weight_penalty
        (loss + sum(part(code).square().mean() for part in outside)).backward()
        optimizer.step()
    assert cbp.total_replaced


def test_a_reader_outside_of_the_module_is_noticed():
    with pytest.warns(UserWarning, match=r"0\.0: units that were just replaced get a gradient.*outside of the one"):
        train_shared(nn.ModuleList([nn.Linear(8, 3)]))


def test_a_penalty_on_weights_is_no_reader():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_shared(nn.ModuleList(), weight_penalty=0.1)


def test_complex_weights_are_refused():
    kind = {"dtype": torch.complex64}
    net = nn.Sequential(nn.Linear(3, 8, **kind), nn.Tanh(), nn.Linear(8, 2, **kind))
    for example in (None, torch.zeros(1, 3, **kind)):
        with pytest.raises(ValueError, match="complex"):
            ContinualBackprop(net, torch.optim.Adam(net.parameters()), example_input=example)
