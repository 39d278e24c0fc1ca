"""The compiled loops give what torch gives, to rounding; torch takes over what they can't."""

import numpy as np
import pytest
import torch
from torch import nn

from cppo import ContinualBackprop, compiled

pytest.importorskip("numba")


def test_the_mean_magnitude_of_columns_and_rows():
    matrix = np.array([[1.0, -2.0, 0.0], [-3.0, 4.0, 0.0]])
    assert compiled.mean_magnitude_by_column(matrix).tolist() == [2, 3, 0]  # (1 + 3) / 2, (2 + 4) / 2
    assert compiled.mean_magnitude_by_row(matrix).tolist() == pytest.approx([1, 7 / 3])


def test_the_mean_deviation_of_columns():
    matrix = np.array([[1.0, -2.0], [-3.0, 4.0]])
    centre = np.array([0.5, 1.0])
    assert compiled.mean_deviation_by_column(matrix, centre).tolist() == [2, 3]  # (.5 + 3.5) / 2, (3 + 3) / 2


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(3, 4).T,
        torch.ones(3, dtype=torch.float16),
        torch.ones(3, dtype=torch.int64),
        torch.ones(3).to("meta"),
    ],
    ids=["transposed", "half", "integer", "meta"],
)
def test_what_the_loops_cannot_take(tensor):
    assert not compiled.can_take(tensor)


def trained(make_network, utility, optimizer_type, options, steps=60, frozen_every=None):
    """Train a small network on noise while CBP replaces a unit of it every few steps; its last layer may rest."""
    torch.manual_seed(0)
    network = make_network()
    optimizer = optimizer_type(network.parameters(), lr=1e-3, **options)
    cbp = ContinualBackprop(
        network, optimizer, 0.02, maturity_threshold=10, utility=utility, seed=1, example_input=torch.zeros(2, 3, 6, 6)
    )
    replaced = []
    for step in range(steps):
        network[-1].requires_grad_(frozen_every is None or step % frozen_every > 0)
        loss = (network(torch.randn(16, 3, 6, 6)) - torch.randn(16, 2)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        replaced.append([layer.replaced.tolist() for layer in cbp.layers])
    return torch.cat([each.flatten() for each in network.parameters()]), replaced


def dense():
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 20), nn.Tanh(), nn.Linear(20, 15), nn.ReLU(), nn.Linear(15, 2))


def convolution():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 2), nn.Tanh(), nn.Flatten(), nn.Linear(54, 2))


@pytest.mark.parametrize(
    ("make_network", "utility"), [(dense, "adaptable_contribution"), (convolution, "contribution")]
)
@pytest.mark.parametrize(
    ("optimizer_type", "options"),
    [
        (torch.optim.Adam, {"betas": (0.9, 0.99)}),
        (torch.optim.Adam, {"amsgrad": True, "weight_decay": 0.01}),
        (torch.optim.AdamW, {}),
        (torch.optim.Adam, {"fused": True}),
    ],
    ids=["adam", "amsgrad", "adamw", "fused"],
)
def test_training_is_the_same_without_the_loops(make_network, utility, optimizer_type, options, monkeypatch):
    weights, replaced = trained(make_network, utility, optimizer_type, options)
    monkeypatch.setattr(compiled, "can_take", lambda tensor: False)
    weights_of_torch, replaced_of_torch = trained(make_network, utility, optimizer_type, options)
    assert replaced == replaced_of_torch
    assert any(any(step) for step in replaced)
    torch.testing.assert_close(weights, weights_of_torch, atol=1e-5, rtol=1e-5)


def test_steps_of_which_the_loops_can_take_only_some(monkeypatch):
    """While the last layer is frozen, the layer before it rests, and torch does the step."""
    arguments = (dense, "contribution", torch.optim.SGD, {})
    weights, replaced = trained(*arguments, frozen_every=7)
    monkeypatch.setattr(compiled, "can_take", lambda tensor: False)
    weights_of_torch, replaced_of_torch = trained(*arguments, frozen_every=7)
    assert replaced == replaced_of_torch
    torch.testing.assert_close(weights, weights_of_torch, atol=1e-5, rtol=1e-5)
