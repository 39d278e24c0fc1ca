"""The weights of one optimizer whose own step count still matters, taken and added to as one vector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cppo import compiled


@dataclass
class YoungWeights:
    """The young weights of one parameter, by flat index.

    The view of the parameter keeps its memory alive: while its address is the parameter's, it is current.

    :param parameter: the parameter
    :param state: its entry in the optimizer
    :param tensors: its values and its moments, flat where their layout permits
    :param index: where its young weights lie
    :param births: the parameter's step count when each was born
    """

    parameter: nn.Parameter
    state: dict[str, Any] | None
    tensors: dict[str, Tensor]
    index: Tensor
    births: Tensor

    def __post_init__(self) -> None:
        self._moments = [(name, self.state[name]) for name in self.tensors if name and self.state is not None]
        self._address = self.parameter.data_ptr()

    def is_current(self, state: dict[str, Any] | None) -> bool:
        """Whether the optimizer still keeps this state, where it was."""
        if state is not self.state or state is None:
            return state is self.state
        if self.tensors and self.parameter.data_ptr() != self._address:
            return False
        return all(state.get(name) is moment for name, moment in self._moments)

    @cached_property
    def arrays(self) -> list[np.ndarray] | None:
        """The parameter, its moments, index and births as numpy sees them; None where loops can't work on them."""
        tensors = [*self.tensors.values()]
        if not all(map(compiled.can_take, tensors)):
            return None
        return [tensor.numpy() for tensor in (*tensors, self.index, self.births)]

    def take(self, name: str) -> Tensor:
        """Take the young weights' entries of a moment; of the parameter itself for an empty name."""
        return _take(self.tensors[name], self.index)

    def add(self, name: str, change: Tensor) -> None:
        """Add to the young weights' entries of a moment, or of the parameter."""
        tensor = self.tensors[name]
        if tensor.ndim != 1:
            tensor.put_(self.index.long(), change, accumulate=True)
        elif self.index.dtype == torch.int64:
            tensor.scatter_add_(0, self.index, change)
        else:
            tensor.index_add_(0, self.index, change)


@dataclass
class Cohort:
    """Young weights of parameters that have taken the same number of steps with the same hyperparameters.

    :param group: index of their parameter group in the optimizer
    :param members: where they lie
    :param births: the step counts at which they were born
    :param oldest: the first of those
    """

    group: int
    members: list[YoungWeights]
    births: Tensor = field(init=False)
    oldest: int = field(init=False)

    def __post_init__(self) -> None:
        self.births = torch.cat([young.births for young in self.members])
        self.oldest = int(self.births.min())
        self._lengths = [len(young.index) for young in self.members]
        for young, births in zip(self.members, self.births.split_with_sizes(self._lengths), strict=True):
            young.births = births  # keep them once

    def add(self, name: str, change: Tensor) -> None:
        """Add a vector with one entry a weight to a moment, or to the parameters for an empty name."""
        change = change.to(self.members[0].tensors[name].dtype)
        for young, share in zip(self.members, change.split_with_sizes(self._lengths), strict=True):
            young.add(name, share)

    @property
    def precision(self) -> torch.dtype:
        """The precision to compute in."""
        return precision_for(self.members[0].parameter.dtype)

    @cached_property
    def arrays(self) -> list[list[np.ndarray]] | None:
        """What loops need of each member; None where they can't work on one."""
        arrays = [young.arrays for young in self.members if young.arrays is not None]
        return arrays if len(arrays) == len(self.members) else None

    def gather(self, name: str) -> Tensor:
        """One moment of all weights as a vector of single precision or better."""
        return _widen(torch.cat([young.take(name) for young in self.members]))

    def pick(self, find: Callable[[nn.Parameter], Tensor | None]) -> Tensor:
        """What a function finds for each parameter (its gradient, say), of all weights as a vector."""
        found = [(young.index, find(young.parameter)) for young in self.members]
        return _widen(torch.cat([_take(flat(tensor), index) for index, tensor in found if tensor is not None]))


def flat(tensor: Tensor) -> Tensor:
    """The tensor as a vector that shares its memory, or itself where its layout doesn't permit that."""
    return tensor.view(-1) if tensor.is_contiguous() else tensor


def _take(tensor: Tensor, index: Tensor) -> Tensor:
    """Elements of a tensor, or of the one it is flattened from, by flat index."""
    return tensor.index_select(0, index) if tensor.ndim == 1 else tensor.take(index.long())


def _widen(vector: Tensor) -> Tensor:
    return vector.to(precision_for(vector.dtype))


def precision_for(dtype: torch.dtype) -> torch.dtype:
    """The precision to compute in: half precision is too coarse."""
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32
