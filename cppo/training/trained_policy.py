"""Reads the trained policy of a run, or of a file: settings and tensors only, no pickled object is touched."""

import re
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from cppo.fast.policy import LeanMlpPolicy
from cppo.reading import TEXT_BYTES, UnreadableError, parse_json, parse_tensors, read_member
from cppo.remedies.sb3_mixin import remodel_policy
from cppo.runs.checkpoints import Checkpoints
from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings
from cppo.training.agent import new_policy
from cppo.training.binding import check_settings
from cppo.training.spaces import as_seen, choose_policy

DATA = {
    "num_timesteps": int,
    "seed": int | None,
    "use_sde": bool | None,
    "policy_class": dict | None,
    "policy_kwargs": dict | None,
    "remedies": dict | None,
}
"""Of what a saved agent says of itself, what is read."""
PLAIN = ("net_arch", "use_expln", "full_std", "squash_output", "share_features_extractor", "normalize_images")
WITHOUT_EFFECT = ("ortho_init", "log_std_init", "optimizer_class", "optimizer_kwargs")
"""Arguments of policies: those that are plain values, and those without effect on a trained one."""


def read_policy(folder: RunFolder, env: gym.Env) -> tuple[ActorCriticPolicy, int, dict[str, Any]]:
    """Read the policy of a run from its newest checkpoint, or from the exported model where no checkpoint is newer.

    :param env: an environment with the spaces the agent was trained in
    :return: the policy, ready to act; the environment steps it was trained for, 0 if they aren't known; what the
        callbacks remembered of them, by their names, as far as a checkpoint of so many steps tells
    :raises FileNotFoundError: if the run has saved nothing yet
    :raises ValueError: if what it has saved can't be read, belongs to another environment, or isn't finite
    """
    doubt, settings = folder.check_model(), folder.settings()
    tensors: Any
    remembered: Any = {}
    path, steps, checkpoint = folder.model, _steps_exported(folder.model), Checkpoints(folder.checkpoints).newest()
    if checkpoint is not None and checkpoint.steps >= steps:
        check_settings(settings, checkpoint)
        path, steps = checkpoint.path, checkpoint.steps
        networks, remembered = checkpoint.state.get("networks"), checkpoint.state.get("callbacks")
        tensors = networks.get("policy") if isinstance(networks, dict) else None
    else:
        tensors = _read_tensors(path)
    policy = new_policy(settings, env.observation_space, env.action_space)
    _fill(policy, tensors, path, f"{settings.env} and the networks of config.yaml")
    if doubt and path == folder.model:
        warnings.warn(doubt, stacklevel=2)
    return policy, steps, remembered if isinstance(remembered, dict) else {}


def _fill(policy: ActorCriticPolicy, tensors: Any, path: Path, what: str) -> None:
    """Give a policy its weights, and make it ready to act.

    :param what: what they must fit
    :raises ValueError: if they don't, or aren't finite
    """
    try:
        policy.load_state_dict(tensors)
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} does not fit {what}: it is the model of another environment or of other settings"
        ) from error
    if not all(torch.isfinite(tensor).all() for tensor in policy.state_dict().values()):
        raise ValueError(f"{path} holds weights that are not finite: the training diverged")
    policy.set_training_mode(False)


def read_saved(path: Path, env: gym.Env, env_id: str) -> tuple[ActorCriticPolicy, Settings]:
    """Read the policy of a file that ``CPPO.save``, or stable-baselines3's ``PPO.save``, wrote.

    Its networks are built from the plain values in it, so code of one's own in its policy isn't run but refused.

    :param env: an environment with the spaces the agent was trained in
    :return: the policy, ready to act, and of the settings what the file tells: all others are None
    :raises FileNotFoundError: if there is no such file
    :raises ValueError: if it can't be read, is of another kind or environment, or isn't finite
    """
    data, tensors = _read_data(path), _read_tensors(path)
    module = (data.get("policy_class") or {}).get("__module__", ActorCriticPolicy.__module__)
    if module not in (ActorCriticPolicy.__module__, LeanMlpPolicy.__module__):
        raise ValueError(f"{path} can't be evaluated: its policy is of {module}, not of stable-baselines3's PPO")
    named = choose_policy(env.observation_space, None)
    try:
        policy: Any = PPO.policy_aliases[named](
            as_seen(env.observation_space),
            env.action_space,
            lambda _: 0.0,
            use_sde=bool(data.get("use_sde")),
            **_policy_arguments(data.get("policy_kwargs") or {}),
        )
        remodel_policy(policy, data.get("remedies") or {})
    except (AttributeError, AssertionError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} can't be evaluated: no policy can be built from what it says ({error})") from error
    _fill(policy, tensors, path, env_id)
    told: dict[str, Any] = {"algo": "cppo" if "replacement_rate" in data else "ppo", "protocol": None}
    told |= {"env": env_id, "seed": data.get("seed"), "policy": named, "total_timesteps": data["num_timesteps"]}
    return policy, Settings(**told)


def _policy_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a policy as a file tells them.

    :raises ValueError: for one that isn't plain
    """
    arguments = {}
    for name, value in given.items():
        if name == "activation_fn":
            kind = re.fullmatch(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>", str(value))
            if kind is None:
                raise ValueError(f"its activation {value} is none of torch's")
            arguments[name] = getattr(nn, kind[1])
        elif name in PLAIN:
            arguments[name] = value
        elif name not in (*WITHOUT_EFFECT, ":type:", ":serialized:"):
            raise ValueError(f"its {name} is code, which isn't run")
    return arguments


def _steps_exported(path: Path) -> int:
    """Environment steps of an exported model, which are a plain number in it; 0 if they can't be read."""
    try:
        return _read_data(path)["num_timesteps"]
    except (FileNotFoundError, UnreadableError):
        return 0


def _read_data(path: Path) -> dict[str, Any]:
    """What a saved agent says of itself in plain values; pickled ones stay as they are."""
    content = read_member(path, "data", TEXT_BYTES)
    return parse_json(content, f"data of {path}", DATA, finite=False)  # gradients are clipped at infinity, that is, not


def _read_tensors(path: Path) -> Any:
    try:
        return parse_tensors(read_member(path, "policy.pth"), f"policy.pth of {path}")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing: the run has not saved a model") from error
    except UnreadableError as error:
        raise ValueError(f"{path} is not a readable model: {error.reason}") from error
