"""A rollout buffer that takes a step down with fewer copies."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor


class LeanRolloutBuffer(RolloutBuffer):
    """stable-baselines3's ``RolloutBuffer``, bit for bit: its own copies each array before it copies it."""

    def add(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        episode_start: np.ndarray,
        value: Tensor,
        log_prob: Tensor,
    ) -> None:
        """Take a step of all environments down."""
        if isinstance(self.observation_space, spaces.Discrete) or log_prob.ndim == 0:
            super().add(obs, action, reward, episode_start, value, log_prob)
            return
        position: Any = self.pos
        self.observations[position] = obs
        self.actions[position] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[position] = reward
        self.episode_starts[position] = episode_start
        self.values[position] = value.cpu().numpy().reshape(-1)
        self.log_probs[position] = log_prob.cpu().numpy()
        self.pos += 1
        self.full = self.full or self.pos == self.buffer_size
