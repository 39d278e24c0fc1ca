"""The state of generate-and-test: ages and running averages of all units of all layers."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cppo.cbp.ranks import Ranks
from cppo.layers.hidden_layer import HiddenLayer

if TYPE_CHECKING:
    from typing_extensions import Self

    from cppo.cbp.watched_layer import WatchedLayer


class UnitState(nn.Module):
    """Ages and running averages of the units of some layers, one layer after another in each buffer.

    So a step costs few calls. The random generator of new units is part of the state.
    """

    age: Tensor
    average_utility: Tensor
    average_activation: Tensor
    accumulator: Tensor
    n_replaced: Tensor

    layers: list[WatchedLayer]
    decay_rate: float
    maturity_threshold: int

    def _register_state(self, records: Sequence[HiddenLayer], seed: int) -> None:
        self.ranks = Ranks()
        self._mature = [0] * len(records)
        self._next_count = self._version_counted = self._threshold_counted = 0
        self.generator = torch.Generator().manual_seed(self.ranks.share_seed(seed))
        self.n_units = sum(record.n_units for record in records)
        self._sizes = torch.tensor([record.n_units for record in records])
        weights = records[0].incoming.weight
        self._dtype_of_weights = weights.dtype
        device, dtype = weights.device, _format_of_averages(weights)
        self.register_buffer("age", torch.zeros(self.n_units, dtype=torch.int64, device=device))
        self.register_buffer("average_utility", torch.zeros(self.n_units, dtype=dtype, device=device))
        self.register_buffer("average_activation", torch.zeros(self.n_units, dtype=dtype, device=device))
        self.register_buffer("accumulator", torch.zeros(len(records), dtype=torch.float64))
        self.register_buffer("n_replaced", torch.zeros(len(records), dtype=torch.int64, device=device))

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move or convert the state, but for the accumulator: it is worked on in double precision on the CPU."""
        accumulator = self.accumulator
        super()._apply(fn, recurse)
        self.accumulator = accumulator
        return self

    def follow(self, weights: Tensor) -> None:
        """Move with a module that changed its device or number format."""
        if self.age.device != weights.device:
            self.to(weights.device)
        if self._dtype_of_weights != weights.dtype:
            dtype, self._dtype_of_weights = _format_of_averages(weights), weights.dtype
            self.average_utility = self.average_utility.to(dtype)
            self.average_activation = self.average_activation.to(dtype)

    def count_mature(self, aged: bool) -> list[int]:
        """Count the mature units of each layer.

        Looking at all ages costs time, and the counts change only when the next unit gets mature; so they are kept
        until then, or until anything but the passing of a step (a replacement, a state that is loaded) changes an age.

        :param aged: whether all units have just grown older by one step
        """
        self._next_count -= 1
        passed = aged and self.age._version == self._version_counted + 1
        if not passed or self._next_count < 0 or self._threshold_counted != self.maturity_threshold:
            ages = self.age.cpu().numpy()
            mature = ages > self.maturity_threshold
            starts = [layer.span.start for layer in self.layers]
            self._mature = np.add.reduceat(mature, starts, dtype=np.int64).tolist()
            self._next_count = int(self.maturity_threshold - ages.max(where=~mature, initial=-1))
        self._version_counted, self._threshold_counted = self.age._version, self.maturity_threshold
        return self._mature

    def forget_count(self) -> None:
        """Have the mature units counted anew the next time."""
        self._version_counted = -1

    @property
    def total_replaced(self) -> int:
        """Number of units replaced so far, over all layers."""
        return int(self.n_replaced.sum())

    def get_extra_state(self) -> dict[str, Tensor]:
        """The random generator's state, as part of ``state_dict()``."""
        return {"generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Restore the random generator, as part of ``load_state_dict()``."""
        self.generator.set_state(state["generator"].cpu())

    def _lerp(self, running: Tensor, layers: Sequence[WatchedLayer], values: Sequence[Tensor]) -> None:
        """Move the layers' running averages towards new values; as one vector where no layer is left out."""
        if len(layers) == len(self.layers):
            running.lerp_(torch.cat(list(values)), 1 - self.decay_rate)
            return
        for layer, value in zip(layers, values, strict=True):
            running[layer.span].lerp_(value, 1 - self.decay_rate)

    def _average(
        self, layers: Sequence[WatchedLayer], values: Sequence[Tensor]
    ) -> tuple[list[WatchedLayer], list[Tensor]]:
        """Average the layers' values over all ranks; return the layers that any rank has seen."""
        averages = torch.zeros_like(self.average_activation)
        counts = averages.new_zeros(len(self.layers))
        for layer, value in zip(layers, values, strict=True):
            averages[layer.span] = value
            counts[layer.number] = layer.n_samples
        averages, everyone = self.ranks.average(averages, self._sizes.to(averages.device), counts)
        for layer, count in zip(self.layers, everyone.tolist(), strict=True):
            layer.n_samples_of_all = count
        seen = [layer for layer in self.layers if layer.n_samples_of_all]
        return seen, [averages[layer.span] for layer in seen]


def bias_corrected(average: Tensor, age: Tensor, decay_rate: float) -> Tensor:
    """A running average over the share of it that observations make up; 0 for a new unit."""
    # 1 - eta^age; as it stands it would have few digits in single precision, or none, where eta is close to 1
    log = math.log(max(decay_rate, sys.float_info.min))
    weight = -torch.expm1(age.to(average.dtype) * log)
    return torch.where(weight > 0, average / weight, 0)


def _format_of_averages(weights: Tensor) -> torch.dtype:
    """Running averages of networks in 16 bits are kept in 32: a change of a hundredth would be lost."""
    return torch.promote_types(weights.dtype, torch.float32)
