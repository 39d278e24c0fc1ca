"""Compiled learners of many seeds and settings, trained together block by block."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cppo.benchmarks.compiled_replacement import UTILITIES, Rules, Units, new_units, without_denormals
from cppo.benchmarks.draws import DrawnAhead
from cppo.benchmarks.initial_networks import kaiming_gain
from cppo.benchmarks.learner import seed_of_new_units
from cppo.benchmarks.regression.activations import CODES
from cppo.benchmarks.regression.bit_flipping import INPUTS, Stream, Task
from cppo.benchmarks.regression.compiled_block import LANES, Kind, Steps, Weights, train_block
from cppo.benchmarks.regression.regression_settings import RegressionSettings
from cppo.benchmarks.regression.single import build_network
from cppo.layers.hidden_layer import HiddenLayer

Floats = NDArray[np.float32]


def alike(settings: RegressionSettings) -> tuple[object, ...]:
    """Return what the settings of learners that train together share; those that only torch trains share nothing."""
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
        networks = [build_network(each, seed) for each, seed in zip(everyone, of_everyone, strict=True)]
        self._kind, self._rules = _kind(first), _rules(first, networks[0])
        self._weights = _initial_weights(networks)
        self._steps = _initial_steps(self._weights, everyone)
        rates = [each.replacement_rate or 0.0 for each in everyone]
        units = self._weights.incoming.shape[1]
        self._units = new_units((len(everyone) // LANES, units, LANES), of_everyone, rates)
        self._draws = DrawnAhead(
            [seed_of_new_units(seed) for seed in of_everyone], max(rates) * units * INPUTS, INPUTS, first.change_every
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
            count = min(left, self._change_every - self._done_of_task, self._draws.steps)
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
        numbers = self._draws.numbers.reshape(len(errors), LANES, -1)
        used = self._draws.used.reshape(errors.shape)
        with without_denormals():
            for block, of_block in enumerate(errors):
                train_block(
                    Weights(*(array[block] for array in self._weights)),
                    Steps(*(array[block] for array in self._steps)),
                    Units(*(array[block] for array in self._units)),
                    self._kind, self._rules, self._slow[block], self._random[block, part], self._targets[block, part],
                    numbers[block], used[block], of_block,
                )  # fmt: skip
        self._draws.refill()
        self._done_of_task += steps

    def weights(self, learner: int) -> list[Floats]:
        """A learner's weights as its module's ``parameters()`` would give them."""
        block, lane = divmod(learner, LANES)
        incoming, outgoing = self._weights.incoming[block, :, :, lane], self._weights.outgoing[block, :, lane]
        hidden = [incoming[:, :-1], incoming[:, -1]]
        return hidden if self._kind.is_linear else [*hidden, outgoing[None, :-1], outgoing[-1:]]

    @torch.no_grad()
    def write_weights(self, learner: int, network: nn.Module) -> None:
        """Copy a learner's weights to a module."""
        for parameter, values in zip(network.parameters(), self.weights(learner), strict=True):
            parameter.copy_(torch.from_numpy(values))

    @property
    def replaced(self) -> NDArray[np.int64]:
        """Number of units replaced so far, by learner."""
        return self._units.replaced.flatten()[: self.n_learners]


def _kind(settings: RegressionSettings) -> Kind:
    activation = CODES[settings.activation or "linear"]
    return Kind(activation, settings.optimizer == "adam", settings.is_linear, settings.is_continual)


def _rules(settings: RegressionSettings, network: nn.Sequential) -> Rules:
    gain = 1.0
    if settings.is_continual:
        hidden, activation, output = network
        assert isinstance(hidden, nn.Linear) and isinstance(output, nn.Linear)
        gain = kaiming_gain(HiddenLayer(hidden, [output], activation))
    utility = UTILITIES.index(settings.utility or "contribution")
    return Rules(utility, settings.maturity_threshold or 0, settings.decay_rate or 0.0, gain)


def _initial_weights(networks: Sequence[nn.Sequential]) -> Weights:
    """The weights of all learners. A linear one is one unit that passes its sum on to a fixed output."""
    weights = [[parameter.detach() for parameter in network.parameters()] for network in networks]
    incoming = [torch.column_stack(each[:2]) for each in weights]
    outgoing = [torch.cat([each[2][0], each[3]]) if each[2:] else torch.tensor([1.0, 0.0]) for each in weights]
    return Weights(_stack(incoming), _stack(outgoing))


def _initial_steps(weights: Weights, settings: Sequence[RegressionSettings]) -> Steps:
    rates = [(each.step_size or 0.0, each.weight_decay or 0.0) for each in settings]
    step_size, weight_decay = np.ascontiguousarray(np.array(rates, np.float32).T).reshape(2, -1, LANES)
    incoming, outgoing = weights
    return Steps(
        step_size, weight_decay, np.zeros_like(incoming), np.zeros_like(incoming), np.zeros_like(outgoing),
        np.zeros_like(outgoing), np.ones(outgoing.shape), np.ones(outgoing.shape),
    )  # fmt: skip


def _stack(tensors: Sequence[torch.Tensor]) -> Floats:
    """Arrays of all learners, the blocks first and the lanes last."""
    stacked = torch.stack(list(tensors)).numpy()
    blocks = stacked.reshape(-1, LANES, *stacked.shape[1:])
    return np.ascontiguousarray(np.moveaxis(blocks, 1, -1))
