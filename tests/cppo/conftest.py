"""An environment whose episodes and phases are known in advance, for the tests of runs."""

import os
import signal
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

ENV_ID = "Scripted-v0"


class Scripted(gym.Env):
    """Its n-th instance has episodes of ``lengths[n]`` steps; each step earns 1.

    :param lengths: of the episodes of each instance
    :param phase_steps: own steps after which the next phase is due, from the next episode on; 0: it has no phases
    :param speed: how far it comes in a step; 0: it doesn't tell
    :param ctrl_c_at: own steps at which the first instance presses Ctrl-C
    """

    instances = 0

    def __init__(self, lengths=(4,), phase_steps: int = 0, speed: float = 0.0, ctrl_c_at=()) -> None:
        self.observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self._number = Scripted.instances
        Scripted.instances += 1
        self._length = lengths[self._number % len(lengths)]
        self._phase_steps, self._ctrl_c_at = phase_steps, ctrl_c_at
        self._speed = speed
        self._steps = self._left = self._phase = 0

    def reset(self, *, seed=None, options=None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._left = self._length
        if self._phase_steps:
            self._phase = self._steps // self._phase_steps
        return self._observation(), {}

    def step(self, action):
        self._steps += 1
        self._left -= 1
        if self._number == 0 and self._steps in self._ctrl_c_at:
            os.kill(os.getpid(), signal.SIGINT)
        info = {"phase": self._phase, "friction": self._phase + 0.5} if self._phase_steps else {}
        if self._speed:
            info["x_position"] = self._speed * (self._length - self._left)
        return self._observation(), 1.0, self._left == 0, False, info

    def _observation(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


@pytest.fixture
def scripted() -> Callable[..., str]:
    """Register the scripted environment with the arguments given, and return its id."""

    def register(**arguments: Any) -> str:
        Scripted.instances = 0
        gym.registry.pop(ENV_ID, None)
        gym.register(ENV_ID, entry_point=Scripted, kwargs=arguments, disable_env_checker=True)
        return ENV_ID

    return register
