"""Writes and reads checkpoints, which are complete or not there and hold nothing but plain values and tensors.

Each is a folder ``step-000123456`` with

- ``state.pt``: everything the training continues from, as ``torch.save`` writes nested plain values and tensors, read
  by torch's weights-only reader, which runs no code;
- ``manifest.json``: the environment steps done, and the size and SHA-256 of ``state.pt``.

It is written in a temporary folder, brought to the disk, and only then given its name.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cppo.files import is_partial, naming, sync

FORMAT = 1
STATE, MANIFEST = "state.pt", "manifest.json"
ARRAY, SCALAR = "numpy array", "numpy scalar"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    :param state: what ``Checkpoints.write`` was given
    """

    path: Path
    steps: int
    state: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run.

    :param path: the folder that holds them
    """

    path: Path

    def paths(self) -> list[Path]:
        """Their folders, the oldest first."""
        return sorted(path for path in self.path.glob("step-*") if path.is_dir())

    def write(self, steps: int, state: dict[str, Any], keep: int) -> Path:
        """Write a checkpoint, then remove the oldest ones.

        :param state: nested plain values, arrays and tensors
        :param keep: how many to keep, this one included
        :return: its folder; one that is there already for these steps is replaced
        :raises OSError: if it can't be written; the older ones are as they were
        :raises TypeError: if the state holds something else
        """
        path = self.path / f"step-{steps:09d}"
        partial = self.path / f".{path.name}.{os.getpid()}.partial"
        try:
            with naming(path):
                self.path.mkdir(exist_ok=True)
                self._remove_leftovers()
                partial.mkdir()
                _write(partial, steps, state)
                if path.exists():
                    self._remove(path)
                os.replace(partial, path)
                sync(self.path)
                for old in self.paths()[:-keep]:
                    self._remove(old)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return path

    def newest(self, device: str | None = "cpu") -> Checkpoint | None:
        """Read the newest checkpoint that is whole; warns of those that are damaged.

        :param device: where its tensors go; None: where they were when it was written
        :return: None if there never was one
        :raises ValueError: if there are some, but all are damaged
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                return read(path, device)
            except (OSError, ValueError) as error:
                reason = error
                warnings.warn(f"{error}; it is passed over", stacklevel=2)
        if paths:
            raise ValueError(f"{reason}, and there is no other checkpoint to continue from")
        return None

    def _remove(self, path: Path) -> None:
        """Rename a checkpoint, then remove it, so that one with its name is never half removed."""
        unnamed = path.with_name(f".{path.name}.{os.getpid()}.partial.old")
        os.replace(path, unnamed)
        shutil.rmtree(unnamed)

    def _remove_leftovers(self) -> None:
        for path in self.path.iterdir():
            if is_partial(path):
                shutil.rmtree(path)


def read(path: Path, device: str | None = "cpu") -> Checkpoint:
    """Read a checkpoint and verify it.

    :param device: where its tensors go; None: where they were when it was written
    :raises ValueError: if it is not what was written, or of another format
    """
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        version, steps, checksum = (manifest[key] for key in ("format", "steps", "sha256"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"checkpoint {path} is damaged: its {MANIFEST} can't be read") from error
    if version != FORMAT:
        raise ValueError(f"checkpoint {path} is of format {version!r}; this release reads format {FORMAT}")
    try:
        content = (path / STATE).read_bytes()
    except OSError as error:
        raise ValueError(f"checkpoint {path} is damaged: its {STATE} can't be read") from error
    if hashlib.sha256(content).hexdigest() != checksum:
        raise ValueError(f"checkpoint {path} is damaged: its {STATE} is not what was written")
    try:
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:  # torch advises to load it unsafely
        raise ValueError(f"checkpoint {path} holds something else than plain values and tensors") from error
    return Checkpoint(path, int(steps), unpack(state))


def _write(path: Path, steps: int, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(pack(state), buffer)
    content = buffer.getvalue()
    checksum = hashlib.sha256(content).hexdigest()
    manifest = {"format": FORMAT, "steps": steps, "bytes": len(content), "sha256": checksum}
    for name, data in ((STATE, content), (MANIFEST, json.dumps(manifest, indent=1).encode())):
        (path / name).write_bytes(data)
        sync(path / name)
    sync(path)


def pack(value: Any, where: str = "state") -> Any:
    """Turn arrays and numpy's numbers into tensors and plain numbers that know what they were.

    :param value: nested dictionaries, lists and tuples of numbers, strings, None, tensors and numpy arrays
    :param where: what the value is called in an error
    :raises TypeError: names the value that is of another kind
    """
    if isinstance(value, dict):
        return {key: pack(each, f"{where}[{key!r}]") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([pack(each, f"{where}[{number}]") for number, each in enumerate(value)])
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {ARRAY: torch.from_numpy(value.copy(order="C"))}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {SCALAR: value.dtype.name, "value": value.item()}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{where} is a {type(value).__name__}, which a checkpoint can't hold")


def unpack(value: Any) -> Any:
    """Turn back what ``pack`` made."""
    if isinstance(value, dict):
        if value.keys() == {ARRAY}:
            return value[ARRAY].numpy()
        if value.keys() == {SCALAR, "value"}:
            return np.dtype(value[SCALAR]).type(value["value"])
        return {key: unpack(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([unpack(each) for each in value])
    return value
