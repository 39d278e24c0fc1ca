"""Which weights feed a hidden unit, and which read it."""

import pytest
import torch
from torch import nn

from cppo import HiddenLayer
from cppo.layers.hidden_layer import UnitWeights, check_distinct


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


def test_features_of_a_single_image_are_those_of_its_batch():
    layer = HiddenLayer(nn.Conv2d(3, 8, 3), [nn.Conv2d(8, 2, 3)])
    image = torch.randn(8, 6, 5)
    assert torch.equal(layer.features(image), layer.features(image[None]))
    assert torch.equal(layer.features(image)[:, 2], image[2].flatten())


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


def test_norms_have_slices_for_the_units():
    layer = HiddenLayer(
        nn.Linear(7, 3), [nn.Linear(12, 2)], norms=[nn.BatchNorm1d(12), nn.LayerNorm(5)], norm_columns=[(0, 4), (2, 1)]
    )
    batch, layer_norm = layer.norm_slices[:4], layer.norm_slices[4:]
    assert [part.name for part in batch] == ["weight", "bias", "running_mean", "running_var"]
    assert [part.view().shape for part in batch] == [(3, 4)] * 4
    assert [part.name for part in layer_norm] == ["weight", "bias"]
    parameters = [part.name for part in layer.parts()]  # the linear layers' own come first and last
    assert parameters == ["weight", "bias", "weight", "bias", "weight", "bias", "weight"]
    plain = HiddenLayer(nn.Linear(7, 3), [nn.Linear(3, 2)], norms=[nn.BatchNorm1d(3, affine=False)])
    assert [part.name for part in plain.norm_slices] == ["running_mean", "running_var"]
    assert len(list(plain.parts())) == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"norms": [nn.ReLU()]}, TypeError, "ReLU is no normalisation"),
        ({"norms": [nn.BatchNorm1d(25)]}, ValueError, "25 inputs"),
        ({"norms": [nn.BatchNorm1d(25)], "norm_columns": [(14, 1)]}, ValueError, "don't fit"),
        ({"norms": [nn.BatchNorm1d(12)], "norm_columns": [(0, 1), (0, 1)]}, ValueError, "2 columns for 1 norms"),
    ],
)
def test_norms_that_do_not_fit_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        HiddenLayer(nn.Linear(7, 12), [nn.Linear(12, 3)], **arguments)


def test_tied_weights_and_layers_listed_twice_are_refused():
    first, second, third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
    layer = HiddenLayer(first, [second])
    with pytest.raises(ValueError, match="listed twice"):
        check_distinct([layer, HiddenLayer(first, [second])])
    third.weight = nn.Parameter(second.weight[:2])
    second.weight = first.weight
    with pytest.raises(ValueError, match="tied weights"):
        check_distinct([layer])
