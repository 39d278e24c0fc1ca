"""Trains the agent of a run."""

import contextlib
import shlex
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from cppo.command_line import program, to_type
from cppo.files import CannotWriteError, naming, replacing
from cppo.reading import one_line, shown
from cppo.runs.folder import Ending, RunFolder
from cppo.training.guard import Guard, TrainingFailed, diverging
from cppo.training.progress import PhaseReturns
from cppo.training.session import Session, Stopped
from cppo.training.starting import Training
from cppo.training.stopping import Stopper, StopRequest
from cppo.training.tensorboard_layout import write_layout
from cppo.training.workers import WorkerDied


@dataclass
class Outcome:
    """How a training ended.

    :param ending: what the run's folder says of it
    :param steps_saved: environment steps after which it continues; None: at its beginning
    :param exit_code: of the command: 0, 1 for a failure, 130 for Ctrl-C and 143 for SIGTERM
    """

    ending: Ending
    phases: list[PhaseReturns]
    steps_saved: int | None
    exit_code: int


def train(training: Training) -> Outcome:
    """Train; save the agent when done or stopped in order."""
    model, settings = training.model, training.settings
    progress, remembering = training.progress, training.remembering
    with Stopper() as stopper, quiet_writer():
        try:
            session = Session(
                settings, training.folder, training.lock, training.logs, stopper, remembering, training.checkpoint
            )
            ending = learn(training, session, [Guard(), *remembering, session])
        except BaseException as error:
            state: Any = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            ending = Ending(state, model.num_timesteps, f"{type(error).__name__}: {error}")
            raise
        finally:
            with contextlib.suppress(StopRequest), stopper.holding_locks():
                progress.close()
                training.logs.close()
            training.close(ending)
    exit_code = {"finished": 0, "stopped": stopper.exit_code, "failed": 1}[ending.state]
    return Outcome(ending, progress.phases, session.steps_saved, exit_code)


def learn(training: Training, session: Session, callbacks: list[BaseCallback]) -> Ending:
    """Let the model learn what is left, and save it unless the training failed or was stopped at once.

    :param callbacks: called by the model, the session last
    :return: how it ended; errors that no input can cause are raised
    """
    model, settings = training.model, training.settings
    model.verbose = 1
    model.set_logger(training.logs.logger)
    try:
        with naming(training.folder.path), session.stopper.holding_locks():
            write_layout(model, bool(settings.plasticity_every), settings.is_continual)
        with session.after_updates(model), diverging(model), contextlib.suppress(Stopped):
            if (left := settings.total_timesteps - model.num_timesteps) > 0:
                model.learn(left, callbacks, log_interval=sys.maxsize, reset_num_timesteps=training.checkpoint is None)
        training.lock.check()
        save(model, training.folder)
    except (TrainingFailed, WorkerDied, CannotWriteError) as error:
        return Ending("failed", model.num_timesteps, one_line(error))
    except SystemExit as error:  # of an environment, or of what it calls
        return Ending("failed", model.num_timesteps, one_line(f"the environment called sys.exit({error.code!r})"))
    except StopRequest:
        return Ending("stopped", model.num_timesteps)
    state: Any = "finished" if model.num_timesteps >= settings.total_timesteps else "stopped"
    return Ending(state, model.num_timesteps, model=training.folder.model_digest())


@contextlib.contextmanager
def quiet_writer() -> Iterator[None]:
    """Keep TensorBoard's thread from showing its traceback when the disk is full: the next figure says it anyway."""
    before = threading.excepthook

    def show(error: Any) -> None:
        if not issubclass(error.exc_type, OSError):
            before(error)

    threading.excepthook = show
    try:
        yield
    finally:
        threading.excepthook = before


def save(model: PPO, folder: RunFolder) -> None:
    """Export the agent as stable-baselines3 does, whole or not at all.

    :raises OSError: if it can't be written
    """
    with naming(folder.model), replacing(folder.model) as partial:
        model.save(partial)


def report(outcome: Outcome, folder: RunFolder) -> None:
    """Say in a few lines what was done, and how to go on."""
    ending = outcome.ending
    path = shlex.quote(shown(str(folder.path)))
    go_on = f"{to_type(program('train').split())} --resume {path}"
    if ending.state == "failed":
        saved = outcome.steps_saved
        kept = "nothing was saved yet" if saved is None else f"saved after {saved:,} steps: {go_on}"
        print(f"{program('train')}: error: {ending.reason}; {kept}", file=sys.stderr, flush=True)
        return
    if ending.state == "stopped":
        since = "its beginning" if outcome.steps_saved is None else f"step {outcome.steps_saved:,}"
        print(f"interrupted after {ending.steps:,} steps; to continue from {since}: {go_on}")
    else:
        print(f"trained for {ending.steps:,} steps; agent saved in {shown(str(folder.model))}")
    for phase in outcome.phases:
        print(f"  {phase}")
    print(f"figures: {shown(str(folder.progress))}; TensorBoard: tensorboard --logdir {path}")
    sys.stdout.flush()
