"""Runs of slowly-changing regression: errors by bins of steps, and what becomes of the hidden units."""

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cppo.benchmarks.plasticity_columns import measure_layer
from cppo.benchmarks.problem import Problem, Row, one_by_one
from cppo.benchmarks.regression.batch import RegressionBatch, alike
from cppo.benchmarks.regression.bit_flipping import INPUTS
from cppo.benchmarks.regression.regression_settings import RegressionSettings
from cppo.benchmarks.regression.single import build_learner, build_network, squared_errors

SAMPLES = 2000


def train(runs: Sequence[tuple[RegressionSettings, int]]) -> Iterator[dict[int, list[Row]]]:
    """Train runs together, or one by one where only torch can; see ``Problem``."""
    inputs = torch.from_numpy(np.random.default_rng(0).integers(2, size=(SAMPLES, INPUTS)).astype(np.float32))
    first = runs[0][0]
    if not first.is_plain:
        yield from one_by_one(functools.partial(train_single, inputs=inputs))(runs)
        return
    batch = RegressionBatch([settings for settings, _ in runs], [seed for _, seed in runs])
    networks = [build_network(settings, seed) for settings, seed in runs]
    rows: list[list[Row]] = [[] for _ in runs]
    for step in range(first.bin_steps, first.steps + 1, first.bin_steps):
        errors = batch.advance(first.bin_steps)
        for number, (_, seed) in enumerate(runs):
            row: Row = {"seed": seed, "step": step, "error": errors[number], "replaced": batch.replaced[number]}
            batch.write_weights(number, networks[number])
            rows[number].append(row | measure(networks[number], inputs))
    yield dict(enumerate(rows))


def train_single(settings: RegressionSettings, seed: int, inputs: Tensor) -> list[Row]:
    """Train one run with torch; dropout takes its masks from torch's global generator."""
    learner = build_learner(settings, seed)
    torch.manual_seed(seed)
    errors, rows = squared_errors(settings, seed, learner), []
    for step in range(settings.bin_steps, settings.steps + 1, settings.bin_steps):
        error = sum(itertools.islice(errors, settings.bin_steps)) / settings.bin_steps
        row: Row = {"seed": seed, "step": step, "error": error, "replaced": learner.replaced}
        rows.append(row | measure(learner.network, inputs))
    return rows


@torch.no_grad()
def measure(network: nn.Module, inputs: Tensor) -> Row:
    """Measure the plasticity of a learner's hidden units over random inputs."""
    assert isinstance(network, nn.Sequential) and isinstance(network[0], nn.Linear)
    network.eval()
    features = network[:-1](inputs) if len(network) > 1 else None
    network.train()
    return measure_layer(features, network[0].weight)


REGRESSION = Problem(
    name="regression",
    summary="slowly-changing regression: 15 of 20 bits change rarely, 5 hidden units follow a fixed random network",
    settings=RegressionSettings,
    when="step",
    measure="error",
    higher_is_better=False,
    panels=("activation", "optimizer"),
    alike=alike,
    train=train,
)
