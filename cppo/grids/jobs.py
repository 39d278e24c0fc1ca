"""Jobs train the runs of a grid, each in a process of its own, which ends when its parent does."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
TAIL_BYTES = 4096
PR_SET_PDEATHSIG = 1
"""Of Linux's <sys/prctl.h>."""


@dataclass(frozen=True)
class Job:
    """What is to be run; plain values, so that it can be sent to another machine.

    :param command: the script and its flags that train it, from its beginning or its last checkpoint
    """

    name: str
    folder: str
    command: tuple[str, ...]

    @property
    def output(self) -> Path:
        """What the training says, of all its starts."""
        return Path(self.folder) / "output.log"


@dataclass
class Events:
    """What happened to the jobs, by name.

    :param lost: those whose worker was lost, and that are taken up again when there is room
    :param ended: those at work no more, with the reason, in a line, why they ended early; empty if all went well
    """

    begun: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)


def start(job: Job) -> subprocess.Popen[bytes]:
    """Start a job: in a session of its own, so that a terminal's Ctrl-C reaches its parent only, which passes it on.

    When the parent dies, however it does, the system (Linux) sends the child a SIGTERM, upon which it writes a
    checkpoint and ends; it would hold the run's lock otherwise, and a core.

    :raises OSError: if the output's file can't be written, or the command not be run
    """
    with job.output.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *job.command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | dict.fromkeys(THREADS, "1"),
            start_new_session=True,
            preexec_fn=_die_with_parent(),
        )


def _die_with_parent() -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()  # loaded here: after a fork little is allowed

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died meanwhile
            os._exit(128 + signal.SIGTERM)

    return ask


def why_it_ended(job: Job, code: int) -> str:
    """Say in a line why a job ended: empty if all went well, else the signal or the last line it wrote."""
    if code == 0:
        return ""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    try:
        with job.output.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError as error:
        return f"{job.output} can't be read: {error.strerror}"
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
