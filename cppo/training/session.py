"""Logs, saves and stops a training after its updates."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from cppo.runs.checkpoints import Checkpoint, Checkpoints
from cppo.runs.folder import RunFolder
from cppo.runs.lock import RunLock
from cppo.settings.settings import Settings
from cppo.training.guard import check_update
from cppo.training.logs import RunLogs
from cppo.training.state import begin_episodes, capture
from cppo.training.stopping import Stopper


class Stopped(Exception):
    """The training has stopped in order, after an update."""


class Session(BaseCallback):
    """Logs each update once it is done, takes checkpoints, and stops the training when asked to.

    Stable-baselines3 logs a rollout before the update made of it, so the last update never shows; here a row holds
    both. Checkpoints are due whenever the steps pass a multiple of ``checkpoint_every``, whatever was interrupted
    before, and there is one at the end.

    :param folder: where checkpoints go
    :param stopper: tells of signals; writing figures takes the lock of TensorBoard's queue
    :param lock: the folder's, without which none is written
    :param others: callbacks whose memory is part of a checkpoint
    :param checkpoint: where the run continues; None at its beginning
    """

    def __init__(
        self,
        settings: Settings,
        folder: RunFolder,
        lock: RunLock,
        logs: RunLogs,
        stopper: Stopper,
        others: Sequence[BaseCallback],
        checkpoint: Checkpoint | None,
    ) -> None:
        super().__init__()
        self.settings, self._logs, self.stopper, self._others = settings, logs, stopper, others
        self._lock = lock
        self._checkpoints = Checkpoints(folder.checkpoints)
        self._seconds, self._iterations = 0.0, 0
        self.steps_saved: int | None = None
        if checkpoint is not None:
            session = checkpoint.state["session"]
            self._seconds, self._iterations = session["seconds"], session["iterations"]
            self.steps_saved = checkpoint.steps

    def _on_training_start(self) -> None:
        """Let the clock and the speed count what was done before."""
        self.model.start_time -= int(self._seconds * 1e9)
        self.model._num_timesteps_at_start = 0

    def _on_step(self) -> bool:
        return True

    @contextlib.contextmanager
    def after_updates(self, model: PPO) -> Iterator[None]:
        """Have ``after_update`` called after each of the model's updates.

        :param model: the agent; its own ``train`` is back at the end of the ``with`` block
        """
        train = model.train

        def train_and_more() -> None:
            train()
            self.after_update()

        vars(model)["train"] = train_and_more
        try:
            yield
        finally:
            del vars(model)["train"]

    def after_update(self) -> None:
        """Log the update; write a checkpoint if one is due; stop if asked to.

        :raises TrainingFailed: if the update left something that isn't finite; it is neither logged nor saved
        :raises Stopped: if the training is to stop
        :raises OSError: if the disk is full, or the folder's lock is gone
        """
        model: Any = self.model
        check_update(model)
        self._iterations += 1
        with self.stopper.holding_locks():
            model.dump_logs(self._iterations)
        every, rollout = self.settings.checkpoint_every, model.n_steps * model.n_envs
        is_due = model.num_timesteps // every > (model.num_timesteps - rollout) // every
        is_last = model.num_timesteps >= self.settings.total_timesteps
        if is_due or is_last or self.stopper.signal is not None:
            self._save(is_due or is_last)
        if self.stopper.signal is not None and not is_last:
            raise Stopped

    def _save(self, is_planned: bool) -> None:
        """Write a checkpoint; environments that can't tell their state are reset, so for them only if it is planned."""
        model: Any = self.model
        state = capture(model, self._others)
        if state["environments"] is None:
            if not is_planned:
                return
            begin_episodes(model, self.settings.seed)
            state = capture(model, self._others)
        self._lock.check()
        with self.stopper.holding_locks():
            table = self._logs.sync()
        state["session"] = {
            "seconds": (time.time_ns() - model.start_time) / 1e9,
            "iterations": self._iterations,
            "table": table,
            "settings": self.settings.as_dict(),
        }
        self._checkpoints.write(model.num_timesteps, state, self.settings.keep_checkpoints)
        self.steps_saved = model.num_timesteps
