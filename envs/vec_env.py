"""Several walkers in one process as one environment of stable-baselines3."""

from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.wrappers import OrderEnforcing, TimeLimit
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from cppo_envs.changing import Changing


class WalkerVecEnv(DummyVecEnv):
    """Steps walkers made by ``gymnasium.make``, passing by their wrappers and copying nothing twice.

    Observations, rewards, ends of episodes and infos are those of ``DummyVecEnv``, bit for bit. The wrappers keep
    their counts, so that each environment can also be stepped, saved and restored by itself.

    Args:
        env_fns: Functions that make our walkers, or others with observations in a ``Box``, with ``gymnasium.make`` or
            without; ``disable_env_checker=True`` keeps gymnasium's checker away from theirs.

    Raises:
        TypeError: if an environment wears another wrapper, or has other observations.
        ValueError: if two of the functions return the same environment.
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env]]) -> None:
        """Make the environments and look through their wrappers once."""
        super().__init__(list(env_fns))
        try:
            self._walkers = [_Worn(env) for env in self.envs]
        except TypeError:
            self.close()
            raise
        (self._observations,) = self.buf_obs.values()

    def step_wait(self) -> VecEnvStepReturn:
        """Take one step in each environment and start the next episode where one has ended."""
        observations, rewards, dones = self._observations, self.buf_rews, self.buf_dones
        infos = []
        for number, (walker, action) in enumerate(zip(self._walkers, self.actions, strict=True)):
            observation, rewards[number], done, info = walker.step(action)
            if done:
                info["terminal_observation"] = observation
                observation, self.reset_infos[number] = walker.env.reset()
            observations[number] = observation
            dones[number] = done
            infos.append(info)
        # What is returned must stay as it is during the next step.
        return observations.copy(), rewards.copy(), dones.copy(), infos


class _Worn:
    """A walker and the wrappers it wears."""

    def __init__(self, env: gym.Env) -> None:
        self.env = env
        self._order: OrderEnforcing | None = None
        self._limit: Any = None  # its count has no public name
        self._changing: Changing | None = None
        while isinstance(env, gym.Wrapper):
            if isinstance(env, TimeLimit):
                self._limit = env
            elif isinstance(env, Changing):
                self._changing = env
            elif isinstance(env, OrderEnforcing):
                self._order = env
            else:
                raise TypeError(f"the walker wears {type(env).__name__}; a DummyVecEnv takes any wrapper")
            env = env.env
        if not isinstance(env.observation_space, gym.spaces.Box):
            raise TypeError(f"the walker's observations must be a Box, got {env.observation_space}")
        self._walker = env

    def step(self, action: np.ndarray) -> tuple[np.ndarray, SupportsFloat, bool, dict[str, Any]]:
        """Take a step, and do and count what the wrappers would."""
        changing, limit = self._changing, self._limit
        if self._order is not None and not self._order.has_reset:
            raise ResetNeeded("reset the environments before the first step")
        if changing is not None:
            changing.before_step()
        observation, reward, terminated, truncated, info = self._walker.step(action)
        if changing is not None:
            changing.after_step(info)
        if limit is not None:
            limit._elapsed_steps += 1
            truncated = truncated or limit._elapsed_steps >= limit._max_episode_steps
        info["TimeLimit.truncated"] = truncated and not terminated
        return observation, reward, terminated or truncated, info
