"""A batch norm that averages over all batches: a new unit's statistics are the average over its own."""

import copy

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop
from tests.cppo.networks import step


def build(convolutional=False, **settings):
    torch.manual_seed(0)
    if convolutional:
        first, norm, rest = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6, momentum=None), [nn.Flatten(), nn.Linear(24, 2)]
        example = torch.zeros(2, 1, 4, 4)
    else:
        first, norm, rest = nn.Linear(3, 6), nn.BatchNorm1d(6, momentum=None), [nn.Linear(6, 2)]
        example = torch.zeros(2, 3)
    net = nn.Sequential(first, norm, nn.ReLU(), *rest)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    settings = {"replacement_rate": 0.05, "maturity_threshold": 3, "seed": 0, "example_input": example} | settings
    return net, optimizer, ContinualBackprop(net, optimizer, **settings)


class Watch:
    """Averages the batches' statistics by hand, for each unit since it was new."""

    def __init__(self, norm):
        self.n, self.sums = torch.zeros(6), torch.zeros(2, 6)
        self.norm = norm
        norm.register_forward_hook(self.see)

    def see(self, norm, args, output):
        if norm.training:
            values = args[0].detach().movedim(1, -1).reshape(-1, 6)
            self.n += 1
            self.sums += torch.stack([values.mean(dim=0), values.var(dim=0)])

    def check(self):
        old = self.n > 0
        for sums, found in zip(self.sums, (self.norm.running_mean, self.norm.running_var), strict=True):
            torch.testing.assert_close(found[old], (sums / self.n)[old], rtol=1e-4, atol=1e-5)

    def forget(self, units):
        self.n[units], self.sums[:, units] = 0, 0


@pytest.mark.parametrize("convolutional", [False, True], ids=["linear", "convolution"])
@pytest.mark.parametrize("passes", [1, 3])
def test_statistics_are_averages_over_the_batches_since_a_unit_was_new(passes, convolutional):
    net, optimizer, cbp = build(convolutional)
    watch = Watch(net[1])
    for count in range(80):
        optimizer.zero_grad()
        for _ in range(passes):
            net(count / 20 + torch.randn(8, *((1, 4, 4) if convolutional else (3,)))).square().mean().backward()
        optimizer.step()
        watch.forget(cbp.layers[0].replaced)
        watch.check()
    assert cbp.total_replaced > 10


@pytest.mark.parametrize("way", ["copied", "saved"])
def test_a_copy_and_a_saved_state_go_on_with_them(way):
    trained = build()
    for _ in range(40):
        step(*trained[:2], torch.randn(8, 3))
    if way == "copied":
        others = copy.deepcopy(trained)
    else:
        others, states = build(), copy.deepcopy([each.state_dict() for each in trained])
        for each, state in zip(others, states, strict=True):
            each.load_state_dict(state)
    for batch in torch.randn(20, 8, 3):
        step(*trained[:2], batch)
        step(*others[:2], batch)
    assert torch.equal(trained[0][1].running_mean, others[0][1].running_mean)
    assert torch.equal(trained[0][1].running_var, others[0][1].running_var)


def test_a_norm_that_begins_anew_has_no_new_units():
    """As ``torch.optim.swa_utils.update_bn`` has it."""
    net, optimizer, _ = build()
    for _ in range(40):
        step(net, optimizer, torch.randn(8, 3))
    net[1].reset_running_stats()
    watch = Watch(net[1])
    for _ in range(3):
        net(torch.randn(8, 3))
        watch.check()


def test_other_networks_save_nothing_of_it():
    net = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    cbp = ContinualBackprop(net, torch.optim.SGD(net.parameters(), lr=0.1), example_input=torch.zeros(2, 3))
    assert not [key for key in cbp.state_dict() if "norms" in key or "fresh" in key]
