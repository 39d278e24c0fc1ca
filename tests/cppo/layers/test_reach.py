"""Whatever holds an activation is looked through; what is out of sight is noticed because it outlives the run."""

import collections
import itertools
import types

import numpy as np
import pytest
import torch
from torch.nn import functional

from cppo import find_hidden_layers
from cppo.layers.find import find_layers
from cppo.layers.leaks import LEAK
from tests.cppo.patterns import Net, linear

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
KEPT = []


class Held:
    last = None

    def __init__(self, h):
        self.h = h

    def get(self):
        return self.h


async def later(h):
    return h


def on_tensor(h):
    other = torch.zeros(1)
    other.extra = h
    return other


HOLDING = {
    "iterator": lambda h: iter([h]),
    "map": lambda h: map(torch.sum, [h]),
    "zip": lambda h: zip([1], [h], strict=True),
    "enumeration": lambda h: enumerate((h,)),
    "chain": lambda h: itertools.chain([h], [h]),
    "generator": lambda h: (each.sum() for each in [h]),
    "coroutine": later,
    "values of a dict": lambda h: {"h": h}.values(),
    "items of a dict": lambda h: {"h": h}.items(),
    "keys of a dict": lambda h: {h: 1},
    "read-only dict": lambda h: types.MappingProxyType({"h": h}),
    "user's dict": lambda h: collections.UserDict(h=h),
    "method": lambda h: Held(h).get,
    "exception": ValueError,
    "attribute of a tensor": on_tensor,
    "array of objects": lambda h: np.array([Held(h), None], dtype=object),
}


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("way", ["returned", "kept"])
@pytest.mark.parametrize("name", HOLDING)
def test_units_in_any_holder_leave_the_network_or_are_kept(name, way):
    def forward(net, x):
        h = functional.relu(net.a(x))
        if way == "returned":
            return net.b(h), HOLDING[name](h)
        net.holder = HOLDING[name](h)
        return net.b(h)

    reason = "a: its units leave" if way == "returned" else "a: its features are kept as holder"
    with pytest.raises(ValueError, match=reason):
        find_hidden_layers(Net(forward, **linear(a=(4, 6), b=(6, 2))), X)


@pytest.mark.parametrize("tell", [str, lambda h: f"{h[0, 0]:.3f}", lambda h: repr(h).encode()])
def test_text_that_shows_units_is_an_output(tell):
    with pytest.raises(ValueError, match=f"a: {LEAK}"):
        find_hidden_layers(
            Net(lambda n, x: (n.b(h := functional.relu(n.a(x))), tell(h)), **linear(a=(4, 6), b=(6, 2))), X
        )


def keep_in_global(net, h):
    KEPT.append(h)


def keep_in_class(net, h):
    Held.last = h.detach()


def drop_in_a_circle(net, h):
    circle = [h]
    circle.append(circle)


@pytest.mark.parametrize("keep", [keep_in_global, keep_in_class, drop_in_a_circle, lambda net, h: None])
def test_units_that_are_kept_out_of_sight_are_noticed(keep):
    def forward(net, x):
        keep(net, h := functional.relu(net.a(x)))
        return net.c(functional.relu(net.b(h)))

    layers, left_out = find_layers(Net(forward, **linear(a=(4, 6), b=(6, 5), c=(5, 2))), X)
    is_kept = keep in (keep_in_global, keep_in_class)
    assert [layer.name for layer in layers] == (["b"] if is_kept else ["a", "b"])
    assert any("outlive the forward pass" in each.reason for each in left_out) is is_kept


def test_units_that_a_hook_keeps_are_noticed_and_its_memory_is_as_it_was():
    net = Net(lambda n, x: n.b(functional.relu(n.a(x))), **linear(a=(4, 6), b=(6, 2)))
    memory = []
    net.a.register_forward_hook(lambda module, given, output: memory.append(output.detach()))
    with pytest.raises(ValueError, match=r"a: its features are kept as a\._forward_hooks"):
        find_hidden_layers(net, X)
    assert memory == []


def test_a_gradient_taken_inside_keeps_nothing():
    def forward(net, x):
        with torch.enable_grad():
            energy = net.b(functional.softplus(net.a(x.requires_grad_()))).sum()
            return torch.autograd.grad(energy, x)[0]

    (layer,) = find_hidden_layers(Net(forward, **linear(a=(4, 6), b=(6, 1))), X.clone())
    assert layer.name == "a"
