"""A new unit's optimizer state starts afresh, the step count included.

Clearing the moments of a replaced weight is easy. Its step count is not: torch keeps one a parameter, so Adam would no
longer correct the bias of the weight's young moments and its first updates would be wrong by a factor of 3 (betas .9,
.999). So after each optimizer step the young weights' update is corrected to the one their own step count gives.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cppo.hidden_layers import UnitWeights

NEGLIGIBLE = 1e-6
"""A weight is young until its bias correction changes the update by less than this share."""


@dataclass
class YoungWeights:
    """The young weights of one parameter, by flat index.

    :param parameter: the parameter
    :param index: where its young weights lie
    :param births: the parameter's step count when each was born
    """

    parameter: nn.Parameter
    index: Tensor
    births: Tensor


@dataclass
class Cohort:
    """Young weights of parameters that have taken the same number of steps with the same hyperparameters.

    :param group: index of their parameter group in the optimizer
    :param weights: where they lie
    :param births: the distinct step counts at which they were born, ascending
    :param birth_of: for each weight, its entry in ``births``
    """

    group: int
    weights: list[YoungWeights]
    births: Tensor
    birth_of: Tensor


class FreshOptimizerState(nn.Module):
    """Gives the weights of replaced units the optimizer state of new parameters, and keeps it that way.

    Its buffer holds, for each part and unit, the parameter's step count at which the unit was last replaced.

    :param optimizer: the optimizer whose state is meant; ``torch.optim.Adam`` and its subclasses count their steps
    :param parts: every set of weights that belongs to the units of a layer
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parts: Sequence[UnitWeights]) -> None:
        super().__init__()
        self.replaced_at: Tensor
        self.optimizer = optimizer
        self.parts = list(parts)
        ends = torch.tensor([0] + [part.n_units for part in self.parts]).cumsum(0).tolist()
        self.spans = [slice(start, end) for start, end in itertools.pairwise(ends)]
        self.register_buffer("replaced_at", torch.zeros(ends[-1]))
        self._parameters_of_units = list({part.parameter: None for part in self.parts})
        self._cohorts: list[Cohort] = []
        self._stepped: list[bool] | None = None
        optimizer.register_load_state_dict_post_hook(self._forget_young)

    @torch.no_grad()
    def restart(self, part: int, units: Tensor) -> None:
        """Make the state of some units' weights that of a new parameter.

        :param part: which of ``parts``
        :param units: indices of the replaced units
        """
        weights = self.parts[part]
        state = self.optimizer.state.get(weights.parameter)
        if not state:
            return
        for value in state.values():
            if isinstance(value, Tensor) and value.shape == weights.parameter.shape:
                weights.view(value).index_fill_(weights.axis, units, 0)
        if "step" in state:
            self.replaced_at[self.spans[part]][units] = float(state["step"])
            self._forget_young()

    @torch.no_grad()
    def correct(self) -> None:
        """Correct the update that the optimizer just gave the young weights; call it once after every step."""
        stepped = [parameter.grad is not None for parameter in self._parameters_of_units]
        if stepped != self._stepped:
            self._cohorts, self._stepped = self._find_young(stepped), stepped
        for cohort in self._cohorts:
            self._correct(cohort)

    def _correct(self, cohort: Cohort) -> None:
        """Correct a cohort as one vector: with few young weights a parameter, calls cost more than arithmetic.

        With the moments m and v that the optimizer keeps, Adam's update after s steps is -lr * m / (c1 * (sqrt(v / c2)
        + eps)) where c = 1 - beta^s. The optimizer took the parameter's s, here each weight gets its own.
        """
        group = self.optimizer.param_groups[cohort.group]
        states = [self.optimizer.state[young.parameter] for young in cohort.weights]
        step = float(states[0]["step"])
        own_steps = step - cohort.births
        if own_steps[-1].item() > _steps_until_grown(group):
            self._forget_young()
            return
        mean = _gather(cohort.weights, states, "exp_avg")
        root = _gather(cohort.weights, states, "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq").sqrt_()
        scale, offset = (
            each.to(mean.dtype).index_select(0, cohort.birth_of) for each in _denominator(group, own_steps)
        )
        right = mean / offset.addcmul_(scale, root)
        scale_given, offset_given = (each.item() for each in _denominator(group, own_steps.new_tensor(step)))
        given = mean.div_(root.mul_(scale_given).add_(offset_given))
        missing = given.sub_(right).mul_(float(group["lr"]))
        for young, change in zip(cohort.weights, missing.split([len(y.index) for y in cohort.weights]), strict=True):
            _add(young.parameter, young.index, change)

    def _find_young(self, stepped: Sequence[bool]) -> list[Cohort]:
        """Look through the parameters that took the last step for weights whose own step count still matters."""
        together: dict[tuple[int, float], list[YoungWeights]] = {}
        groups = {p: number for number, group in enumerate(self.optimizer.param_groups) for p in group["params"]}
        for parameter in itertools.compress(self._parameters_of_units, stepped):
            number = groups.get(parameter)
            state = self.optimizer.state.get(parameter) or {}
            if number is None or not {"step", "exp_avg", "exp_avg_sq"} <= state.keys():
                continue
            step = float(state["step"])
            births = self._births(parameter).flatten()
            oldest = max(0.0, step - _steps_until_grown(self.optimizer.param_groups[number]))
            index = (births > oldest).nonzero().squeeze(1)
            if len(index):
                together.setdefault((number, step), []).append(YoungWeights(parameter, index, births[index].double()))
        return [
            Cohort(number, members, *torch.unique(torch.cat([young.births for young in members]), return_inverse=True))
            for (number, _), members in together.items()
        ]

    def _births(self, parameter: nn.Parameter) -> Tensor:
        """When each weight was last replaced, with the unit it feeds or the unit it reads; shape of the parameter."""
        births = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        for part, span in zip(self.parts, self.spans, strict=True):
            if part.parameter is parameter:
                view = part.view(births)
                units = [-1 if axis == part.axis else 1 for axis in range(view.ndim)]
                torch.maximum(view, self.replaced_at[span].reshape(units), out=view)
        return births

    def _forget_young(self, *_: object) -> None:
        self._stepped = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._forget_young()


def _steps_until_grown(group: dict[str, Any]) -> float:
    slowest = max(float(beta) for beta in group["betas"])
    return math.log(NEGLIGIBLE) / math.log(slowest) if slowest > 0 else 1.0


def _denominator(group: dict[str, Any], steps: Tensor) -> tuple[Tensor, Tensor]:
    """Adam's denominator after some steps as a factor of sqrt(v) and an offset, both relative to the moment m."""
    corrections = [1 - float(beta) ** steps for beta in group["betas"]]
    return corrections[0] * corrections[1].rsqrt(), corrections[0] * group["eps"]


def _gather(weights: Sequence[YoungWeights], states: Sequence[dict[str, Tensor]], key: str) -> Tensor:
    """One moment of all young weights as a vector."""
    return torch.cat([_take(state[key], young.index) for state, young in zip(states, weights, strict=True)])


def _take(tensor: Tensor, index: Tensor) -> Tensor:
    """Elements of a tensor by flat index."""
    return tensor.view(-1).index_select(0, index) if tensor.is_contiguous() else tensor.take(index)


def _add(tensor: Tensor, index: Tensor, change: Tensor) -> None:
    """Add to elements of a tensor by flat index, in place."""
    if tensor.is_contiguous():
        tensor.view(-1).scatter_add_(0, index, change)
    else:
        tensor.put_(index, change, accumulate=True)
