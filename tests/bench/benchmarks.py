"""Steps per second of the supervised problems' batched learners against one plain torch learner, on one core.

``python -m tests.bench.benchmarks`` prints the ratios. The plain learner is an ``nn.Module`` with autograd and torch's
SGD at batch size 1, without continual backpropagation; the batched ones are given both without and with it.
"""

from __future__ import annotations

import itertools
import time

import torch

from cppo.benchmarks.mnist.compiled_learner import CompiledLearner
from cppo.benchmarks.mnist.data import PermutedTasks, load_digits, without_black
from cppo.benchmarks.mnist.mnist_settings import MnistSettings
from cppo.benchmarks.mnist.single import TorchLearner
from cppo.benchmarks.regression.batch import RegressionBatch
from cppo.benchmarks.regression.regression_settings import RegressionSettings
from cppo.benchmarks.regression.single import build_learner, squared_errors

PLAIN_STEPS = 5000
SEEDS = 100
STEPS = 50_000
MNIST = ((100, 4000), (300, 2000), (2000, 120))
"""Widths, and how many examples are learned at each."""


def seconds_of_plain_step(settings: RegressionSettings) -> float:
    """Time the loop that a reader of torch's tutorials would write."""
    errors = squared_errors(settings, 0, build_learner(settings, 0))
    list(itertools.islice(errors, 200))
    began = time.perf_counter()
    list(itertools.islice(errors, PLAIN_STEPS))
    return (time.perf_counter() - began) / PLAIN_STEPS


def seconds_of_batched_step(settings: RegressionSettings) -> float:
    """Time all seeds together; per seed and step, data included."""
    batch = RegressionBatch([settings] * SEEDS, range(SEEDS))
    batch.advance(1000)
    began = time.perf_counter()
    batch.advance(STEPS)
    return (time.perf_counter() - began) / (SEEDS * STEPS)


def examples_per_second(kind: type[CompiledLearner] | type[TorchLearner], settings: MnistSettings, count: int) -> float:
    """Time a learner on permuted digits at batch size 1; the plain loop gets its images ready made."""
    images, labels = load_digits()
    learner = kind(settings, 0, without_black(images, labels)) if kind is CompiledLearner else kind(settings, 0)
    tasks = PermutedTasks(images, labels, 10_000, 0)
    tasks.next()
    learner.train(tasks, 0, 20)
    began = time.perf_counter()
    learner.train(tasks, 20, count)
    return count / (time.perf_counter() - began)


def print_mnist() -> None:
    """Print the figures of permuted MNIST, each learner's against its own loop in torch and against backprop's."""
    for width, count in MNIST:
        bp = examples_per_second(TorchLearner, MnistSettings(width=width).resolved(), count // 2)
        print(f"mnist, width {width}, plain torch, backprop: {bp:.0f} examples a second")
        for learner in ("bp", "l2", "shrink-perturb", "adam", "cbp"):
            settings = MnistSettings(learner=learner, width=width).resolved()
            fast = examples_per_second(CompiledLearner, settings, count)
            same = examples_per_second(TorchLearner, settings, count // 4)
            print(
                f"  {learner}: {fast:.0f} a second, {fast / same:.1f} times as fast as in torch, "
                f"{fast / bp:.1f} times as fast as backprop in torch"
            )


def main() -> None:
    """Print all figures."""
    torch.set_num_threads(1)
    print_regression()
    print_mnist()


def print_regression() -> None:
    """Print the figures of regression."""
    plain = seconds_of_plain_step(RegressionSettings().resolved())
    print(f"regression, plain torch, backprop with SGD: {plain * 1e6:.0f} us a step")
    for learner, optimizer in itertools.product(("bp", "cbp"), ("sgd", "adam")):
        settings = RegressionSettings(learner=learner, optimizer=optimizer).resolved()
        batched = seconds_of_batched_step(settings)
        print(
            f"  {SEEDS} seeds, {learner}, {optimizer}: {batched * 1e9:.0f} ns a step and seed, {plain / batched:.0f} x"
        )


if __name__ == "__main__":
    main()
