"""The state of all units is saved, restored and taken away."""

import copy

import pytest
import torch

from cppo import ContinualBackprop
from tests.cppo.networks import network, step, still


def test_state_dict_round_trip_continues_exactly():
    def build(seed):
        torch.manual_seed(0)
        net = network(3, 16, 12, 2)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        return net, optimizer, ContinualBackprop(net, optimizer, 0.02, 3, utility="random", seed=seed)

    def run(net, optimizer, steps, seed):
        torch.manual_seed(seed)
        for _ in range(steps):
            step(net, optimizer, torch.randn(8, 3))

    net, optimizer, cbp = build(seed=5)
    run(net, optimizer, 30, seed=1)
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict(), cbp.state_dict()))
    run(net, optimizer, 30, seed=2)

    other = build(seed=99)
    for part, state in zip(other, saved, strict=True):
        part.load_state_dict(state)
    run(*other[:2], 30, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other[0].parameters(), strict=True))
    assert cbp.total_replaced == other[2].total_replaced > saved[2]["n_replaced"].sum()


def test_the_keys_are_those_of_files_that_exist():
    net = network(3, 6, 5, 2)
    cbp = ContinualBackprop(net, still(net))
    keys = ["age", "average_utility", "average_activation", "accumulator", "n_replaced", "_extra_state"]
    assert set(cbp.state_dict()) == {*keys, "optimizer_state.replaced_at"}
    inside = torch.nn.ModuleDict({"actor": cbp})
    assert set(inside.state_dict()) == {*(f"actor.{key}" for key in keys), "actor.optimizer_state.replaced_at"}
    state = inside.state_dict()
    state["actor.age"] = torch.arange(11)
    assert inside.load_state_dict(state) == ([], [])
    assert cbp.age.tolist() == list(range(11))
    with pytest.raises(RuntimeError, match="average_utility"):
        cbp.load_state_dict({key: value for key, value in cbp.state_dict().items() if key != "average_utility"})


def test_the_state_is_plain_tensors(tmp_path):
    net = network(3, 6, 2)
    cbp = ContinualBackprop(net, still(net))
    torch.save(cbp.state_dict(), tmp_path / "state.pt")
    cbp.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert not any(value.requires_grad for value in cbp.state_dict().values() if isinstance(value, torch.Tensor))
    assert not list(cbp.parameters()), "the watched network is not part of the state"


def test_removed_it_leaves_nothing_behind():
    net = network(3, 6, 2)
    optimizer = still(net)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=1.0, maturity_threshold=0)
    cbp.remove()
    before = copy.deepcopy(net.state_dict())
    step(net, optimizer, torch.randn(4, 3))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert not any(module._forward_pre_hooks for module in net)
