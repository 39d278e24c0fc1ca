"""Stops a training in which something isn't finite, with one line that says what and where."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

LOSSES = ("train/loss", "train/policy_gradient_loss", "train/value_loss", "train/entropy_loss")


class TrainingFailed(RuntimeError):
    """The training can't go on; the message says where and why in one line."""


class Guard(BaseCallback):
    """Callback that looks at every observation and reward.

    :raises TrainingFailed: from within the training, if one of them isn't finite
    """

    def _on_training_start(self) -> None:
        """Look at where the first episodes start."""
        self._check("observation", self.model._last_obs)

    def _on_step(self) -> bool:
        """Look at what the environments returned."""
        self._check("observation", self.locals["new_obs"])
        self._check("reward", self.locals["rewards"])
        if self.locals["dones"].any():
            for number, info in enumerate(self.locals["infos"]):
                if info.get("terminal_observation") is not None:
                    self._check("last observation", info["terminal_observation"], number)
        return True

    def _check(self, what: str, values: Any, number: int | None = None) -> None:
        if isinstance(values, dict):
            for key, each in values.items():
                self._check(f"{what} {key!r}", each, number)
            return
        values = np.asarray(values)  # a discrete observation is a number
        if math.isfinite(values.sum()) or np.isfinite(values).all():
            return
        if number is None:
            number = next(index for index, each in enumerate(values) if not np.isfinite(each).all())
            values = values[number]
        wrong = np.atleast_1d(values)
        entries = np.flatnonzero(~np.isfinite(wrong.ravel())).tolist()
        where = f" (entries {entries[:8]})" if wrong.size > 1 else f": {float(wrong.ravel()[0])}"
        raise TrainingFailed(
            f"the {what} of environment {number} is not finite at step {self.model.num_timesteps:,}{where}"
        )


@contextlib.contextmanager
def diverging(model: PPO) -> Iterator[None]:
    """Name the cause of errors that come of weights or outputs which aren't finite.

    :raises TrainingFailed: in the place of such an error
    """
    try:
        yield
    except FloatingPointError as error:
        raise TrainingFailed(f"{_diverged(model)}: {error}") from error
    except ValueError as error:
        # torch's distributions refuse a mean or a spread that is not a number
        if "to satisfy the constraint" not in str(error):
            raise
        raise TrainingFailed(f"{_diverged(model)}: the policy's output is not finite") from error


def check_update(model: PPO) -> None:
    """Look at the losses and the weights after an update.

    :raises TrainingFailed: if a loss or a weight isn't finite
    """
    figures = model.logger.name_to_value
    for name in LOSSES:
        if name in figures and not math.isfinite(figures[name]):
            raise TrainingFailed(f"{_diverged(model)}: {name} is {figures[name]}")
    for name, parameter in model.policy.named_parameters():
        if not parameter.isfinite().all():
            raise TrainingFailed(f"{_diverged(model)}: the weights {name} are not finite")


def _diverged(model: PPO) -> str:
    return f"the training diverged after {model.num_timesteps:,} steps"
