from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cppo.benchmarks.images.data import FolderOfClasses, find_classes
from cppo.benchmarks.images.images_settings import ImagesSettings
from cppo.benchmarks.images.network import build_network
from cppo.benchmarks.images.run import accuracy_on, build_task, train_epoch
from cppo.benchmarks.learner import Learner


def test_there_are_a_thousand_procedural_classes():
    classes = find_classes(None)
    assert classes.count == 1000
    images = classes.images(7, 3)
    assert images.shape == (3, 3, 32, 32) and images.dtype == np.float32
    assert (images == classes.images(7, 5)[:3]).all()
    assert (images != classes.images(8, 3)).any()


def test_procedural_classes_are_distinguishable():
    """The mean of 150 images of a class is nearest to that of 150 others of the same class."""
    images = [find_classes(None).images(number, 300) for number in range(8)]
    first, second = (np.stack([each[half::2].mean(axis=0).ravel() for each in images]) for half in (0, 1))
    distances = np.linalg.norm(first[:, None] - second[None], axis=2)
    assert distances.argmin(axis=1).tolist() == list(range(8))


@pytest.mark.parametrize("learner", ["bp", "linear"])
def test_a_network_learns_what_a_linear_model_does_not(learner):
    """90 steps on two classes: the convolutional network names over 80 % of new images, the linear one under 70 %."""
    settings = ImagesSettings(learner=learner, train_images=150).resolved()
    task = build_task(find_classes(None), (4, 5), settings)
    network, rng = build_network(settings, 0), np.random.default_rng(0)
    trained = Learner(network, settings, 0, nn.functional.cross_entropy)
    for _ in range(6):
        train_epoch(trained, task.train, 20, rng)
    accuracy = accuracy_on(network, task.test)
    assert accuracy > 80 if learner == "bp" else accuracy < 70


def test_arrays_of_classes_are_read(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", rng.integers(256, size=(5, 3, 32, 32), dtype=np.uint8))
    classes = FolderOfClasses(tmp_path)
    images = classes.images(1, 4)
    assert classes.count == 2 and images.shape == (4, 3, 32, 32)
    assert -1 <= images.min() < -0.9 and 0.9 < images.max() <= 1
    with pytest.raises(ValueError, match=r"b.npy holds \(5, 3, 32, 32\), not at least 6 images"):
        classes.images(1, 6)


def test_image_files_are_read(tmp_path):
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (50, 40), colour).save(tmp_path / name / "1.png")
    blue, red = (FolderOfClasses(tmp_path).images(number, 1)[0] for number in (0, 1))
    assert blue.mean(axis=(1, 2)).tolist() == [-1, -1, 1]
    assert red.mean(axis=(1, 2)).tolist() == [1, -1, -1]


def test_damaged_and_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no classes"):
        FolderOfClasses(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a.npy is no array"):
        FolderOfClasses(tmp_path).images(0, 1)


def test_training_draws_every_image_once_an_epoch():
    settings = ImagesSettings(learner="linear", train_images=7, test_images=2).resolved()
    task = build_task(find_classes(None), (3, 4), settings)
    seen = []

    class Listener(Learner):
        def learn(self, inputs, targets):
            seen.append(len(inputs))
            return torch.nn.functional.one_hot(targets, 2)

    listener = Listener(build_network(settings, 0), settings, 0, nn.functional.cross_entropy)
    assert train_epoch(listener, task.train, 4, np.random.default_rng(0)) == 100
    assert seen == [4, 4, 4, 2]
