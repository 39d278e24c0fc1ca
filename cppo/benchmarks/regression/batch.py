"""All learners of a setting, or of several, trained at once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cppo.benchmarks.learner import seed_of_new_units
from cppo.benchmarks.networks import kaiming
from cppo.benchmarks.regression.activations import CODES
from cppo.benchmarks.regression.draws import DrawnAhead
from cppo.benchmarks.regression.generate_and_test import UTILITIES
from cppo.benchmarks.regression.kernel import LANES, Learners, Rules, train_block
from cppo.benchmarks.regression.problem import Stream, Task
from cppo.benchmarks.regression.settings import RegressionSettings
from cppo.benchmarks.regression.single import build_network
from cppo.layers.hidden_layer import HiddenLayer

MOST_DRAWN_AHEAD = 1000
"""New units per learner whose weights are drawn before they are needed: 80 kB."""

Floats = NDArray[np.float32]


def alike(settings: RegressionSettings) -> tuple[object, ...]:
    """What learners that train together must have in common; those that only torch can train have nothing."""
    of_continual = (settings.maturity_threshold, settings.decay_rate, settings.utility)
    of_problem = (settings.steps, settings.change_every, settings.flip, settings.bin_steps)
    if not settings.is_plain:
        return (settings,)
    return settings.activation, settings.optimizer, settings.units, of_continual, of_problem


class RegressionBatch:
    """Learners of any seeds, step sizes, weight decays and replacement rates, trained together.

    :param settings: resolved settings of each learner; what ``alike`` names is the same in all of them
    :param seeds: of each learner
    """

    def __init__(self, settings: Sequence[RegressionSettings], seeds: Sequence[int]) -> None:
        first = settings[0]
        self.n_learners = len(settings)
        self._seeds = list(dict.fromkeys(seeds))
        spare = -len(settings) % LANES
        everyone = [*settings, *[first] * spare]
        of_everyone = [*seeds, *[seeds[0]] * spare]
        self._stream_of = np.array([self._seeds.index(seed) for seed in of_everyone])
        self._rules = _rules(first)
        networks = [build_network(each, seed) for each, seed in zip(everyone, of_everyone, strict=True)]
        self._state = _initial_state(networks, everyone, of_everyone)
        record = _hidden_layer(networks[0])
        fastest = max(each.replacement_rate or 0.0 for each in settings) * len(record.incoming.weight)
        self._most_steps = math.floor((MOST_DRAWN_AHEAD - 1) / fastest) if fastest else first.change_every
        ready = math.floor(min(self._most_steps, first.change_every) * fastest) + 1 if first.is_continual else 1
        self._draws = DrawnAhead(
            lambda count, generator: kaiming(record, count, generator),
            [seed_of_new_units(seed) for seed in of_everyone],
            ready,
        )
        streams = [Stream(seed, first.change_every, first.flip) for seed in self._seeds]
        self._tasks = [stream.tasks() for stream in streams]
        self._done_of_task = first.change_every
        self._change_every = first.change_every

    def advance(self, steps: int) -> NDArray[np.float64]:
        """Train all learners for some steps.

        :return: each learner's mean squared error
        """
        errors = np.zeros((len(self._stream_of) // LANES, LANES))
        left = steps
        while left:
            if self._done_of_task == self._change_every:
                self._begin_task([next(tasks) for tasks in self._tasks])
            count = min(left, self._change_every - self._done_of_task, self._most_steps)
            self._train(count, errors)
            left -= count
        return errors.flatten()[: self.n_learners] / steps

    def _begin_task(self, tasks: Sequence[Task]) -> None:
        """Lay the examples out as the kernel reads them: blocks, steps, lanes."""
        self._done_of_task = 0
        self._slow = self._by_lane(np.stack([task.slow for task in tasks]))
        self._random = self._by_lane(np.stack([task.random for task in tasks]))
        self._targets = self._by_lane(np.stack([task.targets for task in tasks]))

    def _by_lane(self, of_stream: NDArray) -> NDArray:
        blocks = of_stream[self._stream_of].reshape(-1, LANES, of_stream.shape[1])
        return np.ascontiguousarray(blocks.transpose(0, 2, 1))

    def _train(self, steps: int, errors: NDArray[np.float64]) -> None:
        part = slice(self._done_of_task, self._done_of_task + steps)
        draws = self._draws.rows.reshape(len(errors), LANES, *self._draws.rows.shape[1:])
        used = self._draws.used.reshape(errors.shape)
        with without_denormals():
            for block, of_block in enumerate(errors):
                train_block(
                    Learners(*(array[block] for array in self._state)), self._rules, self._slow[block],
                    self._random[block, part], self._targets[block, part], draws[block], used[block], of_block,
                )  # fmt: skip
        self._draws.refill()
        self._done_of_task += steps

    def weights(self, learner: int) -> list[Floats]:
        """A learner's weights as its module's ``parameters()`` would give them."""
        block, lane = divmod(learner, LANES)
        incoming, outgoing = self._state.incoming[block, :, :, lane], self._state.outgoing[block, :, lane]
        hidden = [incoming[:, :-1], incoming[:, -1]]
        return hidden if self._rules.is_linear else [*hidden, outgoing[None, :-1], outgoing[-1:]]

    @torch.no_grad()
    def write_weights(self, learner: int, network: nn.Module) -> None:
        """Copy a learner's weights to a module."""
        for parameter, values in zip(network.parameters(), self.weights(learner), strict=True):
            parameter.copy_(torch.from_numpy(values))

    @property
    def replaced(self) -> NDArray[np.int64]:
        """Number of units replaced so far, by learner."""
        return self._state.replaced.flatten()[: self.n_learners]


@contextlib.contextmanager
def without_denormals() -> Iterator[None]:
    """Take numbers below 1e-38 for 0: the averages of dead units get that small and would slow the processor down."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _rules(settings: RegressionSettings) -> Rules:
    return Rules(
        activation=CODES[settings.activation or "linear"],
        is_adam=settings.optimizer == "adam",
        is_linear=settings.is_linear,
        is_continual=settings.is_continual,
        utility=UTILITIES.index(settings.utility or "contribution"),
        maturity=settings.maturity_threshold or 0,
        decay_rate=settings.decay_rate or 0.0,
        beta1=0.9,
        beta2=0.999,
        eps=1e-8,
    )


def _hidden_layer(network: nn.Sequential) -> HiddenLayer:
    hidden, output = network[0], network[-1]
    assert isinstance(hidden, nn.Linear) and isinstance(output, nn.Linear)
    return HiddenLayer(hidden, [nn.Linear(len(hidden.weight), 1)], network[min(1, len(network) - 1)])


def _initial_state(
    networks: Sequence[nn.Sequential], settings: Sequence[RegressionSettings], seeds: Sequence[int]
) -> Learners:
    """The state before the first step. A linear learner is one unit that passes its sum on to a fixed output."""
    weights = [[parameter.detach() for parameter in network.parameters()] for network in networks]
    incoming = _stack([torch.column_stack(each[:2]) for each in weights])
    outgoing = _stack([torch.cat([each[2][0], each[3]]) if each[2:] else torch.tensor([1.0, 0.0]) for each in weights])
    blocks, units = incoming.shape[:2]

    def of_learners(values: Sequence[float | None], dtype: type) -> NDArray:
        return np.array([value or 0.0 for value in values]).astype(dtype).reshape(-1, LANES)

    return Learners(
        incoming=incoming,
        outgoing=outgoing,
        incoming_mean=np.zeros_like(incoming),
        incoming_square=np.zeros_like(incoming),
        outgoing_mean=np.zeros_like(outgoing),
        outgoing_square=np.zeros_like(outgoing),
        power1=np.ones(outgoing.shape),
        power2=np.ones(outgoing.shape),
        age=np.zeros((blocks, units, LANES), np.int64),
        decay_power=np.ones((blocks, units, LANES)),
        activation=np.zeros((blocks, units, LANES), np.float32),
        utility=np.zeros((blocks, units, LANES), np.float32),
        accumulator=np.zeros((blocks, LANES)),
        replaced=np.zeros((blocks, LANES), np.int64),
        random_state=of_learners([seed + 1 for seed in seeds], np.int64),
        step_size=of_learners([each.step_size for each in settings], np.float32),
        weight_decay=of_learners([each.weight_decay for each in settings], np.float32),
        replacement_rate=of_learners([each.replacement_rate for each in settings], np.float64),
    )


def _stack(tensors: Sequence[torch.Tensor]) -> Floats:
    """Arrays of all learners, the blocks first and the lanes last."""
    stacked = torch.stack(list(tensors)).numpy()
    blocks = stacked.reshape(-1, LANES, *stacked.shape[1:])
    return np.ascontiguousarray(np.moveaxis(blocks, 1, -1))
