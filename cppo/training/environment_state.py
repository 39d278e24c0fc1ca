"""Saves the state of environments in the middle of their episodes, and restores it in others.

An environment of gymnasium that can continue has two methods, on the unwrapped one and on each wrapper with a memory of
its own::

    def state_dict(self) -> dict[str, Any]: ...  # plain values and arrays, see cppo/runs/checkpoints.py
    def load_state_dict(self, state: dict[str, Any]) -> None: ...  # its next step is that of the environment saved

So may a ``VecEnv`` as a whole; of a ``DummyVecEnv`` without them the environments are asked one by one.
"""

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
OF_MUJOCO = "gymnasium.envs.mujoco."
"""Where gymnasium's environments on MuJoCo are, whose state is known too; those of others may remember more."""


class Restorable(gym.Wrapper):
    """Lets another process ask an environment and its wrappers for their state."""

    def state_dict(self) -> State | None:
        """The state; None if it can't be told."""
        return environment_state(self.env)

    def load_state_dict(self, state: State) -> None:
        """Continue from a state."""
        restore_environment(self.env, state)

    def continue_after(self, steps: int) -> None:
        """Tell the environment how many steps there have been."""
        continue_after(self.env, steps)


def environment_state(env: gym.Env | VecEnv) -> State | None:
    """The state of an environment, or of several in a ``VecEnv``, and of what wraps it.

    :return: None if one of them can't tell its own
    """
    return _unless_missing("layers", [_own_state(layer) for layer in _layers(env)])


def restore_environment(env: gym.Env | VecEnv, state: State) -> None:
    """Continue from a state that an environment made in the same way told."""
    for layer, own in zip(_layers(env), state["layers"], strict=True):
        _restore_own(layer, own)


def continue_after(env: gym.Env | VecEnv, steps: int) -> None:
    """Tell environments that count their steps over all episodes how many each has taken."""
    for layer in _layers(env):
        if isinstance(layer, DummyVecEnv):
            for each in layer.envs:
                continue_after(each, steps)
        elif hasattr(type(layer), "continue_after"):
            layer.continue_after(steps)
        elif hasattr(type(layer), "steps_taken"):
            layer.steps_taken = steps


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
    if isinstance(layer, DummyVecEnv):
        return _unless_missing("environments", [environment_state(each) for each in layer.envs])
    if type(layer).__module__.startswith(OF_MUJOCO):
        from cppo_envs.mujoco_state import mujoco_state  # imports MuJoCo, as the environment has

        return mujoco_state(layer)
    fields = FIELDS.get(type(layer))
    if fields is None:
        return None
    state = {name: getattr(layer, name) for name in fields}
    if isinstance(layer, VecNormalize):
        running = _running(layer).items()
        state["statistics"] = {key: {"mean": r.mean, "var": r.var, "count": r.count} for key, r in running}
    return state


def _unless_missing(name: str, states: list[State | None]) -> State | None:
    """All states under a name; None if one is missing."""
    return None if any(state is None for state in states) else {name: states}


def _restore_own(layer: Any, state: State) -> None:
    if hasattr(type(layer), "load_state_dict"):
        layer.load_state_dict(state)
        return
    if type(layer).__module__.startswith(OF_MUJOCO):
        from cppo_envs.mujoco_state import load_mujoco_state

        load_mujoco_state(layer, state)
        return
    for number, its_own in enumerate(state.get("environments", [])):  # of a DummyVecEnv
        restore_environment(layer.envs[number], its_own)
    for name in FIELDS.get(type(layer), ()):
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
