"""The folder of a training run.

- ``config.yaml``: every setting, the versions of the packages, the command
- ``progress.csv`` and ``events.out.tfevents.*``: one row, one point an update
- ``model.zip``: the agent, as stable-baselines3 saves it
- ``checkpoints``: everything that the training continues from, see ``cppo/runs/checkpoints.py``
- ``ending.yaml``: how the training ended, if it did and wasn't killed
- ``run.lock``: held by the process that trains
"""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from cppo.files import is_partial, naming, replacing
from cppo.runs.lock import RunLock
from cppo.settings.settings import Settings

PACKAGES = ("torch", "stable_baselines3", "gymnasium", "numpy", "pybullet")
RunState = Literal["empty", "running", "stopped", "finished", "failed"]


@dataclass(frozen=True)
class Ending:
    """How a training ended.

    :param state: whether it reached its last step, was stopped, or failed
    :param reason: in one line, why it was stopped or failed
    """

    state: Literal["stopped", "finished", "failed"]
    steps: int
    reason: str = ""


@dataclass(frozen=True)
class RunFolder:
    """A training run on disk."""

    path: Path

    @property
    def config(self) -> Path:
        """The file with every setting, the versions of the packages and the command."""
        return self.path / "config.yaml"

    @property
    def progress(self) -> Path:
        """The table of the run's figures, one row for each update."""
        return self.path / "progress.csv"

    @property
    def model(self) -> Path:
        """The file of the agent, as stable-baselines3 saves it."""
        return self.path / "model.zip"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, from which the training continues."""
        return self.path / "checkpoints"

    @property
    def lock(self) -> RunLock:
        """A new handle of the lock that the process that trains holds."""
        return RunLock(self.path / "run.lock")

    def state(self) -> RunState:
        """Tell where the run stands.

        - ``empty``: no training has begun here
        - ``running``: a living process trains it
        - ``stopped``: interrupted or killed; ``train.py --resume`` continues it
        - ``finished``: all its steps are done
        - ``failed``: an error ended it, which ``ending()`` names; it can be resumed once that is mended

        :raises OSError: if the folder can't be read
        """
        if self.lock.is_held():
            return "running"
        if not self.config.is_file():
            return "empty"
        ending = self.ending()
        return "stopped" if ending is None else ending.state

    def ending(self) -> Ending | None:
        """How the training ended; None if it hasn't, or was killed."""
        try:
            return Ending(**yaml.safe_load((self.path / "ending.yaml").read_text()))
        except (OSError, yaml.YAMLError, UnicodeDecodeError, TypeError):
            return None

    def write_ending(self, ending: Ending | None) -> None:
        """Write how the training ended; None when it begins or continues.

        :raises OSError: if the folder can't be written
        """
        path = self.path / "ending.yaml"
        if ending is None:
            path.unlink(missing_ok=True)
            return
        with replacing(path) as partial:
            partial.write_text(yaml.safe_dump(asdict(ending), sort_keys=False))

    def check_free(self) -> None:
        """Refuse a folder that is in use.

        :raises FileExistsError: if there is something in the folder already; nothing is overwritten
        """
        if not self.path.exists() or (self.path.is_dir() and not any(map(self._is_of_use, self.path.iterdir()))):
            return
        if self.config.exists():
            raise FileExistsError(
                f"{self.path} holds a run already; continue it with --resume {self.path}, choose another --output or "
                "remove it"
            )
        raise FileExistsError(f"{self.path} holds something else already; choose another --output or remove it")

    def _is_of_use(self, path: Path) -> bool:
        """Whether a file is more than what a process leaves that is killed before the run begins."""
        return path != self.lock.path and not is_partial(path)

    def create(self, settings: Settings, command: list[str]) -> RunLock:
        """Make the folder and write the configuration.

        :return: the run's lock, taken
        :raises FileExistsError: if there is something in the folder already; nothing is overwritten
        :raises OSError: if the folder can't be written, or another process is about to train there
        """
        self.check_free()
        lock = self.lock
        with contextlib.ExitStack() as undo, naming(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            undo.callback(lock.release)
            lock.acquire()
            self.check_free()  # another process may have been here between the look and the lock
            self.write_settings(settings, {"versions": versions(), "command": command})
            undo.pop_all()
        return lock

    def write_settings(self, settings: Settings, record: dict[str, Any]) -> None:
        """Write the configuration, whole or not at all.

        :param record: what else to write: versions and commands
        """
        with replacing(self.config) as partial:
            partial.write_text(yaml.safe_dump({"settings": settings.as_dict()} | record, sort_keys=False))

    def settings(self) -> Settings:
        """Read the settings back.

        :raises FileNotFoundError: if the folder is no run
        :raises ValueError: if its configuration can't be read
        """
        if not self.config.is_file():
            raise FileNotFoundError(f"{self.path} is no training run: it has no config.yaml")
        try:
            return Settings.from_dict(yaml.safe_load(self.config.read_text())["settings"]).resolved()
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{self.config} is not the configuration of a run: {reason}") from error

    def rows(self) -> list[dict[str, str]]:
        """The rows of ``progress.csv``, one an update; empty without one. A last line without its end is left out.

        :raises ValueError: if it is no table
        """
        if not self.progress.is_file():
            return []
        try:
            with self.progress.open(newline="") as file:
                return list(csv.DictReader(line for line in file if line.endswith("\n")))
        except csv.Error as error:
            raise ValueError(str(error)) from error

    def steps_done(self) -> int:
        """Environment steps trained so far, from the rows of ``progress.csv``; 0 without one."""
        steps = [row.get("time/total_timesteps") for row in self.rows()]
        return max((int(float(value)) for value in steps if value), default=0)

    def phases_met(self) -> set[int] | None:
        """Numbers of the phases in which steps were taken: one shorter than an episode may be skipped.

        :return: None if ``progress.csv`` doesn't tell
        """
        met = [row["environment/phases_met"] for row in self.rows() if row.get("environment/phases_met")]
        return {int(phase) for phases in met for phase in phases.split()} if met else None


def versions() -> dict[str, Any]:
    """The versions a run was made with."""
    found: dict[str, Any] = {"python": platform.python_version()}
    for package in (*PACKAGES, "cppo"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found
