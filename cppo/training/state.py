"""Captures and restores everything that the next steps and updates of a training depend on."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.save_util import recursive_getattr

from cppo.training.environment_state import environment_state, restore_environment

State = dict[str, Any]
COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining")
OBSERVATIONS = ("_last_obs", "_last_episode_starts", "_last_original_obs")
BUFFERS = ("ep_info_buffer", "ep_success_buffer")


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


def restore(model: PPO, state: State, seed: int) -> None:
    """Bring a model that was built with the same settings into a captured state.

    :raises ValueError: if it is the state of something else
    """
    try:
        for name in _networks(model):
            recursive_getattr(model, name).load_state_dict(state["networks"][name])
        for name, value in (state["counters"] | state["observations"]).items():
            setattr(model, name, value)
        for name, episodes in state["episodes"].items():
            setattr(model, name, deque(episodes, maxlen=model._stats_window_size))
        if state["environments"] is None:
            begin_episodes(model, seed)
        else:
            restore_environment(model.env, state["environments"])  # type: ignore[arg-type]
        _restore_generators(model, state["generators"])
    except (KeyError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the checkpoint does not fit the run's settings: {reason}") from error


def restore_callbacks(callbacks: Sequence[BaseCallback], state: State) -> None:
    """Give callbacks back the memory that they had."""
    for each in callbacks:
        if hasattr(each, "load_state_dict"):
            each.load_state_dict(state["callbacks"][type(each).__name__])


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
