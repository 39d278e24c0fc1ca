"""Copies, pickles and compiled forms of a module, its optimizer and the ``ContinualBackprop`` that watches them."""

import copy
import io
import pickle

import pytest
import torch

from cppo import ContinualBackprop
from tests.cppo.networks import OFTEN, network, same, step, still, weights_and_state


def saved_and_loaded(everything):
    file = io.BytesIO()
    torch.save(everything, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def pickled(everything):
    return pickle.loads(pickle.dumps(everything))


@pytest.mark.parametrize("copying", [copy.deepcopy, pickled, saved_and_loaded])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_a_copy_of_everything_goes_its_own_way(copying, order):
    """Original and copy continue alike on the same data, and neither sees what the other does."""
    torch.manual_seed(0)
    net = network(3, 12, 12, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    everything = net, optimizer, ContinualBackprop(net, optimizer, **OFTEN)
    for _ in range(20):
        step(*everything[:2], torch.randn(6, 3))
    net(torch.randn(2, 3)).sum().backward()  # pending features stay behind
    copies = copying([everything[each] for each in order])
    other = [copies[order.index(each)] for each in range(3)]
    everything[2].layers[0].forget()
    everything[2].layers[1].forget()
    batches = torch.randn(20, 6, 3)
    for batch in batches:
        step(*everything[:2], batch)
    assert all(not layer.seen for layer in other[2].layers), "the copy saw the original's passes"
    untouched = copy.deepcopy(weights_and_state(net, everything[2]))
    for batch in batches:
        step(*other[:2], batch)
    assert same(untouched, weights_and_state(net, everything[2]))
    assert same(untouched, weights_and_state(other[0], other[2]))
    assert everything[2].total_replaced > 20


@pytest.mark.parametrize("copying", [copy.deepcopy, pickled])
def test_a_copy_of_the_module_alone_is_a_plain_module(copying):
    net = network(3, 8, 2)
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=1.0, maturity_threshold=0, utility=lambda _: 1 / 0)
    other = copying(net)  # pickling would fail on the function if anything else went along
    other_optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    step(other, other_optimizer, torch.randn(4, 3))
    assert not cbp.layers[0].seen
    watching = ContinualBackprop(other, other_optimizer, replacement_rate=0.5, maturity_threshold=0)
    step(other, other_optimizer, torch.randn(4, 3))
    assert (watching.total_replaced, cbp.total_replaced) == (4, 0)


def test_a_removed_one_stays_removed_in_a_copy():
    net = network(3, 8, 2)
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=1.0, maturity_threshold=0)
    cbp.remove()
    other_net, other_optimizer, other = copy.deepcopy((net, optimizer, cbp))
    step(other_net, other_optimizer, torch.randn(4, 3))
    assert (other.total_replaced, int(other.age.max())) == (0, 0)


@pytest.mark.parametrize("copying", [copy.deepcopy, pickled])
def test_a_copy_can_be_removed(copying):
    net = network(3, 8, 2)
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=1.0, maturity_threshold=0)
    other_net, other_optimizer, other = copying((net, optimizer, cbp))
    other.remove()
    assert not any(module._forward_pre_hooks or module._forward_pre_hooks_with_kwargs for module in other_net)
    step(other_net, other_optimizer, torch.randn(4, 3))
    step(net, optimizer, torch.randn(4, 3))
    assert (cbp.total_replaced, other.total_replaced) == (8, 0)


def lbfgs_step(net, optimizer, inputs):
    def closure():
        optimizer.zero_grad()
        loss = net(inputs).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)


@pytest.mark.parametrize(
    ("way", "backend"),
    [
        ("watched, then compiled", "eager"),
        ("watched, then compiled", "aot_eager"),
        ("compiled, then watched", "eager"),
        ("compiled in place", "eager"),
    ],
)
def test_a_compiled_module_is_watched_like_any_other(way, backend):
    """With evaluation and several passes a step mixed in; the units replaced are those of the plain module."""
    results = []
    for compiled in (False, True):
        torch.compiler.reset()
        torch.manual_seed(0)
        net = network(3, 12, 12, 2)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
        if compiled and way == "compiled in place":
            net.compile(backend=backend)
        runs = torch.compile(net, backend=backend) if compiled and way != "compiled in place" else net
        cbp = ContinualBackprop(runs if way == "compiled, then watched" else net, optimizer, **OFTEN)
        for count in range(12):
            optimizer.zero_grad()
            for _ in range(1 + count % 2):
                runs(torch.randn(4, 3)).square().mean().backward()
            optimizer.step()
            with torch.no_grad():
                runs(torch.randn(4, 3))
        assert cbp.total_replaced > 4
        results.append([*net.parameters(), cbp.age, cbp.average_activation])
    for plain, other in zip(*results, strict=True):
        torch.testing.assert_close(plain, other)
