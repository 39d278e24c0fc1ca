"""Executors train the runs of a grid as processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import signal
import subprocess
from collections import deque
from typing import TYPE_CHECKING, Literal

from cppo.grids.jobs import Events, Job, start, why_it_ended

if TYPE_CHECKING:
    from cppo.grids.ray_executor import RayExecutor


def make_executor(kind: Literal["local", "ray"], jobs: int, ray_address: str | None) -> LocalExecutor | RayExecutor:
    """Make an executor.

    :raises ImportError: if Ray isn't installed
    :raises OSError: if there is no cluster at the address
    """
    if kind == "local":
        return LocalExecutor(jobs)
    try:
        from cppo.grids.ray_executor import RayExecutor  # an extra, which most users don't have
    except ImportError as error:
        raise ImportError(f"--executor ray needs Ray: pip install 'cppo[ray]' ({error})") from error
    return RayExecutor(ray_address, jobs)


class LocalExecutor:
    """Runs jobs as processes of this machine.

    :param jobs: how many at a time
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._waiting: deque[Job] = deque()
        self._at_work: list[tuple[Job, subprocess.Popen[bytes]]] = []

    @property
    def is_busy(self) -> bool:
        """Whether jobs wait or are at work."""
        return bool(self._waiting or self._at_work)

    def submit(self, job: Job) -> None:
        """Take a job; it starts when there is room."""
        self._waiting.append(job)

    def poll(self) -> Events:
        """Start what can be started, without waiting for anything; return what happened since the last call."""
        events = Events()
        for job, process in list(self._at_work):
            code = process.poll()
            if code is not None:
                self._at_work.remove((job, process))
                events.ended[job.name] = why_it_ended(job, code)
        while self._waiting and len(self._at_work) < self._jobs:
            job = self._waiting.popleft()
            try:
                self._at_work.append((job, start(job)))
                events.begun.append(job.name)
            except OSError as error:
                events.ended[job.name] = f"it can't be started: {error}"
        return events

    def stop(self) -> None:
        """Start no more, and ask those at work to write a checkpoint and end."""
        self._waiting.clear()
        for _, process in self._at_work:
            process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End those at work without a checkpoint."""
        self._waiting.clear()
        for _, process in self._at_work:
            process.kill()

    def close(self) -> None:
        """Nothing to give back."""
