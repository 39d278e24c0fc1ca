"""Makes the environments of a run."""

import importlib
import multiprocessing
import os
import signal
from functools import partial
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

import cppo_envs
from cppo.settings.settings import Settings
from cppo.training.environment_state import Restorable
from cppo.training.workers import Workers


def make_environment(env_id: str, arguments: dict[str, Any], env_module: str | None = None) -> gym.Env:
    """Make one environment; importable, so that a process of its own can call it.

    :param env_id: of a registered environment; nothing is imported for it
    :param env_module: the module to import first, which the user has named, never a run's folder
    :raises ImportError: if the module can't be imported
    :raises gymnasium.error.Error: if there is no such environment
    """
    if multiprocessing.parent_process() is not None:
        for number in (signal.SIGINT, signal.SIGTERM):  # for the parent, which ends its workers in order
            signal.signal(number, signal.SIG_IGN)
    cppo_envs.register_environments()
    if env_module is not None:
        import_module(env_module)
    if ":" in env_id:  # for which gymnasium would import a module
        raise gym.error.Error(f"{env_id} is no id of a registered environment")
    return gym.make(env_id, **arguments)


def import_module(name: str) -> None:
    """Import a module that registers environments.

    :raises ImportError: names it and says why it can't be imported
    """
    try:
        importlib.import_module(name)
    except Exception as error:  # it may be anybody's code
        raise ImportError(f"--env-module {name} can't be imported: {type(error).__name__}: {error}") from error


def environment_arguments(settings: Settings) -> dict[str, Any]:
    """Keyword arguments that steer the environment: the friction schedule of slippery ground, nothing elsewhere."""
    if not settings.is_slippery:
        return {}
    names = ("change_every", "friction_range", "frictions", "change_at", "schedule_seed", "n_envs")
    return {name: getattr(settings, name) for name in names if getattr(settings, name) is not None}


def make_vec_env(settings: Settings, env_module: str | None = None) -> VecEnv:
    """Make the run's environments, all of one process or each of its own, with episode statistics.

    :param env_module: see ``make_environment``
    :raises ImportError: if the module can't be imported
    :raises gymnasium.error.Error: if there is no such environment
    :raises TypeError: if it doesn't take the arguments
    :raises ValueError: if it refuses their values
    """
    make = partial(make_environment, settings.env, environment_arguments(settings), env_module)
    processes = pays_off(settings) if settings.processes is None else settings.processes
    if processes:
        make().close()  # an error here is readable; in a worker it would be a broken pipe
        return VecMonitor(Workers([lambda: Restorable(make())] * settings.n_envs, settings.restart_workers))
    return VecMonitor(_one_process(settings)([make] * settings.n_envs))


def _one_process(settings: Settings) -> type[DummyVecEnv]:
    """The ``VecEnv`` that steps the environments in this process; our own walkers have a faster one."""
    if settings.env not in cppo_envs.ENTRY_POINTS:
        return DummyVecEnv
    from cppo_envs.vec_env import WalkerVecEnv

    return WalkerVecEnv


def pays_off(settings: Settings) -> bool:
    """Whether a process for each environment is expected to be faster than one for all.

    Handing a step to a process and back costs about as much as a step of the ant, so it takes at least two
    environments for each of several cores to gain.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores >= 4 and settings.n_envs >= 4
