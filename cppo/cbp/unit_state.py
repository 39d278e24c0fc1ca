"""The state of generate-and-test: ages and running averages of all units of all layers."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cppo.cbp.ranks import Ranks

if TYPE_CHECKING:
    from typing_extensions import Self


class UnitState(nn.Module):
    """Keeps ages, running averages and shares of replacements, one layer after another in each buffer.

    So a step costs few calls. The random generator of new units is part of the state.

    :param sizes: number of units of each layer
    :param weights: of the first layer: the state lies on their device
    :param decay_rate: eta, of the running averages
    :param seed: of the generator
    """

    age: Tensor
    average_utility: Tensor
    average_activation: Tensor
    accumulator: Tensor
    n_replaced: Tensor

    def __init__(self, sizes: Sequence[int], weights: Tensor, decay_rate: float, seed: int) -> None:
        super().__init__()
        self.decay_rate = decay_rate
        self.ranks = Ranks()
        self.generator = torch.Generator().manual_seed(self.ranks.share_seed(seed))
        self.sizes = torch.tensor(sizes)
        self.spans = [slice(start, end) for start, end in pairwise([0, *accumulate(sizes)])]
        self._dtype_of_weights = weights.dtype
        n_units, device, dtype = sum(sizes), weights.device, _format_of_averages(weights)
        self.register_buffer("age", torch.zeros(n_units, dtype=torch.int64, device=device))
        self.register_buffer("average_utility", torch.zeros(n_units, dtype=dtype, device=device))
        self.register_buffer("average_activation", torch.zeros(n_units, dtype=dtype, device=device))
        self.register_buffer("accumulator", torch.zeros(len(sizes), dtype=torch.float64))
        self.register_buffer("n_replaced", torch.zeros(len(sizes), dtype=torch.int64, device=device))

    # What a layer's units are like --------------------------------------------------------------------------------

    def mean_activation(self, layer: int) -> Tensor:
        """Bias-corrected running mean f^ of each unit's activation, shape (n_units,); 0 for a new unit."""
        return self._corrected(self.average_activation, layer)

    def utility(self, layer: int) -> Tensor:
        """Bias-corrected running utility u^, shape (n_units,); 0 for a new unit."""
        return self._corrected(self.average_utility, layer)

    def _corrected(self, average: Tensor, layer: int) -> Tensor:
        """Divide a running average by 1 - eta^age, the share of it that observations make up."""
        span = self.spans[layer]
        # as it stands the share would have few digits in single precision, or none, where eta is close to 1
        log = math.log(max(self.decay_rate, sys.float_info.min))
        weight = -torch.expm1(self.age[span].to(average.dtype) * log)
        return torch.where(weight > 0, average[span] / weight, 0)

    # The rules ------------------------------------------------------------------------------------------------------

    def grow_older(self, layers: Sequence[int]) -> None:
        """Age the units of some layers by one step."""
        for age in [self.age] if self._are_all(layers) else [self.age[self.spans[layer]] for layer in layers]:
            age.add_(1)

    def move_average(self, average: Tensor, layers: Sequence[int], values: Sequence[Tensor]) -> None:
        """Move a running average of some layers' units towards new values: average ← eta average + (1-eta) value."""
        if self._are_all(layers):
            average.lerp_(torch.cat(tuple(values)).to(average.dtype), 1 - self.decay_rate)
            return
        for layer, value in zip(layers, values, strict=True):
            average[self.spans[layer]].lerp_(value.to(average.dtype), 1 - self.decay_rate)

    def count_due(self, layers: Sequence[int], replacement_rate: float, maturity_threshold: int) -> list[int]:
        """Accumulate some layers' shares of replacements, rho * number eligible; take the whole numbers out.

        :return: how many units of each of these layers are to be replaced now
        """
        eligible = self.age.cpu().numpy() > maturity_threshold
        accumulator, due = self.accumulator.numpy(), []
        shares = accumulator.tolist()
        for layer in layers:
            share = shares[layer] + replacement_rate * np.count_nonzero(eligible[self.spans[layer]])
            due.append(int(share))
            shares[layer] = share - due[-1]
        accumulator[:] = shares
        return due

    def restart(self, layer: int, units: Tensor) -> None:
        """Make some units of a layer as old and as useful as new ones, and count them as replaced."""
        for buffer in (self.age, self.average_activation, self.average_utility):
            buffer[self.spans[layer]].index_fill_(0, units, 0)
        self.n_replaced[layer] += len(units)

    def average_over_ranks(
        self, layers: Sequence[int], values: Sequence[Tensor], n_samples: Sequence[int]
    ) -> tuple[list[int], list[Tensor], list[float]]:
        """Average layers' values over all ranks, each weighing as much as it has samples.

        :return: the layers that any rank has seen, their averages, and their samples on all ranks
        """
        averages = torch.zeros_like(self.average_activation)
        counts = averages.new_zeros(len(self.spans))
        for layer, value, count in zip(layers, values, n_samples, strict=True):
            averages[self.spans[layer]], counts[layer] = value, count
        averages, everyone = self.ranks.average(averages, self.sizes.to(averages.device), counts)
        seen = everyone.nonzero().flatten().tolist()
        return seen, [averages[self.spans[layer]] for layer in seen], everyone[seen].tolist()

    def is_finite(self) -> bool:
        """Whether all running averages are finite."""
        return math.isfinite(torch.dot(self.average_activation, self.average_utility).item())

    def _are_all(self, layers: Sequence[int]) -> bool:
        return len(layers) == len(self.spans)

    # Where it lies --------------------------------------------------------------------------------------------------

    def follow(self, weights: Tensor) -> None:
        """Change the averages' number format with that of the weights."""
        if self._dtype_of_weights != weights.dtype:
            dtype, self._dtype_of_weights = _format_of_averages(weights), weights.dtype
            self.average_utility = self.average_utility.to(dtype)
            self.average_activation = self.average_activation.to(dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move or convert the state, but for the accumulator: it is worked on in double precision on the CPU."""
        accumulator = self.accumulator
        super()._apply(fn, recurse)
        self.accumulator = accumulator
        return self

    def get_extra_state(self) -> dict[str, Tensor]:
        """Return the random generator's state, as part of ``state_dict()``."""
        return {"generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Restore the random generator, as part of ``load_state_dict()``."""
        self.generator.set_state(state["generator"].cpu())


def _format_of_averages(weights: Tensor) -> torch.dtype:
    """Running averages of networks in 16 bits are kept in 32: a change of a hundredth would be lost."""
    return torch.promote_types(weights.dtype, torch.float32)
