"""The folder of a training run.

- ``config.yaml``: every setting, the versions of the packages, the command, the module that registers the environment
- ``progress.csv`` and ``events.out.tfevents.*``: one row, one point an update
- ``model.zip``: the agent, as stable-baselines3 saves it
- ``checkpoints``: everything that the training continues from, see ``cppo/runs/checkpoints.py``
- ``ending.yaml``: how the training ended, if it did and wasn't killed
- ``run.lock``: held by the process that trains
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import itertools
import platform
import shlex
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from cppo.files import check_regular, is_partial, naming, replacing, sweep
from cppo.reading import TENSOR_BYTES, Shape, UnreadableError, one_line, read_bytes, read_columns, read_yaml
from cppo.runs.lock import RunLock
from cppo.settings.settings import Settings, split_env

PACKAGES = ("torch", "stable_baselines3", "gymnasium", "numpy", "pybullet")
RunState = Literal["empty", "running", "stopped", "finished", "failed"]
EndState = Literal["stopped", "finished", "failed"]
CONFIG: Shape = {"settings": dict, "env_module": str | None}
CONFIG = {**CONFIG, "versions": dict | None, "command": list | None, "resumed": list | None}
ENDING: Shape = {"state": str, "steps": int, "reason": str | None, "model": str | None}


@dataclass(frozen=True)
class Ending:
    """How a training ended.

    :param state: whether it reached its last step, was stopped, or failed
    :param reason: in one line, why it was stopped or failed
    :param model: SHA-256 of ``model.zip``, if it was written
    """

    state: EndState
    steps: int
    reason: str = ""
    model: str = ""


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
    def _ending(self) -> Path:
        return self.path / "ending.yaml"

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
            found = read_yaml(self._ending, ENDING)
        except (OSError, UnreadableError):
            return None
        if found["state"] not in get_args(EndState):
            return None
        return Ending(found["state"], found["steps"], found.get("reason") or "", found.get("model") or "")

    def write_ending(self, ending: Ending | None) -> None:
        """Write how the training ended; None when it begins or continues.

        :raises OSError: if the folder can't be written
        """
        if ending is None:
            self._ending.unlink(missing_ok=True)
            return
        with replacing(self._ending, follow=False) as partial:
            partial.write_text(yaml.safe_dump(asdict(ending), sort_keys=False))

    def check_free(self) -> None:
        """Refuse a folder that is in use.

        :raises FileExistsError: if there is something in the folder already; nothing is overwritten
        """
        if not self.path.exists() or (self.path.is_dir() and not any(map(self._is_of_use, self.path.iterdir()))):
            return
        if self.config.exists():
            go_on = f"--resume {shlex.quote(str(self.path))}"
            raise FileExistsError(
                f"{self.path} holds a run already; continue it with {go_on}, choose another --output or remove it"
            )
        raise FileExistsError(f"{self.path} holds something else already; choose another --output or remove it")

    def _is_of_use(self, path: Path) -> bool:
        """Whether a file is more than what a process leaves that is killed before the run begins."""
        return path != self.lock.path and not is_partial(path)

    def create(self, settings: Settings, command: list[str], env_module: str | None = None) -> RunLock:
        """Make the folder and write the configuration.

        :param env_module: the module that registers the environment, as a fact: nothing imports it from there
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
            sweep(self.path)
            record: dict[str, Any] = {"versions": versions(), "command": command}
            self.write_settings(settings, record | ({"env_module": env_module} if env_module else {}))
            undo.pop_all()
        return lock

    def check_name(self) -> None:
        """Refuse to train in a folder whose name TensorBoard can't write to; it can be read all the same.

        :raises ValueError: names it
        """
        try:
            str(self.path.absolute()).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{self.path} is no name in UTF-8, which TensorBoard needs; choose another") from error

    def check_no_links(self) -> None:
        """Refuse a run in which one would write through a link, into a device, or delete what isn't its own.

        :raises OSError: names what is no regular file, or no folder
        """
        for path in (self.config, self.progress, self._ending, self.lock.path, self.model):
            check_regular(path)
        for path in self.path.glob("events.out.tfevents.*"):
            check_regular(path)
        for path in (self.checkpoints, *self.checkpoints.glob("step-*")):
            check_regular(path, stat.S_ISDIR)

    def write_settings(self, settings: Settings, record: dict[str, Any]) -> None:
        """Write the configuration, whole or not at all.

        :param record: what else to write: versions and commands
        """
        with replacing(self.config, follow=False) as partial:
            partial.write_text(yaml.safe_dump({"settings": settings.as_dict()} | record, sort_keys=False))

    def record(self) -> dict[str, Any]:
        """Read the whole configuration: settings and facts.

        :raises FileNotFoundError: if the folder is no run
        :raises UnreadableError: if it can't be read
        """
        try:
            return read_yaml(self.config, CONFIG)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.path} is no training run: it has no config.yaml") from error

    def settings(self) -> Settings:
        """Read the settings back.

        :raises FileNotFoundError: if the folder is no run
        :raises ValueError: if its configuration can't be read
        """
        try:
            values = self.record()["settings"]
            if isinstance(values.get("env"), str):  # earlier releases wrote module:Id
                values["env"] = split_env(values["env"])[1]
            return Settings.from_dict(values).resolved()
        except (AttributeError, ArithmeticError, KeyError, TypeError, ValueError) as error:
            reason = error.reason if isinstance(error, UnreadableError) else one_line(error)
            raise ValueError(f"{self.config} is not the configuration of a run: {reason}") from error

    def check_env_module(self, given: str | None) -> None:
        """Refuse a run whose environment comes from a module that the user hasn't named: a folder has nothing imported.

        :raises ValueError: says how to name it
        """
        record = self.record()
        module = record.get("env_module") or split_env(str(record["settings"].get("env")))[0]
        if module and given is None:
            raise ValueError(
                f"the environment of {self.path} was registered by the module {module}; give it as "
                f"--env-module {module} if you trust it"
            )

    def check_model(self) -> str:
        """Find out whether ``model.zip`` is the one that the run wrote.

        :return: in a line, why nobody can tell; empty if it is, or isn't there
        :raises ValueError: if it is another one
        """
        ending = self.ending()
        if not self.model.is_file():
            return ""
        if ending is None or not ending.model:
            return f"{self.path} doesn't tell which model.zip it wrote: whether it is this one can't be checked"
        if self.model_digest() != ending.model:
            raise ValueError(f"{self.model} is not the one that this run wrote; put that back, or remove it")
        return ""

    def model_digest(self) -> str:
        """SHA-256 of ``model.zip``.

        :raises OSError: if it isn't there
        :raises UnreadableError: if it can't be read
        """
        return hashlib.sha256(read_bytes(self.model, TENSOR_BYTES)).hexdigest()

    def column(self, name: str) -> Iterator[str]:
        """Read what stands in a column of ``progress.csv``, one cell an update; nothing without such a column.

        :raises UnreadableError: if it is no table
        """
        with contextlib.suppress(FileNotFoundError):
            yield from (
                cell for row in itertools.islice(read_columns(self.progress, name.__eq__), 1, None) for cell in row
            )

    def steps_done(self) -> int:
        """Environment steps trained so far, from the rows of ``progress.csv``; 0 without one.

        :raises UnreadableError: if it doesn't hold such
        """
        try:
            return max((int(float(cell)) for cell in self.column("time/total_timesteps") if cell), default=0)
        except (OverflowError, ValueError) as error:
            raise UnreadableError(self.progress, getattr(error, "reason", error)) from error

    def phases_met(self) -> set[int] | None:
        """Numbers of the phases in which steps were taken: one shorter than an episode may be skipped.

        :return: None if ``progress.csv`` doesn't tell
        :raises UnreadableError: if it doesn't hold numbers
        """
        try:
            return {int(phase) for cell in self.column("environment/phases_met") for phase in cell.split()} or None
        except ValueError as error:
            raise UnreadableError(self.progress, getattr(error, "reason", error)) from error


def versions() -> dict[str, Any]:
    """The versions a run was made with."""
    found: dict[str, Any] = {"python": platform.python_version()}
    for package in (*PACKAGES, "cppo"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found
