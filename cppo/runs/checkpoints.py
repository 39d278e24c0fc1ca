"""Writes and reads checkpoints, which are complete or not there and hold nothing but plain values and tensors.

Each is a folder ``step-000123456`` with

- ``state.pt``: everything the training continues from, as ``torch.save`` writes nested plain values and tensors, read
  by torch's weights-only reader, which runs no code;
- ``manifest.json``: the environment steps done, the size and SHA-256 of ``state.pt``, and the user's signature (see
  ``cppo/runs/signature.py``), by which a later run knows that this user's own training wrote it.

It is written in a temporary folder, brought to the disk, and only then given its name.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cppo.files import naming, partial_name, remove, sweep, sync
from cppo.reading import TENSOR_BYTES, UnreadableError, of_shape, parse_tensors, read_bytes, read_json
from cppo.runs.signature import sign, signed_by_us

FORMAT = 1
STATE, MANIFEST = "state.pt", "manifest.json"
NAME = re.compile("step-([0-9]{1,18})")
SHAPE = {"format": int, "steps": int, "sha256": str, "signature": str | None}
"""Of a manifest."""
ARRAY, SCALAR = "numpy array", "numpy scalar"
KINDS = "biuf"
"""Of numpy's numbers: bool, whole, whole and not negative, float."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    :param state: what ``Checkpoints.write`` was given
    :param is_own: whether this user's own training wrote it; None: nobody can tell, as an earlier release did
    """

    path: Path
    steps: int
    state: dict[str, Any]
    is_own: bool | None = None


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run.

    :param path: the folder that holds them
    """

    path: Path

    def paths(self) -> list[Path]:
        """Their folders, the oldest first."""
        steps = {path: NAME.fullmatch(path.name) for path in self.path.glob("step-*") if path.is_dir()}
        return sorted((path for path in steps if steps[path]), key=lambda path: int(steps[path][1]))  # type: ignore[index]

    def write(self, steps: int, state: dict[str, Any], keep: int) -> Path:
        """Write a checkpoint, then remove the oldest ones.

        :param state: nested plain values, arrays and tensors
        :param keep: how many to keep, this one included
        :return: its folder; one that is there already for these steps is replaced
        :raises OSError: if it can't be written; the older ones are as they were
        :raises TypeError: if the state holds something else
        """
        path = self.path / f"step-{steps:09d}"
        partial = partial_name(path)
        try:
            with naming(path):
                self.path.mkdir(exist_ok=True)
                sweep(self.path)
                partial.mkdir()
                _write(partial, steps, state)
                if path.exists():
                    self._remove(path)
                os.replace(partial, path)
                sync(self.path)
                for old in self.paths()[:-keep]:
                    self._remove(old)
        except OSError:
            with contextlib.suppress(OSError):
                remove(partial)
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
        unnamed = partial_name(path)
        os.replace(path, unnamed)
        remove(unnamed)


def read(path: Path, device: str | None = "cpu") -> Checkpoint:
    """Read a checkpoint and verify it.

    :param device: where its tensors go; None: where they were when it was written
    :raises ValueError: if it is not what was written, or of another format
    """
    try:
        manifest = read_json(path / MANIFEST, SHAPE)
        content = read_bytes(path / STATE, TENSOR_BYTES)
    except (FileNotFoundError, UnreadableError) as error:
        raise ValueError(f"checkpoint {path} is damaged: {error}") from error
    if manifest["format"] != FORMAT:
        raise ValueError(f"checkpoint {path} is of format {manifest['format']!r}; this release reads format {FORMAT}")
    if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
        raise ValueError(f"checkpoint {path} is damaged: its {STATE} is not what was written")
    try:
        state = of_shape(unpack(parse_tensors(content, path, device)), {})
    except Exception as error:  # of which strange values raise many
        raise ValueError(f"checkpoint {path} holds something else than plain values and tensors") from error
    return Checkpoint(path, manifest["steps"], state, signed_by_us(manifest))


def _write(path: Path, steps: int, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(pack(state), buffer)
    content = buffer.getvalue()
    checksum = hashlib.sha256(content).hexdigest()
    manifest = sign({"format": FORMAT, "steps": steps, "bytes": len(content), "sha256": checksum})
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
    if isinstance(value, np.ndarray) and value.dtype.kind in KINDS:
        return {ARRAY: torch.from_numpy(value.copy(order="C"))}
    if isinstance(value, np.generic) and value.dtype.kind in KINDS:
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
            kind = np.dtype(value[SCALAR])
            if kind.kind not in KINDS:
                raise ValueError(f"{kind} is no kind of number")
            return kind.type(value["value"])
        return {key: unpack(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([unpack(each) for each in value])
    return value
