"""Reads the trained policy of a run: settings and tensors only, no pickled object is touched."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

from cppo.reading import TEXT_BYTES, UnreadableError, parse_json, parse_tensors, read_member
from cppo.runs.checkpoints import Checkpoints
from cppo.runs.folder import RunFolder
from cppo.training.agent import new_policy
from cppo.training.binding import check_settings


def read_policy(folder: RunFolder, env: gym.Env) -> tuple[ActorCriticPolicy, int]:
    """Read the policy of a run from its newest checkpoint, or from the exported model where no checkpoint is newer.

    :param env: an environment with the spaces the agent was trained in
    :return: the policy, ready to act, and the environment steps it was trained for, 0 if they aren't known
    :raises FileNotFoundError: if the run has saved nothing yet
    :raises ValueError: if what it has saved can't be read, belongs to another environment, or isn't finite
    """
    doubt, settings = folder.check_model(), folder.settings()
    tensors: Any
    path, steps, checkpoint = folder.model, _steps_exported(folder.model), Checkpoints(folder.checkpoints).newest()
    if checkpoint is not None and checkpoint.steps >= steps:
        check_settings(settings, checkpoint)
        path, steps = checkpoint.path, checkpoint.steps
        networks = checkpoint.state.get("networks")
        tensors = networks.get("policy") if isinstance(networks, dict) else None
    else:
        tensors = _read_tensors(path)
    policy = new_policy(settings, env.observation_space, env.action_space)
    try:
        policy.load_state_dict(tensors)
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} does not fit {settings.env} and the networks of config.yaml: it is the model of another "
            f"environment or of other settings"
        ) from error
    if not all(torch.isfinite(tensor).all() for tensor in policy.state_dict().values()):
        raise ValueError(f"{path} holds weights that are not finite: the training diverged")
    policy.set_training_mode(False)
    if doubt and path == folder.model:
        warnings.warn(doubt, stacklevel=2)
    return policy, steps


def _steps_exported(path: Path) -> int:
    """Environment steps of an exported model, which are a plain number in it; 0 if they can't be read."""
    try:
        return parse_json(read_member(path, "data", TEXT_BYTES), path, {"num_timesteps": int})["num_timesteps"]
    except (FileNotFoundError, UnreadableError):
        return 0


def _read_tensors(path: Path) -> Any:
    try:
        return parse_tensors(read_member(path, "policy.pth"), f"policy.pth of {path}")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing: the run has not saved a model") from error
    except UnreadableError as error:
        raise ValueError(f"{path} is not a readable model: {error.reason}") from error
