"""Trains the runs of a grid on a Ray cluster; needs the extra ``cppo[ray]`` and storage that all nodes share.

Ray is sent the path of a run's folder and the command that resumes it, both plain text, and calls a function of this
module, installed on every node. Nothing is executed from a run's folder.
"""

import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, TaskCancelledError

from cppo.grids.jobs import Events, Job, start, why_it_ended
from cppo.runs.folder import RunFolder

RETRIES = 20
"""Times a run is taken up again after its worker or its node was lost; then the user is asked."""
SECONDS_FOR_THE_LOCK = 600.0
"""A lost node's lock is held until the storage misses the node, on NFS 4 for 90 seconds by default."""
SECONDS_FOR_THE_ADDRESS = 10.0
SECONDS_BETWEEN_LOOKS = 2.0
"""At the locks of runs that wait for a core."""


class TrainingKilledError(RuntimeError):
    """The training was killed from outside, for lack of memory for example; it is to be taken up again."""


def train_on_worker(job: Job) -> str:
    """Train a run on the node this is called on, as far as it gets.

    :return: in a line, why it ended early; empty if all went well
    :raises TrainingKilledError: if it was killed
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in a command put in the background it is ignored
    deadline = time.monotonic() + SECONDS_FOR_THE_LOCK
    lock = RunFolder(Path(job.folder)).lock
    while lock.is_held() and time.monotonic() < deadline:  # by the process of a worker that was lost, a moment longer
        time.sleep(0.5)
    process = start(job)
    try:
        while process.poll() is None:
            time.sleep(0.2)  # in short pieces: Ray's cancelling is a KeyboardInterrupt, which a wait would hold up
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    if process.returncode < 0:
        raise TrainingKilledError(why_it_ended(job, process.returncode))
    return why_it_ended(job, process.returncode)


class RayExecutor:
    """Runs jobs on a Ray cluster, a core for each.

    :param address: of the cluster; None: one of this machine alone, for as long as this process lives
    :param jobs: how many at a time on this machine alone
    :raises OSError: if there is no cluster at the address
    :raises ValueError: if it is no address
    """

    def __init__(self, address: str | None, jobs: int) -> None:
        _check_address(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers otherwise
        self._quiet = contextlib.ExitStack()
        alone: dict[str, Any] = {"num_cpus": jobs, "include_dashboard": False} if address is None else {}
        here = os.getcwd()
        os.chdir(Path(__file__).parents[2])  # Ray has its workers import from the folder it is started in
        try:
            ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **alone)
        except (RayError, RuntimeError, ValueError) as error:
            raise OSError(f"--ray-address {address} can't be used: {error}") from error
        finally:
            os.chdir(here)
        self._train = ray.remote(num_cpus=1, max_retries=RETRIES, retry_exceptions=[TrainingKilledError])(
            train_on_worker
        )
        # Ray prints pages of its daemons' state for each worker that is lost; ``poll`` tells it in a line.
        self._quiet.enter_context(contextlib.redirect_stdout(open(os.devnull, "w")))  # noqa: SIM115
        self._tasks: dict[Any, Job] = {}
        self._at_work: set[str] = set()
        self._gone: set[str] = set()
        self._stopping = False
        self._last_look = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether jobs wait or are at work."""
        return bool(self._tasks)

    def submit(self, job: Job) -> None:
        """Take a job; it starts when a core is free."""
        self._tasks[self._train.remote(job)] = job

    def poll(self) -> Events:
        """Return what happened since the last call."""
        events = self._begun_and_lost()
        done, _ = ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0) if self._tasks else ([], [])
        for task in done:
            job = self._tasks[task]
            reason = _result(task)
            if reason is None and _is_at_work(job):
                continue  # cancelled, and writes its checkpoint
            del self._tasks[task]
            if job.name not in self._at_work:
                if reason is None:
                    continue  # cancelled before it had its turn
                events.begun.append(job.name)
            self._at_work.discard(job.name)
            events.ended[job.name] = reason or ""
        return events

    def _begun_and_lost(self) -> Events:
        """Compare which runs are locked with the last look: the cluster itself decides when and where a job starts."""
        if time.monotonic() - self._last_look < SECONDS_BETWEEN_LOOKS:
            return Events()
        self._last_look = time.monotonic()
        now = {job.name for job in self._tasks.values() if _is_at_work(job)}
        gone = self._at_work - now
        # One that ended is without its lock for a moment before Ray tells of it.
        lost, self._gone = (set() if self._stopping else gone & self._gone), gone
        events = Events(begun=sorted(now - self._at_work), lost=sorted(lost))
        self._at_work = (self._at_work | now) - lost
        return events

    def stop(self) -> None:
        """Start no more, and ask those at work to write a checkpoint and end."""
        self._stopping = True
        for task in self._tasks:
            ray.cancel(task)

    def kill(self) -> None:
        """End the workers, upon which their trainings end."""
        for task in self._tasks:
            ray.cancel(task, force=True)

    def close(self) -> None:
        """Leave the cluster; one of this machine alone ends."""
        ray.shutdown()
        self._quiet.close()


def _check_address(address: str | None) -> None:
    """Refuse an address at which nobody listens; Ray itself would try for many minutes."""
    if address in (None, "auto"):
        return
    host, colon, port = str(address).rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"--ray-address {address} is not allowed: it must be HOST:PORT or auto")
    try:
        socket.create_connection((host, int(port)), SECONDS_FOR_THE_ADDRESS).close()
    except (OSError, OverflowError) as error:
        raise OSError(f"--ray-address {address} can't be reached: {error}") from error


def _is_at_work(job: Job) -> bool:
    return RunFolder(Path(job.folder)).lock.is_held()


def _result(task: Any) -> str | None:
    """Why a job ended early; None if it was cancelled."""
    try:
        return ray.get(task)
    except TaskCancelledError:
        return None
    except RayError as error:
        return str(error).strip().splitlines()[-1]
