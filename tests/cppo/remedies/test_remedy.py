"""What every remedy that acts at optimizer steps has in common."""

import copy
import pickle

import pytest
import torch
from torch import nn

from cppo.remedies import CCBP, L2, ReDo, RegenerativeRegularization, ResetLastLayers, ShrinkAndPerturb

REMEDIES = {
    "l2": lambda net, opt: L2(net, opt, weight_decay=0.1),
    "regenerative": lambda net, opt: RegenerativeRegularization(net, opt, strength=0.1),
    "shrink and perturb": lambda net, opt: ShrinkAndPerturb(net, opt, decay=0.01, noise=0.01, seed=5),
    "ccbp": lambda net, opt: CCBP(net, opt, replacement_rate=0.5, every=3, seed=5),
    "reset last": lambda net, opt: ResetLastLayers(net, opt, every=5, seed=5),
    "redo": lambda net, opt: ReDo(net, opt, threshold=0.8, every=3, seed=5),
}


def make(name, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    return net, optimizer, REMEDIES[name](net, optimizer)


def train(net, optimizer, first, last):
    for step in range(first, last):
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (net(x) - x[:, :2].square()).square().mean().backward()
        optimizer.step()


def weights(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


@pytest.mark.parametrize("name", REMEDIES)
def test_it_changes_what_is_learned_in_place_and_stops_when_removed(name):
    net, optimizer, remedy = make(name)
    held = list(net.parameters())
    plain, plain_optimizer, removed = make(name)
    removed.remove()
    alone, alone_optimizer, _ = make(name)
    alone_optimizer._optimizer_step_pre_hooks.clear()
    alone_optimizer._optimizer_step_post_hooks.clear()
    for module, opt in ((net, optimizer), (plain, plain_optimizer), (alone, alone_optimizer)):
        train(module, opt, 0, 12)
    assert not torch.equal(weights(net), weights(plain))
    assert torch.equal(weights(plain), weights(alone))
    assert all(one is other for one, other in zip(net.parameters(), held, strict=True))
    assert (remedy.n_steps, removed.n_steps) == (12, 0)


@pytest.mark.parametrize("name", REMEDIES)
def test_training_saved_in_the_middle_and_resumed_is_training_in_one_go(name):
    net, optimizer, remedy = make(name)
    train(net, optimizer, 0, 7)
    saved = [copy.deepcopy(each.state_dict()) for each in (net, optimizer, remedy)]
    train(net, optimizer, 7, 20)
    resumed = make(name, seed=1)
    for part, state in zip(resumed, saved, strict=True):
        part.load_state_dict(state)
    train(*resumed[:2], 7, 20)
    assert torch.equal(weights(resumed[0]), weights(net))


@pytest.mark.parametrize("name", REMEDIES)
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda parts: pickle.loads(pickle.dumps(parts))])
def test_a_copy_acts_on_the_copy(name, clone):
    net, optimizer, remedy = make(name)
    train(net, optimizer, 0, 4)
    other, other_optimizer, _ = clone((net, optimizer, remedy))
    before = weights(net)
    train(other, other_optimizer, 4, 11)
    assert torch.equal(weights(net), before)
    train(net, optimizer, 4, 11)
    assert torch.equal(weights(other), weights(net))


@pytest.mark.parametrize("name", REMEDIES)
def test_its_own_generator_leaves_torchs_alone(name):
    net, optimizer, _ = make(name)
    before = torch.get_rng_state()
    train(net, optimizer, 0, 6)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", REMEDIES)
def test_it_moves_with_the_module(name):
    net, optimizer, _ = make(name)
    train(net, optimizer, 0, 4)
    net.double()
    optimizer.state.clear()
    x = torch.ones(2, 4, dtype=torch.float64)
    net(x).sum().backward()
    optimizer.zero_grad()
    net(x).sum().backward()
    optimizer.step()
    assert net[0].weight.dtype == torch.float64


@pytest.mark.parametrize("name", REMEDIES)
def test_frozen_weights_stay(name):
    net, optimizer, _ = make(name)
    net[2].requires_grad_(False)
    before = net[2].weight.clone()
    train(net, optimizer, 0, 8)
    assert torch.equal(net[2].weight, before)


def test_what_an_optimizer_does_not_train_is_left_alone():
    net, head = nn.Linear(2, 2), nn.Linear(2, 2)
    before = head.weight.clone()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    both = nn.Sequential(net, head)
    ShrinkAndPerturb(both, optimizer, decay=0.5, noise=0)
    both(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.equal(head.weight, before)
    with pytest.raises(ValueError, match="trains no parameter of Linear"):
        L2(head, optimizer)


def test_a_step_that_amp_skips_does_not_count():
    net = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=True)
    remedy = ShrinkAndPerturb(net, optimizer, decay=0.5, noise=0)
    scaler = torch.amp.GradScaler("cpu")
    before = net.weight.clone()
    scaler.scale(net(torch.full((1, 2), torch.inf)).sum()).backward()
    scaler.step(optimizer)
    assert torch.equal(net.weight, before)
    assert remedy.n_steps == 0


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda net, opt: L2(net, opt, weight_decay=-1), "weight_decay=-1"),
        (lambda net, opt: RegenerativeRegularization(net, opt, strength=float("inf")), "strength=inf"),
        (lambda net, opt: ShrinkAndPerturb(net, opt, decay=1.5), "decay=1.5"),
        (lambda net, opt: ShrinkAndPerturb(net, opt, noise=-1.0), "noise=-1.0"),
        (lambda net, opt: ReDo(net, opt, threshold=-0.1), "threshold=-0.1"),
        (lambda net, opt: ReDo(net, opt, every=0), "every=0"),
        (lambda net, opt: ReDo(net, opt, initializer="zeros"), "initializer='zeros'"),
        (lambda net, opt: CCBP(net, opt, replacement_rate=2), "replacement_rate=2"),
        (lambda net, opt: CCBP(net, opt, sharpness=-1), "sharpness=-1"),
        (lambda net, opt: ResetLastLayers(net, opt, every=1.5), "every=1.5"),
        (lambda net, opt: L2(net, opt, seed=-3), "seed=-3"),
    ],
)
def test_bad_values_are_named(make_it, message):
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with pytest.raises(ValueError, match=message):
        make_it(net, torch.optim.SGD(net.parameters(), lr=0.1))
