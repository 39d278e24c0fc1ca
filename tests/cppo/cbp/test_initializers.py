"""New incoming weights follow the layer's own initial distribution."""

import math

import pytest
import torch
from torch import nn

from cppo import HiddenLayer
from cppo.cbp.initializers import INITIALIZERS, find_initializer


def draw(name, layer, count=None, seed=0):
    count = layer.n_units if count is None else count
    return INITIALIZERS[name](layer, count, torch.Generator().manual_seed(seed))


def layer_of(inputs=100, units=400, activation=None):
    return HiddenLayer(nn.Linear(inputs, units), [nn.Linear(units, 3)], activation)


@pytest.mark.parametrize(
    ("name", "activation", "bound"),
    [
        ("lecun_uniform", nn.ReLU(), math.sqrt(3 / 100)),
        ("torch_default", nn.ReLU(), 1 / math.sqrt(100)),
        ("kaiming_uniform", nn.ReLU(), math.sqrt(6 / 100)),  # gain sqrt 2
        ("kaiming_uniform", torch.tanh, 5 / 3 * math.sqrt(3 / 100)),
        ("kaiming_uniform", None, math.sqrt(3 / 100)),
        ("xavier_uniform", None, math.sqrt(6 / 500)),  # fan in 100, fan out 400
    ],
)
def test_uniform_within_its_bound(name, activation, bound):
    weights = draw(name, layer_of(activation=activation))
    assert weights.shape == (400, 100)
    assert weights.abs().max() <= bound
    assert weights.abs().max() > 0.999 * bound  # of 40 000 draws the largest is that close
    assert weights.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize(("inputs", "units"), [(50, 20), (20, 50), (30, 30)])
def test_orthogonal_is_distributed_as_torch_draws_it(inputs, units):
    """All units at once make an orthogonal matrix times sqrt 2; a few have the rows' mean square norm."""
    layer = layer_of(inputs, units)
    whole = draw("orthogonal", layer) / math.sqrt(2)
    gram = whole @ whole.T if units <= inputs else whole.T @ whole
    torch.testing.assert_close(gram, torch.eye(min(inputs, units)), atol=1e-5, rtol=0)
    few = torch.cat([draw("orthogonal", layer, 2, seed) for seed in range(300)])
    assert few.square().sum(dim=1).mean().item() == pytest.approx(2 * min(1, inputs / units), rel=0.05)


def test_weights_of_a_convolution_have_its_shape_and_fan_in():
    layer = HiddenLayer(nn.Conv2d(4, 16, 5), [nn.Conv2d(16, 2, 3)])
    for name in INITIALIZERS:
        assert draw(name, layer, 3).shape == (3, 4, 5, 5)
    assert draw("lecun_uniform", layer).abs().max() <= math.sqrt(3 / 100)


def test_the_generator_decides():
    layer = layer_of()
    for name in INITIALIZERS:
        assert torch.equal(draw(name, layer, 5, seed=1), draw(name, layer, 5, seed=1))
        assert not torch.equal(draw(name, layer, 5, seed=1), draw(name, layer, 5, seed=2))


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(ValueError, match="'lecun' is unknown; choose one of kaiming_uniform, lecun_uniform"):
        find_initializer("lecun")
