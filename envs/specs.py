"""What ``gymnasium.make`` made an environment from, kept so that it goes through JSON."""

import dataclasses

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from cppo_envs.arguments import plain


class PlainSpec(gym.Env[np.ndarray, np.ndarray]):
    """Base of environments whose ``spec`` holds its arguments as plain values."""

    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """What ``gymnasium.make`` made the environment from, its arguments as plain values that go through JSON."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = None if spec is None else dataclasses.replace(spec, kwargs=plain(spec.kwargs))
