"""Takes batches of observations out of what an algorithm of stable-baselines3 has experienced; draws nothing."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

Observations = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """Observations as the buffers hold them, and for critics the actions taken.

    :param actions: None where no network judges actions
    """

    observations: Observations
    actions: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the types, as a checkpoint may hold others."""
        parts = [*(self.observations.values() if isinstance(self.observations, dict) else [self.observations])]
        if not all(isinstance(part, Tensor) for part in [*parts, *([] if self.actions is None else [self.actions])]):
            raise TypeError("a batch must hold tensors")

    def __len__(self) -> int:
        values = self.observations
        return len(next(iter(values.values())) if isinstance(values, dict) else values)


class RecentRollouts:
    """The observations of the last rollouts, no more of them than it takes for a batch."""

    def __init__(self, n_samples: int) -> None:
        self.n_samples = n_samples
        self.batches: list[Batch] = []

    def add(self, buffer: BaseBuffer) -> None:
        """Take a rollout in, and let older ones go that aren't needed any more."""
        rows = buffer.buffer_size * buffer.n_envs
        self.batches.append(_rows(buffer, _evenly_spaced(rows, self.n_samples)))
        while sum(map(len, self.batches[1:])) >= self.n_samples:
            del self.batches[0]

    @property
    def is_full(self) -> bool:
        """Whether there is enough for a batch."""
        return sum(map(len, self.batches)) >= self.n_samples

    def batch(self) -> Batch:
        """The last observations, oldest first."""
        last = slice(-self.n_samples, None)
        parts: list[Any] = [batch.observations for batch in self.batches]
        if isinstance(parts[0], dict):
            return Batch({key: torch.cat([part[key] for part in parts])[last] for key in parts[0]})
        return Batch(torch.cat(parts)[last])


def fills_batch(buffer: ReplayBuffer, n_samples: int) -> bool:
    """Whether a replay buffer holds enough for a batch, or as much as it ever will."""
    return buffer.full or buffer.size() * buffer.n_envs >= n_samples


def from_replay_buffer(buffer: ReplayBuffer, n_samples: int) -> Batch:
    """Take a batch evenly out of all that a replay buffer holds, with the actions."""
    rows = _evenly_spaced(buffer.size() * buffer.n_envs, n_samples)
    return Batch(_rows(buffer, rows).observations, _take(buffer.actions, rows))


def as_networks_see(batch: Batch, model: BaseAlgorithm, is_normalized: bool) -> tuple[Any, Tensor | None]:
    """Normalise observations as the algorithm does when it learns, and bring the batch to the networks' device.

    :param is_normalized: whether its buffer holds normalised observations, as rollout buffers do
    """
    values = batch.observations
    arrays: Any = {key: value.numpy() for key, value in values.items()} if isinstance(values, dict) else values.numpy()
    statistics = None if is_normalized else model.get_vec_normalize_env()
    if statistics is not None:
        arrays = statistics.normalize_obs(arrays)
    actions = None if batch.actions is None else batch.actions.to(model.device)
    return obs_as_tensor(arrays, model.device), actions


def _evenly_spaced(count: int, wanted: int) -> np.ndarray:
    wanted = min(count, wanted)
    return np.arange(wanted) * count // wanted


def _rows(buffer: Any, rows: np.ndarray) -> Batch:
    """Copy rows of a buffer whose arrays are of shape (steps, environments, ...)."""
    values = buffer.observations
    if isinstance(values, dict):
        return Batch({key: _take(value, rows) for key, value in values.items()})
    return Batch(_take(values, rows))


def _take(values: np.ndarray, rows: np.ndarray) -> Tensor:
    return torch.as_tensor(values.reshape(-1, *values.shape[2:])[rows])
