"""A trace leaves a module, all generators and other threads alone."""

import array
import collections
import copy
import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from cppo import find_hidden_layers


class Keeps(nn.Module):
    """Changes all that a module may hold."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)
        self.register_buffer("total", torch.zeros(()))
        self.last, self.calls, self.log, self.counts = None, 0, [], collections.Counter()
        self.recent, self.array, self.names = collections.deque([1, 2], maxlen=2), np.zeros(2), {"old"}
        self.ids, self.own, self.order = itertools.count(), np.random.default_rng(0), collections.OrderedDict(one=1)
        self.dice, self.torch_dice, self.nested = random.Random(0), torch.Generator(), {"deep": [torch.zeros(2)]}
        self.place, self.bytes, self.packed = iter(range(99)), bytearray(b"a"), array.array("i", [1])
        count = 0

        def tell():
            nonlocal count
            count += 1
            return count

        self.tell = tell

    def forward(self, x):
        self.last, self.calls, self.seen = self.b(x.new_zeros(len(x), 6)), self.calls + 1, next(self.ids)
        self.log.append(self.calls)
        self.counts["calls"] += 1
        self.recent.append(self.tell())
        self.array += 1
        self.bytes.append(next(self.place))
        self.packed.append(1)
        self.names.add("new")
        self.order["two"] = 2
        self.nested["deep"][0].add_(1)
        self.total += 1
        self.own.random(), self.dice.random(), torch.rand(1, generator=self.torch_dice)
        np.random.rand(), random.random(), torch.rand(1)
        return self.b(torch.relu(self.a(x)))


def state(net):
    held = {key: value for key, value in vars(net).items() if not key.startswith("_") and key not in ("tell", "ids")}
    held |= {"place": list(copy.copy(net.place))}
    held |= {"own": net.own.bit_generator.state, "dice": net.dice.getstate(), "ids": repr(net.ids)}
    held |= {"torch_dice": net.torch_dice.get_state().tolist(), "cell": net.tell.__closure__[0].cell_contents}
    held |= {"total": net.total.item(), "array": net.array.tolist(), "nested": net.nested["deep"][0].tolist()}
    return copy.deepcopy(held)


def test_a_trace_leaves_all_that_a_module_keeps_and_all_generators_as_they_were():
    net = Keeps()
    before = state(net), random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()
    hooks = [len(part._forward_pre_hooks) + len(part._forward_hooks) for part in net.modules()]
    weights = {name: value.data_ptr() for name, value in net.named_parameters()}
    with pytest.raises(ValueError, match="b, which is used 2 times"):
        find_hidden_layers(net, torch.zeros(3, 4))
    after = state(net)
    assert {key: after.get(key) for key in before[0] if str(after.get(key)) != str(before[0][key])} == {}
    assert (state(net), random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()) == before
    assert not hasattr(net, "seen")
    assert [len(part._forward_pre_hooks) + len(part._forward_hooks) for part in net.modules()] == hooks == [0, 0, 0]
    assert {name: value.data_ptr() for name, value in net.named_parameters()} == weights


def test_a_memory_of_the_samples_before_is_as_it_was():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    memory = nn.Module()
    memory.h = None
    net.append(memory)
    memory.forward = lambda y: setattr(memory, "h", y.detach()) or y
    find_hidden_layers(net, torch.zeros(3, 4))
    assert memory.h is None


class Constrains(nn.Module):
    """Changes parameters when it runs, as embeddings of limited length and codebooks do."""

    def __init__(self):
        super().__init__()
        self.words, self.a, self.b = nn.Embedding(9, 4, max_norm=0.1), nn.Linear(4, 6), nn.Linear(6, 2)
        self.codes, self.fixed = nn.Parameter(torch.zeros(2, 6)), nn.Parameter(torch.zeros(2))
        self.register_buffer("graph", torch.eye(3).to_sparse())

    def forward(self, words):
        x = self.words(words)
        self.codes.data.lerp_(torch.ones(6), 0.1)
        self.fixed.data = torch.ones(2)
        self.fixed.requires_grad_(False)
        return self.b(torch.relu(self.a(x)))


def test_parameters_are_as_they_were_though_the_module_changes_them():
    net = Constrains()
    before = {name: (value.clone(), value.data_ptr(), value.requires_grad) for name, value in net.named_parameters()}
    (layer,) = find_hidden_layers(net, torch.arange(9))
    assert layer.name == "a"
    for name, value in net.named_parameters():
        assert torch.equal(value, before[name][0]), name
        assert (value.data_ptr(), value.requires_grad) == before[name][1:], name


def build():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


def learn(net, stop):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    while not stop.is_set():
        optimizer.zero_grad()
        net(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()


def test_networks_can_be_traced_in_threads_while_another_learns():
    learner, stop = build(), threading.Event()
    with ThreadPoolExecutor(3) as pool:
        learning = pool.submit(learn, learner, stop)
        tracing = [pool.submit(lambda: [len(find_hidden_layers(build())) for _ in range(15)]) for _ in range(2)]
        found = [each.result() for each in tracing]
        stop.set()
        learning.result()
    assert found == [[2] * 15] * 2
    assert learner.training
