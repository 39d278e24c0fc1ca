"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def check_writable(path: Path) -> None:
    """Find out before the work starts whether its result can be written; makes the folder if need be.

    :param path: where a file is to be written
    :raises OSError: if that is not possible
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path} can't be written: it is not a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"{path} can't be written: {error.strerror}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name, with the same ending, that becomes its own only when it is complete.

    :param path: the file's name; what was there before is kept until then, and for good if the writing fails
    :return: the temporary name
    """
    target = path.resolve()
    partial = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
