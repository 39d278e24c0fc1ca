"""Shrink and perturb."""

import pytest
import torch
from torch import nn

from cppo.remedies import ShrinkAndPerturb


def stepped(n_steps=1, size=1, **settings):
    net = nn.Linear(size, size)
    nn.init.constant_(net.weight, 2.0)
    nn.init.constant_(net.bias, 1.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    ShrinkAndPerturb(net, optimizer, **settings)
    for _ in range(n_steps):
        net.weight.grad = torch.ones_like(net.weight)
        net.bias.grad = torch.zeros_like(net.bias)
        optimizer.step()
    return net


def test_without_noise_the_step_comes_first_then_the_shrinking():
    net = stepped(decay=0.25, noise=0)
    assert net.weight.item() == pytest.approx((2 - 0.1 * 1) * 0.75)
    assert net.bias.item() == pytest.approx(0.75)


def test_it_acts_every_so_many_steps():
    net = stepped(n_steps=5, decay=0.5, noise=0, every=2)
    assert net.bias.item() == pytest.approx(0.25)  # after steps 2 and 4


def test_the_noise_has_the_given_standard_deviation():
    noise = stepped(size=200, decay=0, noise=0.5, seed=0).weight.detach() - 1.9
    assert noise.std().item() == pytest.approx(0.5, rel=0.02)  # 40 000 draws: a standard error of 0.35 %
    assert noise.mean().item() == pytest.approx(0, abs=0.01)


def test_the_seed_makes_the_noise():
    assert torch.equal(stepped(noise=1.0, seed=3).weight, stepped(noise=1.0, seed=3).weight)
    assert not torch.equal(stepped(noise=1.0, seed=3).weight, stepped(noise=1.0, seed=4).weight)


def test_nothing_to_do_changes_no_bit():
    net = stepped(n_steps=3, decay=0, noise=0)
    plain = torch.full((), 2.0)
    for _ in range(3):
        plain = plain - 0.1 * 1
    assert net.weight.item() == plain.item()
