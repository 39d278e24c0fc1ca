"""Utilities on numbers small enough to check by hand."""

import pytest
import torch
from torch import nn

from cppo import HiddenLayer
from cppo.cbp.features import Pass
from cppo.cbp.utilities import UTILITIES, UnitSignals, find_utility, register_utility


def seen(features):
    return Pass(len(features), features.mean(dim=0), features.abs().mean(dim=0), features)


@pytest.fixture
def signals():
    """Two units, two samples: h = [[1, -2], [3, -4]], f^ = [1, -3], one reader w_out, w_in of two inputs."""
    incoming, reader = nn.Linear(2, 2), nn.Linear(2, 2)
    incoming.weight.data = torch.tensor([[1.0, -3.0], [0.5, 0.5]])
    reader.weight.data = torch.tensor([[2.0, -1.0], [-4.0, 0.0]])
    return UnitSignals(
        HiddenLayer(incoming, [reader]),
        seen=seen(torch.tensor([[1.0, -2.0], [3.0, -4.0]])),
        mean_activation_of=lambda: torch.tensor([1.0, -3.0]),
        feature_gradient=torch.tensor([-0.5, 0.25]),
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("activation", [2.0, 3.0]),  # (1 + 3) / 2, (2 + 4) / 2
        ("weight", [3.0, 0.5]),  # (2 + 4) / 2, (1 + 0) / 2
        ("contribution", [6.0, 1.5]),  # 2 * 3, 3 * 0.5
        ("mean_corrected_contribution", [3.0, 0.5]),  # mean|h - f^| = (0 + 2) / 2, (1 + 1) / 2
        ("adaptable_contribution", [1.5, 1.0]),  # mean|w_in| = (1 + 3) / 2, (0.5 + 0.5) / 2
        ("gradient", [0.5, 0.25]),
    ],
)
def test_by_hand(signals, name, expected):
    assert find_utility(name)(signals).tolist() == expected


def test_a_unit_without_incoming_weights_has_no_adaptable_contribution(signals):
    signals.layer.incoming.weight.data[0] = 0
    assert find_utility("adaptable_contribution")(signals).tolist() == [0.0, 1.0]


def test_contribution_takes_the_mean_of_magnitudes_not_the_magnitude_of_the_mean(signals):
    signals.seen = seen(torch.tensor([[1.0, -2.0], [-1.0, 2.0]]))
    assert find_utility("contribution")(signals).tolist() == [3.0, 1.0]


def test_a_utility_that_needs_no_features_gets_none(signals):
    signals.seen = signals.seen._replace(features=None)
    assert find_utility("contribution")(signals).tolist() == [6.0, 1.5]
    with pytest.raises(ValueError, match="needs_features is False"):
        find_utility("mean_corrected_contribution")(signals)


def test_outgoing_weights_of_all_readers_count(signals):
    """Five weights read unit 0: |2|, |-4| of one reader, 1, 1, 2 of the other, so (6 + 4) / 5; unit 1: (1 + 9) / 5."""
    second = nn.Linear(2, 3)
    second.weight.data = torch.tensor([[1.0, 3.0], [1.0, 3.0], [2.0, 3.0]])
    layer = signals.layer
    signals.layer = HiddenLayer(layer.incoming, [*layer.outgoing, second])
    assert signals.outgoing_magnitude.tolist() == [2.0, 2.0]


def test_random_draws_from_the_generator_of_the_layer(signals):
    expected = torch.rand(2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(find_utility("random")(signals), expected)


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(ValueError, match=r"'contribtion' is unknown; choose one of activation, .*weight"):
        find_utility("contribtion")


def test_a_utility_of_ones_own_can_be_registered():
    @register_utility
    def constant(signals):
        return torch.ones(signals.layer.n_units)

    try:
        assert find_utility("constant") is constant
    finally:
        del UTILITIES["constant"]
