"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name, with the same ending, that becomes its own only when it is complete.

    It is on the disk, not only in the system's memory, before it gets its name.

    :param path: the file's name; what was there before is kept until then, and for good if the writing fails
    """
    target = path.resolve()
    partial = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        yield partial
        sync(partial)
        os.replace(partial, target)
        sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)


class CannotWriteError(OSError):
    """A file or folder can't be written; the message names it and says why."""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say of an error of the system which file or folder could not be written; most don't.

    :raises CannotWriteError: in its place; errors that are not the system's, which have no number, pass
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise CannotWriteError(f"{path} can't be written: {error.strerror or error}") from error


def check_writable(path: Path) -> None:
    """Find out before the work starts whether its result can be written; makes the folder if need be.

    :raises OSError: if that is not possible
    """
    if path.exists() and not path.is_file():
        raise CannotWriteError(f"{path} can't be written: it is not a file")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


def is_partial(path: Path) -> bool:
    """Whether a file is what a process that was killed left of its writing."""
    return path.name.startswith(".") and ".partial" in path.name


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk.

    :raises OSError: if it can't be written
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
