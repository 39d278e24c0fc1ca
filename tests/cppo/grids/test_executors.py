"""Jobs as processes of this machine; the jobs are small scripts."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cppo.grids.executors import LocalExecutor, make_executor
from cppo.grids.jobs import Job

PATIENCE = 60.0


@pytest.fixture
def job(tmp_path):
    """Make a job of a script's text."""

    def make(name: str, text: str) -> Job:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "script.py").write_text(textwrap.dedent(text))
        return Job(name, str(folder), (str(folder / "script.py"),))

    return make


def poll_until(executor: LocalExecutor, count: int) -> dict[str, str]:
    """Wait until so many jobs have ended; why they did."""
    ended: dict[str, str] = {}
    deadline = time.monotonic() + PATIENCE
    while len(ended) < count:
        assert time.monotonic() < deadline
        ended |= executor.poll().ended
        time.sleep(0.02)
    return ended


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_why_jobs_end(job):
    executor = LocalExecutor(jobs=2)
    executor.submit(job("good", "print('done')"))
    executor.submit(job("bad", "import sys; print('begun'); sys.exit('error: no such thing')"))
    executor.submit(job("killed", "import os; os.kill(os.getpid(), 9)"))
    executor.submit(job("silent", "raise SystemExit(3)"))
    assert poll_until(executor, 4) == {
        "good": "",
        "bad": "error: no such thing",
        "killed": "killed by SIGKILL",
        "silent": "it said nothing",
    }


def test_what_a_job_says_is_kept_and_added_to(job):
    executor = LocalExecutor(jobs=1)
    twice = job("a", "print('said')")
    executor.submit(twice)
    executor.submit(twice)
    poll_until(executor, 1)
    poll_until(executor, 1)
    assert twice.output.read_text() == "said\nsaid\n"


def test_no_more_jobs_than_allowed_run_at_a_time(job):
    executor = LocalExecutor(jobs=2)
    for name in "abc":
        executor.submit(job(name, "import time; time.sleep(600)"))
    assert executor.poll().begun == ["a", "b"]
    assert executor.poll().begun == []
    executor.kill()
    assert set(poll_until(executor, 2)) == {"a", "b"}  # c was dropped
    assert executor.poll().begun == []


def test_a_job_has_one_thread(job):
    threads = job("a", "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])")
    executor = LocalExecutor(jobs=1)
    executor.submit(threads)
    poll_until(executor, 1)
    assert threads.output.read_text() == "1 1\n"


def test_stopping_lets_a_job_end_in_order(job):
    stopped = job(
        "a",
        """
        import pathlib, signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("wrote a checkpoint"))
        pathlib.Path(__file__).with_name("ready").touch()
        time.sleep(600)
        """,
    )
    executor = LocalExecutor(jobs=1)
    executor.submit(stopped)
    executor.poll()
    wait_for(Path(stopped.folder) / "ready")
    executor.stop()
    assert poll_until(executor, 1) == {"a": "wrote a checkpoint"}


def test_a_job_whose_folder_is_gone_ends_with_the_reason(tmp_path):
    executor = LocalExecutor(jobs=1)
    executor.submit(Job("a", str(tmp_path / "gone"), ("script.py",)))
    assert "No such file" in executor.poll().ended["a"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent's death")
def test_a_job_does_not_outlive_its_parent(job):
    """The parent is killed with SIGKILL and can't pass anything on."""
    child = job(
        "a",
        """
        import os, pathlib, signal, time
        def end(*_):
            pathlib.Path(__file__).with_name("ended").touch()
            os._exit(1)
        signal.signal(signal.SIGTERM, end)
        pathlib.Path(__file__).with_name("ready").touch()
        time.sleep(600)
        """,
    )
    parent = f"""
        import time
        from cppo.grids.jobs import Job, start
        start(Job("a", {child.folder!r}, {child.command!r}))
        time.sleep(600)
        """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(parent)], cwd=Path(__file__).parents[3])
    wait_for(Path(child.folder) / "ready")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(Path(child.folder) / "ended")


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "cppo.grids.ray_executor", raising=False)
    with pytest.raises(ImportError, match=r"--executor ray needs Ray: pip install 'cppo\[ray\]'"):
        make_executor("ray", 1, None)
