"""Runs of continual image classification: accuracy by tasks, and what becomes of the hidden units."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cppo.benchmarks.images.data import SHAPE, Classes, find_classes
from cppo.benchmarks.images.images_settings import ImagesSettings
from cppo.benchmarks.images.network import build_network, renew_output
from cppo.benchmarks.learner import Learner
from cppo.benchmarks.plasticity_columns import measure_units
from cppo.benchmarks.problem import Problem, Row, one_by_one

TESTED_AT_ONCE = 500


class Task(NamedTuple):
    """Images and labels of two classes, to train with and to test with."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def train_one(settings: ImagesSettings, seed: int) -> list[Row]:
    """Train one run: the rows of its tasks, each with the test accuracy at its end."""
    classes = find_classes(settings.data_dir)
    rng = np.random.default_rng([seed, 5])
    pairs = pairs_of_classes(classes.count, settings.tasks, rng)
    network = build_network(settings, seed)
    example = torch.zeros(1, *SHAPE)
    learner = Learner(network, settings, seed, nn.functional.cross_entropy, example)
    rows = []
    for number, pair in enumerate(pairs, start=1):
        task = build_task(classes, pair, settings)
        renew_output(network)
        for _ in range(settings.epochs):
            train_accuracy = train_epoch(learner, task.train, settings.batch_size, rng)
        row: Row = {"seed": seed, "task": number, "accuracy": accuracy_on(network, task.test)}
        row |= {"train_accuracy": train_accuracy, "replaced": learner.replaced}
        rows.append(row | measure_units(network, task.test[0]))
    return rows


def pairs_of_classes(count: int, tasks: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """The classes of each task: all in a random order, two at a time; then the same again."""
    order = rng.permutation(count)[: count // 2 * 2]
    pairs = [(int(first), int(second)) for first, second in order.reshape(-1, 2)]
    return [pairs[task % len(pairs)] for task in range(tasks)]


def build_task(classes: Classes, pair: Sequence[int], settings: ImagesSettings) -> Task:
    """Read the images of a task."""
    count = settings.train_images + settings.test_images
    images = [torch.from_numpy(classes.images(number, count)) for number in pair]
    labels = torch.arange(len(pair))
    train = torch.cat([each[: settings.train_images] for each in images])
    test = torch.cat([each[settings.train_images :] for each in images])
    return Task(
        (train, labels.repeat_interleave(settings.train_images)),
        (test, labels.repeat_interleave(settings.test_images)),
    )


def train_epoch(learner: Learner, examples: tuple[Tensor, Tensor], batch_size: int, rng: np.random.Generator) -> float:
    """Train on all examples in a new order; return the accuracy, in percent, of the predictions before their steps."""
    images, labels = examples
    correct = 0
    for chosen in torch.from_numpy(rng.permutation(len(images))).split(batch_size):
        correct += int((learner.learn(images[chosen], labels[chosen]).argmax(dim=1) == labels[chosen]).sum())
    return 100 * correct / len(images)


@torch.no_grad()
def accuracy_on(network: nn.Sequential, examples: tuple[Tensor, Tensor]) -> float:
    """The accuracy on images never trained on, in percent."""
    network.eval()
    images, labels = examples
    parts = zip(images.split(TESTED_AT_ONCE), labels.split(TESTED_AT_ONCE), strict=True)
    correct = sum(int((network(part).argmax(dim=1) == of_part).sum()) for part, of_part in parts)
    network.train()
    return 100 * correct / len(images)


IMAGES = Problem(
    name="images",
    summary="continual image classification: one pair of classes after another, each with a new output layer",
    settings=ImagesSettings,
    when="task",
    measure="accuracy",
    higher_is_better=True,
    panels=(),
    alike=lambda settings: settings,
    train=one_by_one(train_one),
)
