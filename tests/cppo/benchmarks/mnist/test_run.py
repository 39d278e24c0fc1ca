from __future__ import annotations

import pytest

from cppo.benchmarks.mnist.mnist_settings import MnistSettings
from cppo.benchmarks.mnist.run import train_one


@pytest.mark.parametrize("learner", list(MnistSettings.PRESETS))
def test_every_learner_learns_two_tasks(learner):
    settings = MnistSettings(learner=learner, tasks=2, examples_per_task=200).resolved()
    rows = train_one(settings, 0)
    assert [row["task"] for row in rows] == [1, 2]
    for row in rows:
        assert 10 <= row["accuracy"] <= 90  # one in ten by chance; the first 200 digits are soon over
        assert 0 <= row["dead_units"] < 1 and 0 < row["weight_magnitude"] < 1
    assert (rows[-1]["effective_rank"] == 0) == (learner == "linear")


def test_the_same_seed_gives_the_same_rows():
    settings = MnistSettings(learner="cbp", tasks=2, examples_per_task=150, width=10).resolved()
    assert train_one(settings, 3) == train_one(settings, 3) != train_one(settings, 4)


def test_images_can_come_in_batches():
    """100 images in batches of 30 are three batches and one of 10."""
    settings = MnistSettings(tasks=1, examples_per_task=100, batch_size=30, step_size=0.1).resolved()
    assert not settings.is_compiled
    assert train_one(settings, 0)[0]["accuracy"] in range(101)
