"""Files that are written whole or not at all."""

import contextlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


class CannotWriteError(OSError):
    """A file or folder can't be written; the message names it and says why."""


MARK = "written by the package cppo"
"""What files hold that are overwritten when they are written again; others never are."""
MARK_BYTES = 64 * 1024
PARTIAL = re.compile(r"\..*\.[0-9a-f]+\.partial(\..*)?", re.DOTALL)
"""The names of what is being written."""


@contextlib.contextmanager
def replacing(path: Path, follow: bool = True) -> Iterator[Path]:
    """Write a file under a temporary name, with the same ending, that becomes its own only when it is complete.

    It is on the disk, not only in the system's memory, before it gets its name.

    :param path: the file's name; what was there before is kept until then, and for good if the writing fails
    :param follow: whether a link is followed, and the file replaced that it points to; otherwise it is refused
    :raises CannotWriteError: if there is something else than a file
    """
    target = path.resolve() if follow else path
    check_regular(target)
    partial = partial_name(target)
    try:
        yield partial
        sync(partial)
        os.replace(partial, target)
        sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def partial_name(path: Path) -> Path:
    """A name, which nobody can foresee, under which a file or folder is written."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(8)}.partial{path.suffix}")


def is_partial(path: Path) -> bool:
    """Whether a file is what a process that was killed left of its writing."""
    return PARTIAL.fullmatch(path.name) is not None


def sweep(folder: Path) -> None:
    """Remove what killed processes left of their writing in a folder, if it is there and nobody else writes."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_partial(path):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def check_regular(path: Path, allowed: Callable[[int], bool] = stat.S_ISREG) -> None:
    """Refuse to write to a link, a device, a pipe or the like; what isn't there yet may be written.

    :param allowed: tells of a file's mode whether it is what it should be, by default a regular file
    :raises CannotWriteError: names it
    """
    with naming(path), contextlib.suppress(FileNotFoundError):
        if not allowed(path.lstat().st_mode):
            what = "a folder" if allowed is stat.S_ISDIR else "a file"
            raise CannotWriteError(f"{path} can't be written: it is not {what}{' but a link' * path.is_symlink()}")


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
    check_regular(path.resolve())
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


def check_ours(path: Path, mark: str = MARK) -> None:
    """Refuse to overwrite a file that this program didn't write; an empty one holds nothing to lose.

    :param mark: what every such file holds near its beginning or its end
    :raises CannotWriteError: if it is another one
    """
    check_regular(path.resolve())
    if not path.exists():
        return
    with naming(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        ends = file.read(MARK_BYTES)
        file.seek(max(0, size - MARK_BYTES))
        ends += file.read(MARK_BYTES)
    if size and mark.encode() not in ends:
        raise CannotWriteError(
            f"{path} can't be written: this program didn't write what is there, or an earlier release did; "
            "remove it first"
        )


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk.

    :raises OSError: if it can't be written
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
