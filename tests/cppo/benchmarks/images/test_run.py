from __future__ import annotations

import numpy as np
import pytest

from cppo.benchmarks.images.images_settings import ImagesSettings
from cppo.benchmarks.images.network import build_network, renew_output
from cppo.benchmarks.images.run import pairs_of_classes, train_one

SHORT = {"tasks": 2, "epochs": 1, "train_images": 20, "test_images": 10, "batch_size": 10}


@pytest.mark.parametrize("learner", list(ImagesSettings.PRESETS))
def test_every_learner_runs(learner):
    rows = train_one(ImagesSettings(learner=learner, **SHORT).resolved(), 0)
    assert [row["task"] for row in rows] == [1, 2]
    assert all(0 <= row["accuracy"] <= 100 and 0 <= row["train_accuracy"] <= 100 for row in rows)


def test_continual_backprop_replaces_channels_and_units():
    """8 steps; from the third on 480 units are mature, so about 6 * 480 * 0.02 = 57 go."""
    settings = ImagesSettings(learner="cbp", replacement_rate=0.02, maturity_threshold=2, **SHORT).resolved()
    assert 30 < train_one(settings, 0)[-1]["replaced"] < 60


def test_the_published_network():
    network = build_network(ImagesSettings().resolved(), 0)
    shapes = [tuple(parameter.shape) for parameter in network.parameters() if parameter.ndim > 1]
    assert shapes == [(32, 3, 5, 5), (64, 32, 3, 3), (128, 64, 3, 3), (128, 512), (128, 128), (2, 128)]
    renew_output(network)
    assert not network[-1].weight.any() and network[-3].weight.any()


def test_all_classes_are_used_before_any_comes_again():
    """5 classes make 2 pairs; the third task is the first one again."""
    pairs = pairs_of_classes(5, 3, np.random.default_rng(0))
    assert len({number for pair in pairs[:2] for number in pair}) == 4
    assert pairs[2] == pairs[0]
