"""Captures and restores everything that the next steps and updates of a training depend on."""

import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.save_util import recursive_getattr

from cppo.reading import Shape, of_shape, one_line
from cppo.training.environment_state import continue_after, environment_state, restore_environment

State = dict[str, Any]
COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining")
OBSERVATIONS = ("_last_obs", "_last_episode_starts", "_last_original_obs")
BUFFERS = ("ep_info_buffer", "ep_success_buffer")
PARTS: Shape = {
    **dict.fromkeys(("networks", "counters", "observations", "episodes", "generators", "callbacks", "session"), dict),
    "environments": dict | None,
}
NUMBER = int | float | np.number
SESSION: Shape = {"seconds": NUMBER, "iterations": int, "table": dict, "settings": dict | None}
TABLE: Shape = {"columns": list, "rows": int, "sha256": str | None}


def capture(model: PPO, callbacks: Sequence[BaseCallback]) -> State:
    """Take down the state of a training between two updates; the rollout before the last update isn't needed any more.

    :param model: the agent; environments that can't tell their state have just been reset by ``begin_episodes``
    :param callbacks: those with a memory have ``state_dict`` and ``load_state_dict``
    :return: nested plain values, arrays and tensors
    """
    assert model.env is not None
    return {
        "networks": {name: recursive_getattr(model, name).state_dict() for name in _networks(model)},
        "counters": {name: getattr(model, name) for name in COUNTERS},
        "observations": {name: getattr(model, name) for name in OBSERVATIONS},
        "episodes": {name: list(getattr(model, name)) for name in BUFFERS},
        "generators": _generators(model),
        "environments": environment_state(model.env),
        "callbacks": {type(each).__name__: each.state_dict() for each in callbacks if hasattr(each, "state_dict")},
    }


def restore(model: PPO, callbacks: Sequence[BaseCallback], state: State, seed: int, trusted: bool = True) -> None:
    """Bring a model that was built with the same settings, and callbacks, into a captured state.

    :param trusted: whether environments may read their states; otherwise they begin new episodes
    :raises ValueError: if it is the state of something else
    """
    try:
        of_shape(state, PARTS)
        of_shape(of_shape(state["session"], SESSION)["table"], TABLE)
        for name in _networks(model):
            _load(recursive_getattr(model, name), state["networks"][name])
        _restore_counters(model, state)
        if state["environments"] is not None and trusted:
            restore_environment(model.env, state["environments"])  # type: ignore[arg-type]
        else:
            continue_after(model.env, model.num_timesteps // model.n_envs)  # type: ignore[arg-type]
            begin_episodes(model, seed)
        _restore_generators(model, state["generators"])
        for each in callbacks:
            if hasattr(each, "load_state_dict"):
                each.load_state_dict(state["callbacks"][type(each).__name__])
                each.init_callback(model)
    except Exception as error:  # of which code that is given a strange state has many
        raise ValueError(f"the checkpoint does not fit the run's settings: {one_line(error)}") from error


def _load(part: Any, state: State) -> None:
    """Give a network or an optimizer its state; torch's optimizers take any.

    Whether steps are fused is the update's choice, which may be another than that of the run so far.
    """
    if not isinstance(part, torch.optim.Optimizer):
        part.load_state_dict(state)
        return
    kind, fused = _kind_of_groups(part), [group.get("fused") for group in part.param_groups]
    part.load_state_dict(state)
    if _kind_of_groups(part) != kind:
        raise ValueError("the optimizer's options are others")
    for group, own in zip(part.param_groups, fused, strict=True):
        group["fused"] = own
    for parameter, its_own in part.state.items():
        for name, value in its_own.items():
            if not isinstance(value, torch.Tensor) or value.shape not in ((), parameter.shape):
                raise ValueError(f"the optimizer's {name} is of another shape than its parameter")
            if name == "step" and value.min() < 0:
                raise ValueError("the optimizer has counted fewer steps than none")


def _kind_of_groups(optimizer: torch.optim.Optimizer) -> Any:
    """Of what kind an optimizer's options are, but for whether its steps are fused."""
    return _kind([group | {"params": [], "fused": None} for group in optimizer.param_groups])


def _kind(value: Any) -> Any:
    """What a nested value is made of."""
    if isinstance(value, dict):
        return {name: _kind(each) for name, each in value.items()}
    return [type(value), *map(_kind, value)] if isinstance(value, list | tuple) else type(value)


def _restore_counters(model: PPO, state: State) -> None:
    """Restore what is counted, what was seen last, and the latest episodes."""
    for name in COUNTERS:
        value = state["counters"][name]
        if type(value) is not type(getattr(model, name)) or value < 0:
            raise ValueError(f"{name} is {value!r}")
        setattr(model, name, value)
    for name in OBSERVATIONS:
        value = state["observations"][name]
        space = spaces.Discrete(2) if name == "_last_episode_starts" else model.observation_space
        if not (_is_seen(value, space, model.n_envs) or (value is None and name == "_last_original_obs")):
            raise ValueError(f"{name} is of another shape than the observations")
        setattr(model, name, value)
    of_shape(state["episodes"], dict.fromkeys(BUFFERS, list))
    for each in state["episodes"]["ep_info_buffer"]:
        of_shape(each, dict.fromkeys("rlt", NUMBER))
    if not all(isinstance(each, NUMBER | np.bool_) for each in state["episodes"]["ep_success_buffer"]):
        raise ValueError("the successes of episodes are no numbers")
    for name in BUFFERS:
        setattr(model, name, deque(state["episodes"][name], maxlen=model._stats_window_size))


def _is_seen(value: Any, space: spaces.Space, n_envs: int) -> bool:
    """Whether a value can be what so many environments have shown."""
    if isinstance(space, spaces.Dict):
        is_dict = isinstance(value, dict) and value.keys() == space.keys()
        return is_dict and all(_is_seen(value[name], space[name], n_envs) for name in space)
    is_array = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    return is_array and value.shape == (n_envs, *(space.shape or ()))


def begin_episodes(model: PPO, seed: int) -> None:
    """Reset all environments with a seed that depends on the run's seed and the steps done, and nothing else.

    Environments that can't tell their state begin their episodes with a checkpoint, so that a run that continues there
    does what the other does. The rollout that ended here has been bootstrapped with the value of where it ended.
    """
    assert model.env is not None
    sequence = np.random.SeedSequence([seed, model.num_timesteps])
    model.env.seed(int(sequence.generate_state(1)[0]) % 2**31)
    model._last_obs = model.env.reset()  # type: ignore[assignment]
    model._last_episode_starts = np.ones(model.n_envs, dtype=bool)


def _networks(model: PPO) -> list[str]:
    """Names of everything with a ``state_dict``: policy, optimizer, continual backpropagation."""
    return model._get_torch_save_params()[0]


def _generators(model: PPO) -> State:
    """The states of all random generators of this process; environments have their own."""
    states = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "actions": model.action_space.np_random.bit_generator.state,
    }
    if model.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def _restore_generators(model: PPO, states: State) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    model.action_space.np_random.bit_generator.state = states["actions"]
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])
