"""Keeps two processes from training the same run."""

import contextlib
import errno
import os
import socket
import time
import warnings
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from cppo.files import CannotWriteError, check_regular, naming
from cppo.reading import UnreadableError, read_bytes, read_yaml

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SECONDS_TO_TRY = 2.0
"""A look at the lock takes it for an instant, so a first refusal may mean nothing."""
NOTE_BYTES = 4096
"""More than what says who has a lock."""
NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)
"""How file systems say that they know no locks."""


class NoLocksError(OSError):
    """A file system knows no locks; the message names a folder of it."""


class RunLock:
    """A lock that a process holds on a run until it ends, however it ends.

    It is the system's (``flock``), which lets go of it when the process is gone. The file says who has it. The folder
    is locked with it, where its file system can do that (NFS can't), so that removing the file lets nobody in. On a
    file system without locks it can't be taken. Where locks hold within a machine only, as some network file systems
    are mounted, the one who comes second is warned, and the first finds out by ``check``.

    :param path: the lock's file; it is made when the lock is taken, and stays
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._folder: int | None = None
        self._note = b""

    def acquire(self) -> None:
        """Take the lock.

        :raises BlockingIOError: if another process has it
        :raises OSError: if the file can't be written, or its file system has no locks
        """
        check_regular(self.path)
        with contextlib.ExitStack() as undo, naming(self.path.parent):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            undo.callback(os.close, descriptor)
            folder = os.open(self.path.parent, os.O_RDONLY)
            undo.callback(os.close, folder)
            deadline = time.monotonic() + SECONDS_TO_TRY
            while not (self._take(descriptor) and _take_folder(folder)):
                if time.monotonic() > deadline:
                    owner = self.owner() or "another process"
                    raise BlockingIOError(f"{self.path.parent} is in use: {owner} trains it")
                time.sleep(0.05)
            self._warn_of_other_host()
            since = datetime.now(timezone.utc).isoformat(timespec="seconds")
            note = yaml.safe_dump({"process": os.getpid(), "host": socket.gethostname(), "since": since}).encode()
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note, 0)
            undo.pop_all()
        self._descriptor, self._folder, self._note = descriptor, folder, note

    def _warn_of_other_host(self) -> None:
        """Warn if a process of another machine hasn't let go of the lock: it was killed, or isn't kept out by it."""
        owner = self._read_note()
        if owner is not None and owner["host"] != socket.gethostname():
            warnings.warn(
                f"{self.path.parent} was last trained by {self.owner()}, which hasn't said that it ended; if it is at "
                "work there, it stops at its next checkpoint",
                stacklevel=3,
            )

    def check(self) -> None:
        """Find out whether the lock still keeps others out.

        :raises CannotWriteError: if its file is gone, is another one, lies elsewhere or names another owner by now
        """
        assert self._descriptor is not None
        with naming(self.path.parent), contextlib.suppress(FileNotFoundError, UnreadableError):
            is_same = os.path.samestat(os.lstat(self.path), os.fstat(self._descriptor))
            if is_same and read_bytes(self.path, NOTE_BYTES) == self._note:
                return
        raise CannotWriteError(
            f"{self.path} was moved, removed or changed during the training, so that another may have begun there"
        )

    def release(self) -> None:
        """Let go of the lock; again does no harm."""
        if self._descriptor is not None and self._folder is not None:
            with contextlib.suppress(OSError):
                self.check()  # another's name stays
                os.ftruncate(self._descriptor, 0)
            os.close(self._folder)
            os.close(self._descriptor)
            self._descriptor = self._folder = None

    def is_held(self) -> bool:
        """Whether a living process has the lock, this one included; never where a file system has no locks."""
        return self._descriptor is not None or any(map(_is_locked, (self.path, self.path.parent)))

    def owner(self) -> str:
        """Who has the lock, as far as the file says."""
        note = self._read_note()
        return "" if note is None else f"process {note['process']} on {note['host']}, since {note.get('since')}"

    def _read_note(self) -> dict[str, Any] | None:
        try:
            return read_yaml(self.path, {"process": int, "host": str})
        except (OSError, UnreadableError):
            return None

    def _take(self, descriptor: int) -> bool:
        try:
            _flock(descriptor)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise NoLocksError(
                f"{self.path.parent} is on a file system without locks (flock), on which a run can't be kept from "
                "being trained twice; choose a folder elsewhere"
            ) from error
        return True


def _take_folder(descriptor: int) -> bool:
    try:
        _flock(descriptor)
    except BlockingIOError:
        return False
    except OSError:  # the lock's file, which others see as well, has to do
        return True
    return True


def _is_locked(path: Path) -> bool:
    """Whether a process has locked a file or folder; a shared lock can be tried where nothing can be written."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            _flock(descriptor, shared=True)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def _flock(descriptor: int, shared: bool = False) -> None:
    """Lock without waiting.

    :raises BlockingIOError: if another process has it
    :raises OSError: if there are no locks
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, "no locks here")
    fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
