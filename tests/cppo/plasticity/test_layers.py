"""The features of layers on a batch, and their measures."""

import pytest
import torch
from torch import nn

from cppo.layers.hidden_layer import HiddenLayer
from cppo.plasticity.layers import MeasuredLayer, measure_module


def test_samples_look_at_all_positions_in_turn():
    """A feature map of 2 x 2 positions whose only channel holds the position's number; four samples see all four."""
    incoming, reader = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    layer = MeasuredLayer("features.0", incoming, reader, HiddenLayer(incoming, [reader]))
    maps = torch.arange(4.0).reshape(1, 1, 2, 2).expand(8, 1, 2, 2)
    seen = layer.features(maps).flatten().tolist()
    assert sorted(seen[:4]) == sorted(seen[4:]) == [0, 1, 2, 3]
    assert layer.features(maps[:4], first_sample=2).flatten().tolist() == seen[2:6]


def test_any_module_is_measured():
    """Four samples: the first unit is 0 on all, the second 1 to 4, so singular values are sqrt(30) and 0."""
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Dropout(), nn.Linear(2, 1))
    net[0].weight.data = torch.tensor([[-3.0], [1.0]])
    figures = measure_module(net, torch.arange(1.0, 5).unsqueeze(1))
    assert figures == {
        "0": pytest.approx(
            {
                "dead_share": 0.5,
                "dormant_share": 0.5,
                "tau_dormant_share": 0.5,
                "effective_rank": 1.0,
                "stable_rank": 1.0,
                "weight_magnitude": 2.0,
            }
        )
    }
    assert net.training


def test_all_measures_of_features_by_hand():
    """Two units, one never active, on two samples: singular values 5 and 0; mean |h| 0 and 3.5 against 1.75."""
    layer = MeasuredLayer("actor.0", nn.Linear(1, 2), nn.Linear(2, 1))
    assert layer.measure(torch.tensor([[0.0, 3.0], [0.0, 4.0]])) == pytest.approx(
        {"dead_share": 0.5, "dormant_share": 0.5, "tau_dormant_share": 0.5, "effective_rank": 1.0, "stable_rank": 1.0}
    )
