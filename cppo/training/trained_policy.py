"""Reads the trained policy of a run: settings and tensors only, no pickled object is touched."""

from __future__ import annotations

import json
import pickle
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

from cppo.runs.checkpoints import Checkpoints
from cppo.runs.folder import RunFolder
from cppo.training.agent import new_policy

NOT_READABLE = (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, EOFError, OSError)


@dataclass(frozen=True)
class TrainedPolicy:
    """The latest weights of a run.

    :param folder: the run
    :param path: where they were read
    :param steps: environment steps they were trained for
    :param tensors: the policy's ``state_dict``
    """

    folder: RunFolder
    path: Path
    steps: int
    tensors: dict[str, Any]

    @classmethod
    def read(cls, folder: RunFolder) -> TrainedPolicy:
        """Read the newest checkpoint, or the exported model where there is no newer checkpoint.

        :raises FileNotFoundError: if the run has saved nothing yet
        :raises ValueError: if what it has saved can't be read
        """
        checkpoint = Checkpoints(folder.checkpoints).newest()
        steps = _steps_exported(folder.model)
        if checkpoint is not None and checkpoint.steps > steps:
            tensors = checkpoint.state.get("networks", {}).get("policy")
            return cls(folder, checkpoint.path, checkpoint.steps, tensors)
        return cls(folder, folder.model, steps, _read_tensors(folder.model))

    def build(self, env: gym.Env) -> ActorCriticPolicy:
        """Build the policy, ready to act.

        :param env: an environment with the spaces the agent was trained in
        :raises ValueError: if the weights belong to another environment or aren't finite
        """
        settings = self.folder.settings()
        policy = new_policy(settings, env.observation_space, env.action_space)
        try:
            policy.load_state_dict(self.tensors)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.path} does not fit {settings.env} and the networks of config.yaml: it is the model of another "
                f"environment or of other settings"
            ) from error
        if not all(torch.isfinite(tensor).all() for tensor in policy.state_dict().values()):
            raise ValueError(f"{self.path} holds weights that are not finite: the training diverged")
        policy.set_training_mode(False)
        return policy


def load_policy(folder: RunFolder, env: gym.Env) -> ActorCriticPolicy:
    """Read the trained policy of a run, see ``TrainedPolicy``."""
    return TrainedPolicy.read(folder).build(env)


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
