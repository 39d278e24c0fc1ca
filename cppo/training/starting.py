"""Makes a run ready to train: a new one, or one that was stopped, killed, or failed."""

import contextlib
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from cppo.files import naming, sweep
from cppo.plasticity.callback import PlasticityCallback
from cppo.runs.checkpoints import Checkpoint, Checkpoints
from cppo.runs.folder import Ending, RunFolder, versions
from cppo.runs.lock import RunLock
from cppo.settings.limits import flag
from cppo.settings.settings import Settings
from cppo.training.agent import build_model, with_policy
from cppo.training.binding import CHANGEABLE, check_origin, check_settings
from cppo.training.environments import make_vec_env
from cppo.training.logs import RunLogs
from cppo.training.progress import Progress
from cppo.training.state import restore


@dataclass
class Training:
    """A run that is ready to train.

    :param lock: the folder's, taken
    :param remembering: the callbacks whose memory is part of a checkpoint
    :param checkpoint: where it continues; None: at its beginning
    """

    model: PPO
    settings: Settings
    folder: RunFolder
    lock: RunLock
    logs: RunLogs
    remembering: list[BaseCallback]
    checkpoint: Checkpoint | None = None

    @property
    def progress(self) -> Progress:
        """The one of these that tells how it goes."""
        return next(each for each in self.remembering if isinstance(each, Progress))

    def close(self, ending: Ending) -> None:
        """End the environments' processes, close the files, say how it ended, and let go of the lock."""
        if self.model.env is not None:
            self.model.env.close()
        self.logs.close()
        with contextlib.suppress(OSError):  # a full disk has been told of, a lock that is gone too
            self.lock.check()
            self.folder.write_ending(ending)
        self.lock.release()


def prepare(settings: Settings, folder: RunFolder, command: list[str], env_module: str | None = None) -> Training:
    """Build environments and agent and start the run's folder; nothing is written before all input has been accepted.

    :param env_module: the module that registers the environment, if one is to be imported
    :raises ImportError: if the module can't be imported
    :raises ValueError: for settings the environment or the algorithm refuses
    :raises OSError: if the folder can't be used
    """
    folder.check_name()
    folder.check_free()
    with contextlib.ExitStack() as undo:
        model = build(settings, env_module)
        undo.callback(model.get_env().close)  # type: ignore[union-attr]
        settings = with_policy(settings, model)
        lock = folder.create(settings, command, env_module)
        undo.callback(lock.release)
        training = Training(model, settings, folder, lock, RunLogs(folder.path), remembering(settings))
        undo.pop_all()
    return training


def resume(
    settings: Settings,
    folder: RunFolder,
    command: list[str],
    env_module: str | None = None,
    trust_state: bool = False,
) -> Training:
    """Take up a run at its newest checkpoint that is whole, or at its beginning where there was none yet.

    :param settings: those of the run, see ``continued``
    :param env_module: the module that registers the environment, if one is to be imported
    :param trust_state: whether environments may read their states from a checkpoint without this user's signature;
        otherwise they begin new episodes there
    :raises ImportError: if the module can't be imported
    :raises ValueError: if a checkpoint or the table of figures can't be continued from, or doesn't belong to the run
    :raises OSError: if the run is in use, or its folder can't be written, or holds links
    """
    folder.check_env_module(env_module)
    folder.check_name()
    folder.check_no_links()
    lock, callbacks = folder.lock, remembering(settings)
    with contextlib.ExitStack() as undo:
        undo.callback(lock.release)
        lock.acquire()
        model = build(settings, env_module)
        undo.callback(model.get_env().close)  # type: ignore[union-attr]
        settings = with_policy(settings, model)
        with naming(folder.path):
            sweep(folder.path)
            sweep(folder.checkpoints)
            checkpoint = Checkpoints(folder.checkpoints).newest(device=None)
            steps, table = -1, None
            if checkpoint is not None:
                check_settings(folder.settings(), checkpoint)
                restore(model, callbacks, checkpoint.state, settings.seed, check_origin(checkpoint, trust_state))
                steps, table = checkpoint.steps, checkpoint.state["session"]["table"]
            logs = RunLogs(folder.path, steps, table)
            folder.write_ending(None)  # before it is to have more steps than it says
            note_resumption(folder, settings, {"at_step": max(steps, 0), "command": command})
        undo.pop_all()
    return Training(model, settings, folder, lock, logs, callbacks, checkpoint)


def remembering(settings: Settings) -> list[BaseCallback]:
    """The callbacks whose memory is part of a checkpoint: the progress, and the measures that the settings ask for."""
    measures = [PlasticityCallback(settings.plasticity_every)] if settings.plasticity_every else []
    return [Progress(phase_steps=settings.change_every), *measures]


def continued(folder: RunFolder, given: Settings) -> Settings:
    """The settings to resume a run with.

    :return: resolved settings
    :raises FileNotFoundError: if there is no run in the folder
    :raises ValueError: if they contradict those of the run
    """
    own, new = folder.settings().as_dict(), given.as_dict()
    new["policy"] = new["policy"] or own["policy"]  # by default the one that fits, which the run has chosen
    changed = [name for name in own if own[name] != new[name] and name not in CHANGEABLE]
    if changed:
        contradictions = ", ".join(f"{flag(name)} {own[name]}, not {new[name]}" for name in changed)
        raise ValueError(f"{folder.path} was trained with {contradictions}; a run is resumed with its own settings")
    if new["total_timesteps"] < own["total_timesteps"]:
        raise ValueError(
            f"--total-timesteps {new['total_timesteps']} is less than the {own['total_timesteps']} of {folder.path}; "
            "it can only be raised"
        )
    return Settings.from_dict({name: new[name] for name in own}).resolved()


def note_resumption(folder: RunFolder, settings: Settings, resumption: dict[str, Any]) -> None:
    """Write into the configuration that the run is continued; warn if it is with other versions."""
    record = folder.record()
    del record["settings"]
    resumed = record.get("resumed") or []
    last = resumed[-1] if resumed else record
    before, now = (last.get("versions") if isinstance(last, dict) else None) or {}, versions()
    changed = [f"{name} {before[name]} is now {now[name]}" for name in now if before.get(name, now[name]) != now[name]]
    if changed:
        warnings.warn(f"{', '.join(changed)}: the run may not continue bit for bit as it would have", stacklevel=2)
    folder.write_settings(settings, record | {"resumed": [*resumed, resumption | {"versions": now}]})


def build(settings: Settings, env_module: str | None = None) -> PPO:
    """Build environments and agent.

    :raises ImportError: if the module that registers the environment can't be imported
    :raises ValueError: for settings the environment or the algorithm refuses
    """
    torch.set_num_threads(settings.torch_threads)
    check_device(settings.device)
    env = make_vec_env(settings, env_module)
    try:
        return build_model(settings, env)
    except BaseException:
        env.close()
        raise


def check_device(device: str) -> None:
    """Refuse a device that isn't there; stable-baselines3 would silently take the cpu.

    :raises ValueError: names the device
    """
    if device == "auto":
        return
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split(". ")[0].splitlines()[0]
        raise ValueError(f"--device {device} can't be used: {reason}") from error
