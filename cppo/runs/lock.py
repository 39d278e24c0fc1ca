"""Keeps two processes from training the same run."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from cppo.files import naming

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SECONDS_TO_TRY = 2.0
"""A look at the lock takes it for an instant, so a first refusal may mean nothing."""
NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)
"""How file systems say that they know no locks."""


class NoLocksError(OSError):
    """A file system knows no locks; the message names a folder of it."""


class RunLock:
    """A lock that a process holds on a run until it ends, however it ends.

    It is the system's (``flock``), which lets go of it when the process is gone; on NFS it holds across machines. The
    file says who has it. On a file system without locks it can't be taken.

    :param path: the lock's file; it is made when the lock is taken, and stays
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        :raises BlockingIOError: if another process has it
        :raises OSError: if the file can't be written, or its file system has no locks
        """
        with contextlib.ExitStack() as undo, naming(self.path.parent):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            undo.callback(os.close, descriptor)
            deadline = time.monotonic() + SECONDS_TO_TRY
            while not self._take(descriptor):
                if time.monotonic() > deadline:
                    owner = self.owner() or "another process"
                    raise BlockingIOError(f"{self.path.parent} is in use: {owner} trains it")
                time.sleep(0.05)
            since = datetime.now(timezone.utc).isoformat(timespec="seconds")
            note = yaml.safe_dump({"process": os.getpid(), "host": socket.gethostname(), "since": since})
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note.encode(), 0)
            undo.pop_all()
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of the lock; again does no harm."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def is_held(self) -> bool:
        """Whether a living process has the lock, this one included; never where a file system has no locks."""
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return not self._take(descriptor)
        except NoLocksError:
            return False
        finally:
            os.close(descriptor)

    def owner(self) -> str:
        """Who has the lock, as far as the file says."""
        try:
            note: Any = yaml.safe_load(self.path.read_text())
            return f"process {note['process']} on {note['host']}, since {note['since']}"
        except (OSError, yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError):
            return ""

    def _take(self, descriptor: int) -> bool:
        try:
            if fcntl is None:
                raise OSError(errno.ENOSYS, "no locks here")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
