"""Which weights feed a hidden unit, and which read it."""

import pytest
import torch
from torch import nn

from cppo import HiddenLayer
from cppo.hidden_layers import UnitWeights, check_distinct


def test_a_reader_of_these_units_alone_has_one_column_a_unit():
    first, second = nn.Linear(7, 12), nn.Linear(12, 3)
    layer = HiddenLayer(first, [second], nn.ReLU())
    assert layer.n_units == 12
    assert layer.columns == ((0, 1),)
    assert [part.view().shape for part in layer.parts()] == [(12, 7), (12,), (3, 12)]


def test_behind_a_flattened_feature_map_a_unit_is_a_block_of_columns():
    layer = HiddenLayer(nn.Conv2d(3, 8, 3), [nn.Linear(8 * 36, 5)])
    assert layer.columns == ((0, 36),)
    (outgoing,) = layer.outgoing_weights
    assert outgoing.view().shape == (5, 8, 36)
    features = torch.arange(2 * 8 * 36.0).reshape(2, 8 * 36)
    assert torch.equal(layer.features(features)[:, 1], features[:, 36:72].flatten())


def test_the_view_is_the_parameter_itself():
    reader = nn.Linear(20, 4)
    part = UnitWeights(reader, "weight", n_units=5, axis=1, start=10, block=2)
    part.view().index_fill_(1, torch.tensor([1]), 0.0)
    assert (reader.weight == 0).nonzero()[:, 1].unique().tolist() == [12, 13]


def test_magnitude_is_the_mean_over_all_weights_of_a_unit():
    reader = nn.Linear(2, 3)
    reader.weight.data = torch.tensor([[1.0, -6.0], [-2.0, 0.0], [3.0, 0.0]])
    (part,) = HiddenLayer(nn.Linear(4, 2), [reader]).outgoing_weights
    assert part.magnitude().tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outgoing": []}, "no module reads its units"),
        ({"outgoing": [nn.Linear(25, 3)]}, "25 inputs"),
        ({"outgoing": [nn.Linear(24, 3)], "columns": [(13, 1)]}, "don't fit"),
        ({"outgoing": [nn.Linear(24, 3)], "columns": [(0, 1), (12, 1)]}, "2 columns for 1 readers"),
    ],
)
def test_weights_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HiddenLayer(nn.Linear(7, 12), **arguments)


def test_other_modules_are_refused():
    with pytest.raises(TypeError, match="LSTM is neither"):
        HiddenLayer(nn.LSTM(3, 4), [nn.Linear(4, 2)])
    with pytest.raises(ValueError, match="groups=2"):
        HiddenLayer(nn.Conv2d(4, 4, 3, groups=2), [nn.Conv2d(4, 2, 3)])


def test_tied_weights_and_layers_listed_twice_are_refused():
    first, second, third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
    layer = HiddenLayer(first, [second])
    with pytest.raises(ValueError, match="listed twice"):
        check_distinct([layer, HiddenLayer(first, [second])])
    third.weight = nn.Parameter(second.weight[:2])
    second.weight = first.weight
    with pytest.raises(ValueError, match="tied weights"):
        check_distinct([layer])
