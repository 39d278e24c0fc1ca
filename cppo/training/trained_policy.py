"""Reads the trained policy of a run: settings and tensors only, no pickled object is touched."""

from __future__ import annotations

import json
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

from cppo.runs.checkpoints import Checkpoints
from cppo.runs.folder import RunFolder
from cppo.training.agent import new_policy

NOT_READABLE = (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, EOFError, OSError)


def read_policy(folder: RunFolder, env: gym.Env) -> tuple[ActorCriticPolicy, int]:
    """Read the policy of a run from its newest checkpoint, or from the exported model where no checkpoint is newer.

    :param env: an environment with the spaces the agent was trained in
    :return: the policy, ready to act, and the environment steps it was trained for, 0 if they aren't known
    :raises FileNotFoundError: if the run has saved nothing yet
    :raises ValueError: if what it has saved can't be read, belongs to another environment, or isn't finite
    """
    path, steps, checkpoint = folder.model, _steps_exported(folder.model), Checkpoints(folder.checkpoints).newest()
    if checkpoint is not None and checkpoint.steps > steps:
        path, steps = checkpoint.path, checkpoint.steps
        tensors = checkpoint.state.get("networks", {}).get("policy")
    else:
        tensors = _read_tensors(path)
    settings = folder.settings()
    policy = new_policy(settings, env.observation_space, env.action_space)
    try:
        policy.load_state_dict(tensors)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} does not fit {settings.env} and the networks of config.yaml: it is the model of another "
            f"environment or of other settings"
        ) from error
    if not all(torch.isfinite(tensor).all() for tensor in policy.state_dict().values()):
        raise ValueError(f"{path} holds weights that are not finite: the training diverged")
    policy.set_training_mode(False)
    return policy, steps


def _steps_exported(path: Path) -> int:
    """Environment steps of an exported model, which are a plain number in it; 0 if they can't be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            steps = json.loads(archive.read("data"))["num_timesteps"]
    except (*NOT_READABLE, ValueError, TypeError):
        return 0
    return steps if isinstance(steps, int) else 0


def _read_tensors(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the run has not saved a model")
    try:
        with zipfile.ZipFile(path) as archive, archive.open("policy.pth") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's message advises to load it unsafely
        raise ValueError(f"{path} is not a readable model: its policy.pth holds something else than tensors") from error
    except NOT_READABLE as error:
        raise ValueError(f"{path} is not a readable model: {' '.join(str(error).split())}") from error
