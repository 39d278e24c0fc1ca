"""Which observations and actions an agent can be trained on, and with which kind of policy."""

import warnings
from collections.abc import Mapping

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecTransposeImage

from cppo.settings.limits import Policy

SMALLEST_IMAGE = 36
"""Rows and columns that the convolutions of stable-baselines3's ``NatureCNN`` need."""


def choose_policy(observation_space: spaces.Space, named: Policy | None) -> Policy:
    """Choose the kind of policy for some observations, by default the one that fits them.

    :param named: the kind that the user wants
    :raises ValueError: if it can't take them
    """
    fitting = _fitting_policy(observation_space)
    if named is None:
        if len(observation_space.shape or ()) >= 3 and fitting == "MlpPolicy":
            warnings.warn(
                f"the observations {_name(observation_space)} are no images for a CnnPolicy (uint8 from 0 to 255, "
                f"{SMALLEST_IMAGE} x {SMALLEST_IMAGE} or larger): an MlpPolicy is trained on them, flattened",
                stacklevel=2,
            )
        return fitting
    if named != fitting and not (named == "MlpPolicy" and fitting == "CnnPolicy"):
        raise ValueError(
            f"--policy {named} can't take the observations {_name(observation_space)}: --policy {fitting} does"
        )
    return named


def _fitting_policy(observation_space: spaces.Space) -> Policy:
    if isinstance(observation_space, spaces.Dict):
        return "MultiInputPolicy"
    is_image = is_image_space(observation_space) and not _is_too_small(observation_space)
    return "CnnPolicy" if is_image else "MlpPolicy"


def check_spaces(observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """Refuse what stable-baselines3's PPO can't be trained on, or takes for something else.

    :raises ValueError: names the space and says why
    """
    obstacle = _unfit_for_acting(action_space)
    if obstacle:
        raise ValueError(f"the actions {_name(action_space)} can't be trained: {obstacle}")
    parts: Mapping[str, spaces.Space] = {"": observation_space}
    if isinstance(observation_space, spaces.Dict):
        parts = observation_space.spaces
    if not parts:
        raise ValueError("the observations Dict() can't be trained on: they are empty")
    for key, part in parts.items():
        obstacle = _unfit(part)
        if isinstance(part, spaces.Box) and not part.shape:
            obstacle = "a single number needs an axis: shape (1,), not ()"
        elif key and is_image_space(part) and _is_too_small(part):
            obstacle = f"images in a dictionary must be {SMALLEST_IMAGE} x {SMALLEST_IMAGE} or larger"
        if obstacle:
            what = f"the observation {key!r}, {_name(part)}," if key else f"the observations {_name(part)}"
            raise ValueError(f"{what} can't be trained on: {obstacle}")


def as_seen(observation_space: spaces.Space) -> spaces.Space:
    """The observations as the agent sees them: of images, stable-baselines3 puts the channels first."""
    if isinstance(observation_space, spaces.Dict):
        return spaces.Dict({key: as_seen(part) for key, part in observation_space.spaces.items()})
    if (
        isinstance(observation_space, spaces.Box)
        and is_image_space(observation_space)
        and not is_image_space_channels_first(observation_space)
    ):
        return VecTransposeImage.transpose_space(observation_space)
    return observation_space


def _unfit(space: spaces.Space) -> str:
    """Why a space, or a part of a dictionary, can't be taken; empty if it can."""
    if not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return "stable-baselines3 takes Box, Discrete, MultiDiscrete and MultiBinary, as observations a Dict of these"
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and np.any(space.start):
        return "stable-baselines3 takes numbers that begin at 0; have a wrapper shift them"
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim != 1:
        return "stable-baselines3 takes a MultiDiscrete with one axis; have a wrapper flatten it"
    if 0 in (space.shape or ()):
        return "there is nothing in it"
    return ""


def _unfit_for_acting(space: spaces.Space) -> str:
    if isinstance(space, spaces.Box) and not space.is_bounded():
        return "each must have a lower and an upper bound"
    if isinstance(space, spaces.MultiBinary) and len(space.shape) != 1:
        return "stable-baselines3 takes a MultiBinary with one axis; have a wrapper flatten it"
    return _unfit(space)


def _is_too_small(image: spaces.Space) -> bool:
    """Whether an image has too few rows or columns; its channels are its shortest axis."""
    return sorted(image.shape or ())[-2] < SMALLEST_IMAGE


def _name(space: spaces.Space) -> str:
    """A space in one line, the bounds of a large one left out."""
    name = " ".join(str(space).split())
    return name if len(name) <= 200 else f"{name[:200]}..."
