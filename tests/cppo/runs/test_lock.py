"""Only one process trains a run, and one that is gone holds nothing."""

import errno
import re
import signal
import subprocess
import sys

import pytest

from cppo.files import CannotWriteError
from cppo.runs import lock as lock_module
from cppo.runs.lock import RunLock

HOLDER = """
import sys, time
from pathlib import Path
from cppo.runs.lock import RunLock
RunLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.lock"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(lock_module, "SECONDS_TO_TRY", 0.1)


def test_a_lock_is_held_until_it_is_released(path):
    lock = RunLock(path)
    assert not lock.is_held()
    lock.acquire()
    assert lock.is_held() and RunLock(path).is_held()
    lock.release()
    lock.release()
    assert not lock.is_held() and not RunLock(path).is_held()


def test_another_process_is_named_and_lets_go_when_it_is_killed(path, impatient):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    assert RunLock(path).is_held()
    with pytest.raises(BlockingIOError, match=f"in use: process {holder.pid} on .*, since .* trains it"):
        RunLock(path).acquire()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert not RunLock(path).is_held()
    lock = RunLock(path)
    lock.acquire()
    lock.release()


def test_looking_at_a_lock_does_not_keep_others_from_taking_it(path):
    taken = RunLock(path)
    taken.acquire()
    taken.release()
    assert not RunLock(path).is_held()
    taken.acquire()
    taken.release()


@pytest.fixture
def no_locks(monkeypatch):
    """A file system that knows no locks."""

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock_module.fcntl, "flock", flock)


def test_without_locks_nothing_is_trained_in_one_line(path, no_locks):
    with pytest.raises(
        OSError, match=r"^.* is on a file system without locks \(flock\), .*; choose a folder elsewhere$"
    ):
        RunLock(path).acquire()


@pytest.mark.parametrize("note", ["", "{process: 1, host: here, since: 2026-11-24}"])
def test_without_locks_runs_can_be_looked_at(path, no_locks, note):
    path.write_text(note)
    assert not RunLock(path).is_held()


@pytest.mark.parametrize("note", ["", "process: 1", "{", "- 1", "3"])
def test_a_note_that_is_not_whole_names_nobody(path, note):
    path.write_text(note)
    assert RunLock(path).owner() == ""


def test_removing_the_file_lets_nobody_in_and_is_noticed(path, impatient):
    lock = RunLock(path)
    lock.acquire()
    lock.check()
    path.unlink()
    assert RunLock(path).is_held()
    with pytest.raises(BlockingIOError, match="in use"):
        RunLock(path).acquire()
    with pytest.raises(CannotWriteError, match=r"run\.lock was moved, removed or changed during the training"):
        lock.check()  # the file is the second one's
    lock.release()
    assert not RunLock(path).is_held()


def test_where_locks_hold_within_a_machine_the_first_trainer_stops(path, monkeypatch):
    """As on NFS mounted with local_lock: the second one, on another machine, gets the lock too, and is told."""
    monkeypatch.setattr(lock_module.fcntl, "flock", lambda *_: None)
    first, second = RunLock(path), RunLock(path)
    first.acquire()
    monkeypatch.setattr(lock_module.socket, "gethostname", lambda: "elsewhere")
    owner = first.owner()
    with pytest.warns(
        UserWarning, match=rf"was last trained by {re.escape(owner)}, which hasn't said that it ended; if it is at"
    ):
        second.acquire()
    with pytest.raises(CannotWriteError, match=r"so that another may have begun there"):
        first.check()
    first.release()
    second.check()  # its name still stands there
    second.release()
    assert path.read_bytes() == b""


def test_a_folder_that_was_renamed_is_noticed(tmp_path):
    (tmp_path / "run").mkdir()
    lock = RunLock(tmp_path / "run" / "run.lock")
    lock.acquire()
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(CannotWriteError, match="moved"):
        lock.check()
    lock.release()


def test_a_link_in_place_of_the_file_is_refused(path, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    path.symlink_to("thesis.tex")
    with pytest.raises(CannotWriteError, match=r"run\.lock can't be written: it is not a file but a link"):
        RunLock(path).acquire()
    assert (tmp_path / "thesis.tex").read_text() == "precious"
