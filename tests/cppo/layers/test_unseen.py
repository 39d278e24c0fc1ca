"""Values that a trace can't follow leave units out: what carries them unseen, what is kept, what else is returned."""

import dataclasses
import threading
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cppo.layers.find import find_layers
from cppo.layers.leaks import LEAK
from tests.cppo.patterns import Net, linear

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
IMAGE = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
SCALE = torch.tensor([2.0])
UNSEEN = "did not see made"


class AddBN(nn.BatchNorm1d):
    def forward(self, x, residual):
        return super().forward(x + residual)


class CondBN(nn.BatchNorm1d):
    def __init__(self, width, condition):
        super().__init__(width, affine=False)
        self.gain = nn.Linear(condition, width)

    def forward(self, x, condition):
        return super().forward(x) * (1 + self.gain(condition))


class GatedLN(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x) * x


class WideBN(nn.BatchNorm1d):
    def __init__(self, width):
        super().__init__(width, eps=0.1)


class AttrDict(dict):
    __getattr__ = dict.__getitem__


class Listing(list):
    pass


@dataclasses.dataclass(slots=True)
class Slots:
    q: torch.Tensor
    h: torch.Tensor


@dataclasses.dataclass
class State:
    h: torch.Tensor


class NoisyLinear(nn.Linear):
    """Its weights are noisy in training alone."""

    def forward(self, x):
        weight = self.weight + 0.1 * torch.randn_like(self.weight) if self.training else self.weight
        return functional.linear(x, weight, self.bias)


class FedPair(nn.Linear):
    def forward(self, pair):
        return super().forward(pair[0])


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 3)
        self.e = nn.ModuleList(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)) for _ in range(3))
        self.gate.weight.data.zero_()
        self.gate.bias.data.copy_(torch.tensor([0.0, 1.0, 0.0]))

    def forward(self, x):
        out, top = x.new_zeros(len(x), 2), self.gate(x).argmax(-1)
        for i, expert in enumerate(self.e):
            out[top == i] = expert(x[top == i])
        return out


@torch.jit.script
def swish(h):
    return h * torch.sigmoid(h)


@torch.jit.script
def centre_(h: torch.Tensor) -> None:
    h.sub_(h.mean(dim=1, keepdim=True))


@torch.jit.script
def write_sum(h: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(h.sum(dim=1, keepdim=True))


def in_thread(function, *args):
    found = []
    thread = threading.Thread(target=lambda: found.append(function(*args)))
    thread.start()
    thread.join()
    return found[0]


def unpool(n, x):
    pooled, indices = functional.max_pool2d(functional.relu(n.e1(x)), 2, return_indices=True)
    return n.out(functional.max_unpool2d(functional.relu(n.d1(functional.relu(n.e2(pooled)))), indices, 2))


def keep(container):
    def forward(n, x):
        n.state = container(h := functional.relu(n.a(x)))
        return n.b(h)

    return forward


def returns(container):
    return lambda n, x: container(n.b(h := functional.relu(n.a(x))), h)


def set_data(n, x):
    other = torch.zeros(len(x), 6)
    other.data = (h := functional.relu(n.a(x)))
    return n.b(h) + other.sum()


def set_memory(n, x):
    return n.b(h := functional.relu(n.a(x))) + torch.zeros(len(x), 6).set_(h.detach()).sum()


def centred_in_place(n, x):
    centre_(h := n.a(x))
    return n.b(h)


def summed_into(n, x):
    write_sum(h := functional.relu(n.a(x)), out := torch.zeros(len(x), 1))
    return n.b(h) + out


def two_readers(second):
    return lambda n, x: n.b(h := functional.relu(n.a(x))) + second(n, h)


AB = {"a": (4, 6), "b": (6, 2)}
ABC = AB | {"c": (6, 2)}

# name: (forward, layers, outgoing layers by layer that is watched, reasons by layer that is left out)
CASES = {
    "norm with a second argument": (
        lambda n, x: n.head(n.norm(n.back(functional.relu(n.inner(h := functional.relu(n.stem(x))))), h)),
        linear(stem=(4, 6), inner=(6, 8), back=(8, 6), head=(6, 2)) | {"norm": AddBN(6)},
        {"inner": ["back"]},
        {"stem": "added", "back": "added"},
    ),
    "conditional norm": (
        lambda n, x: n.head(functional.relu(n.norm(n.body(x), c := functional.relu(n.cond(x))))) + n.aux(c),
        linear(cond=(4, 5), body=(4, 6), head=(6, 2), aux=(5, 2)) | {"norm": CondBN(6, 5)},
        {"cond": ["norm.gain", "aux"]},
        {"body": "multiplied", "norm.gain": "added|multiplied"},
    ),
    "gated norm": (lambda n, x: n.b(n.norm(n.a(x))), linear(**AB) | {"norm": GatedLN(6)}, {"a": ["b"]}, {}),
    "norm of other settings": (
        lambda n, x: n.b(n.norm(n.a(x))),
        linear(**AB) | {"norm": WideBN(6)},
        {"a": ["b"]},
        {},
    ),
    "x.to(h)": (
        lambda n, x: n.out(
            torch.cat(
                [functional.relu(n.mid(h := functional.relu(n.inp(x)))), functional.relu(n.time(x.sin().to(h)))], 1
            )
        ),
        linear(inp=(4, 4), mid=(4, 5), time=(4, 5), out=(10, 2)),
        {"inp": ["mid"], "mid": ["out"], "time": ["out"]},
        {},
    ),
    "h + x.type_as(h)": (
        lambda n, x: n.b((h := functional.relu(n.a(x))) + x.type_as(h)),
        linear(a=(4, 4), b=(4, 2)),
        None,
        {"a": "added"},
    ),
    "mask.expand_as(h)": (
        lambda n, x: n.c((h := functional.relu(n.b(functional.relu(n.a(x))))) * (x[:, :1] > 0).float().expand_as(h)),
        linear(a=(4, 5), b=(5, 6), c=(6, 2)),
        {"a": ["b"]},
        {"b": "multiplied"},
    ),
    "dict subclass returned": (returns(lambda q, h: AttrDict(q=q, h=h)), linear(**AB), None, {"a": "leave"}),
    "list subclass returned": (returns(lambda q, h: Listing([q, h])), linear(**AB), None, {"a": "leave"}),
    "deque returned": (returns(lambda q, h: deque([q, h])), linear(**AB), None, {"a": "leave"}),
    "slots returned": (returns(Slots), linear(**AB), None, {"a": "leave"}),
    "closure returned": (returns(lambda q, h: lambda: (q, h)), linear(**AB), None, {"a": "leave"}),
    "object that holds a list returned": (
        returns(lambda q, h: State([q, {"h": h}])),
        linear(**AB),
        None,
        {"a": "leave"},
    ),
    "kept in a dataclass": (keep(State), linear(**AB), None, {"a": "kept as state"}),
    "kept in a dict subclass": (keep(lambda h: AttrDict(h=h)), linear(**AB), None, {"a": "kept as state"}),
    "kept in a closure": (keep(lambda h: lambda: h), linear(**AB), None, {"a": "kept as state"}),
    "kept by a scripted function": (keep(swish), linear(**AB), None, {"a": UNSEEN}),
    "scripted function": (lambda n, x: n.b(h := n.a(x)) + n.c(swish(h)), linear(**ABC), None, {"a": UNSEEN}),
    "vmapped head": (two_readers(lambda n, h: torch.func.vmap(n.c)(h)), linear(**ABC), None, {"a": UNSEEN}),
    "head in a thread": (two_readers(lambda n, h: in_thread(n.c, h)), linear(**ABC), None, {"a": "thread"}),
    "function in a thread": (two_readers(lambda n, h: in_thread(torch.sum, h)), linear(**AB), None, {"a": UNSEEN}),
    "dlpack": (
        two_readers(lambda n, h: torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(h)).sum()),
        linear(**AB),
        None,
        {"a": UNSEEN},
    ),
    "number": (two_readers(lambda n, h: float(h[0, 0])), linear(**AB), None, {"a": "read by float"}),
    "condition": (two_readers(lambda n, h: 1.0 if h.sum() > 0 else 2.0), linear(**AB), None, {"a": "read by|sum"}),
    "data set": (set_data, linear(**AB), None, {"a": "written"}),
    "memory set": (set_memory, linear(**AB), None, {"a": "memory"}),
    "numpy": (
        two_readers(lambda n, h: torch.from_numpy(np.asarray(h.detach()).mean(keepdims=True))),
        linear(**AB),
        None,
        {"a": "numpy|array"},
    ),
    "indices of a maximum": (
        unpool,
        {
            "e1": nn.Conv2d(2, 6, 3, padding=1),
            "e2": nn.Conv2d(6, 8, 3, padding=1),
            "d1": nn.Conv2d(8, 6, 3, padding=1),
            "out": nn.Conv2d(6, 2, 1),
        },
        {"e2": ["d1"]},
        {"e1": "max_unpool2d", "d1": "max_unpool2d"},
    ),
    "indices of a maximum over positions": (
        lambda n, x: n.b((m := functional.relu(n.a(x[:, None] * X[0])).max(1)).values) + n.c(m.indices.float()),
        linear(**ABC),
        None,
        {"a": "different functions"},
    ),
    "constant in a global name": (lambda n, x: n.b(n.a(x)) * SCALE, linear(**AB), {"a": ["b"]}, {}),
    "noisy layer": (
        lambda n, x: n.c(functional.relu(n.b(functional.relu(n.a(x))))),
        {"a": nn.Linear(4, 6), "b": NoisyLinear(6, 5), "c": nn.Linear(5, 2)},
        None,
        {"a": "another weight", "b": "another weight"},
    ),
    "fed a pair": (
        lambda n, x: n.b((functional.relu(n.a(x)), None)),
        {"a": nn.Linear(4, 6), "b": FedPair(6, 2)},
        None,
        {"a": "not given its input as one tensor"},
    ),
    "changed in place, unseen": (centred_in_place, linear(**AB), None, {"a": LEAK}),
    "read into another tensor, unseen": (summed_into, linear(**AB), None, {"a": LEAK}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_unseen_is_left_out_with_the_reason_and_nothing_else(name):
    forward, layers, watched, reasons = CASES[name]
    torch.manual_seed(0)
    spare = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
    net = Net(lambda n, x: (n.spare(X), forward(n, x)), spare=spare, **layers)
    try:
        found, left_out = find_layers(net, IMAGE if "e1" in layers else X)
    except ValueError as error:  # what ran before an unseen value is left out too
        assert all(name in str(error) for name in reasons) and UNSEEN in str(error)
        return
    names = {part: part_name for part_name, part in net.named_modules()}
    readers = {layer.name: [names[each] for each in layer.outgoing] for layer in found if layer.name != "spare.0"}
    assert readers == (watched or {})
    why = {each.name: each.reason for each in left_out}
    for layer, reason in reasons.items():
        assert any(part in why[layer] for part in reason.split("|")), why[layer]


def test_experts_without_a_sample_are_left_out_and_the_reason_says_what_to_pass():
    layers, left_out = find_layers(Experts(), X)
    assert [layer.name for layer in layers] == ["e.1.0"]
    reasons = {each.name: each.reason for each in left_out}
    assert "empty batch of the example: pass an example_input that reaches it" in reasons["e.0.0"]


class BatchRenorm(nn.Module):
    """One that doesn't tell its width."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.weight


def test_a_norm_known_by_name_that_does_not_tell_its_width():
    layers, _ = find_layers(nn.Sequential(nn.Linear(4, 6), BatchRenorm(6), nn.Linear(6, 2)), X)
    assert [part.name for part in layers[0].norm_slices] == ["weight"]


class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 2)

    def forward(self, x):
        raise ZeroDivisionError("no step")


def test_a_module_that_cannot_be_run_says_what_to_do():
    with pytest.raises(ValueError, match=r"Fails could not be run.*no step.*example_input=.*hidden_layers="):
        find_layers(Fails(), X)


def test_a_module_that_never_does_the_same_twice_is_watched_as_far_as_it_is_followed_and_says_so():
    net = Net(lambda n, x: n.b(n.a(x)) + float(np.random.SeedSequence().entropy % 1000), **linear(**AB))
    with pytest.warns(UserWarning, match="could not be run to check by numbers"):
        layers, _ = find_layers(net, X)
    assert [layer.name for layer in layers] == ["a"]
