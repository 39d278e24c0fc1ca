"""Takes down where environments are in the middle of their episodes, and puts others there.

An environment of gymnasium that can continue has two methods, on the unwrapped one and on each wrapper with a memory of
its own::

    def state_dict(self) -> dict[str, Any]: ...  # plain values and arrays, see cppo/runs/plain.py
    def load_state_dict(self, state: dict[str, Any]) -> None: ...  # its next step is that of the environment saved

So may a ``VecEnv`` as a whole; otherwise its environments are asked one by one.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecMonitor, VecNormalize

State = dict[str, Any]
FIELDS: dict[type, tuple[str, ...]] = {
    TimeLimit: ("_elapsed_steps",),
    OrderEnforcing: ("_has_reset",),
    PassiveEnvChecker: (),
    VecMonitor: ("episode_returns", "episode_lengths", "episode_count"),
    VecNormalize: ("returns",),
}
"""Wrappers of others whose memory is known."""


class Restorable(gym.Wrapper):
    """Lets an environment in a process of its own be asked for its state, its wrappers' included."""

    def state_dict(self) -> State | None:
        """The state; None if it can't be told."""
        return environment_state(self.env)

    def load_state_dict(self, state: State) -> None:
        """Continue from a state."""
        restore_environment(self.env, state)

    def continue_after(self, steps: int) -> None:
        """See ``continue_after``."""
        continue_after(self.env, steps)


def environment_state(env: gym.Env) -> State | None:
    """The state of an environment and its wrappers.

    :return: None if one of them can't tell its own
    """
    states = [_own_state(layer) for layer in _layers(env)]
    return None if None in states else {"layers": states}


def restore_environment(env: gym.Env, state: State) -> None:
    """Continue from a state that an environment made in the same way told."""
    for layer, own in zip(_layers(env), state["layers"], strict=True):
        _restore_own(layer, own)


def continue_after(env: gym.Env, steps: int) -> None:
    """Tell an environment that counts its steps over all episodes how many there have been."""
    for layer in _layers(env):
        if hasattr(type(layer), "steps_taken"):
            layer.steps_taken = steps


def vec_env_state(env: VecEnv) -> State | None:
    """The state of all environments and of what wraps them.

    :return: None if an environment can't tell its own
    """
    layers = _layers(env)
    states = [_own_state(layer) for layer in layers[:-1]]
    states.append(_base_state(layers[-1]))
    return None if None in states else {"layers": states}


def restore_vec_env(env: VecEnv, state: State) -> None:
    """Continue from a state that environments made in the same way told."""
    layers = _layers(env)
    for layer, own in zip(layers[:-1], state["layers"][:-1], strict=True):
        _restore_own(layer, own)
    base, own = layers[-1], state["layers"][-1]
    if hasattr(type(base), "load_state_dict"):
        base.load_state_dict(own)
    elif isinstance(base, DummyVecEnv):
        for each, its_own in zip(base.envs, own["environments"], strict=True):
            restore_environment(each, its_own)
    else:
        for number, its_own in enumerate(own["environments"]):
            base.env_method("load_state_dict", its_own, indices=number)


def _base_state(base: Any) -> State | None:
    if hasattr(type(base), "state_dict"):
        return base.state_dict()
    if isinstance(base, DummyVecEnv):
        states = [environment_state(each) for each in base.envs]
    elif base.has_attr("state_dict"):
        states = base.env_method("state_dict")
    else:
        return None
    return None if None in states else {"environments": states}


def _layers(env: Any) -> list[Any]:
    """An environment's wrappers from the outermost on, then the environment."""
    layers = [env]
    while isinstance(env, gym.Wrapper | VecEnvWrapper):
        env = env.env if isinstance(env, gym.Wrapper) else env.venv
        layers.append(env)
    return layers


def _own_state(layer: Any) -> State | None:
    """What a layer remembers by itself, without those within."""
    if hasattr(type(layer), "state_dict"):
        return layer.state_dict()
    fields = FIELDS.get(type(layer))
    if fields is None:
        return None
    state = {name: getattr(layer, name) for name in fields}
    if isinstance(layer, VecNormalize):
        state["statistics"] = {name: _statistics(each) for name, each in _running(layer).items()}
    return state


def _restore_own(layer: Any, state: State) -> None:
    if hasattr(type(layer), "load_state_dict"):
        layer.load_state_dict(state)
        return
    for name in FIELDS[type(layer)]:
        setattr(layer, name, state[name])
    if isinstance(layer, VecNormalize):
        for name, each in _running(layer).items():
            vars(each).update(state["statistics"][name])


def _running(layer: VecNormalize) -> dict[str, RunningMeanStd]:
    """Every running mean of a ``VecNormalize``, by name."""
    of_observations = getattr(layer, "obs_rms", {})  # there is none if observations aren't normalized
    if not isinstance(of_observations, dict):
        of_observations = {"": of_observations}
    return {f"observations {key}": each for key, each in of_observations.items()} | {"returns": layer.ret_rms}


def _statistics(running: RunningMeanStd) -> State:
    return {"mean": running.mean, "var": running.var, "count": running.count}
