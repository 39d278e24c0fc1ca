"""A grid of runs as its user meets it: ``python train.py`` and the processes of its own that it starts."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cppo.runs.folder import RunFolder
from tests.commands import TRAIN, run_here

TINY = ["--env", "CartPole-v1", "--n-envs", "1", "--net-arch", "8", "--n-steps", "32", "--batch-size", "32"]
PATIENCE = 120.0
"""Seconds to wait for what takes a few on a quiet machine."""


def start(root: Path, *flags: object) -> subprocess.Popen:
    command, pipe = [sys.executable, str(TRAIN), "--output", str(root), *map(str, flags)], subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def wait_until(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def states(table: str) -> dict[str, str]:
    """The state of each run of a summary, by the end of its name."""
    return dict(re.findall(r"^nature-CartPole-v1-(\S+) +(\w+) +[\d,]+ of ", table, re.MULTILINE))


def child_of(process: subprocess.Popen) -> int | None:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0]) if children else None


def test_a_run_that_fails_is_reported_and_the_rest_is_finished(tmp_path, monkeypatch, capsys):
    """Of two networks one has no hidden layer, in which there is nothing to replace."""
    (tmp_path / "grid.yaml").write_text(
        "env: CartPole-v1\nalgo: cppo\nseed: 0\nnet_arch: [[8], []]\n"
        "n_envs: 1\nn_steps: 32\nbatch_size: 32\ntotal_timesteps: 96\n"
    )
    root = tmp_path / "runs"
    assert run_here(monkeypatch, TRAIN, "--output", root, "--grid", tmp_path / "grid.yaml", "--jobs", 2) == 1
    out = capsys.readouterr().out
    assert states(out) == {"cppo-seed0-net_arch=8": "finished", "cppo-seed0-net_arch=none": "failed"}
    reason = next(line for line in out.splitlines() if " failed: " in line)
    assert "net_arch" in reason and "hidden layer" in reason
    good = RunFolder(root / "nature-CartPole-v1-cppo-seed0-net_arch=8")
    assert (good.state(), good.steps_done()) == ("finished", 96)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds child processes in /proc")
def test_a_killed_run_is_reported_and_the_next_start_trains_it_alone(tmp_path, monkeypatch, capsys):
    flags = ["--algo", "ppo", "--seed", "0:2", "--jobs", 1, "--total-timesteps", 96, *TINY]
    running = start(tmp_path, *flags)
    wait_until(lambda: child_of(running))
    os.kill(child_of(running), signal.SIGKILL)
    out, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 1 and states(out) == {"ppo-seed0": "failed", "ppo-seed1": "finished"}
    assert "ppo-seed0 failed: killed by SIGKILL" in out and "what is missing is trained by the same command" in out
    finished = tmp_path / "nature-CartPole-v1-ppo-seed1"
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    assert run_here(monkeypatch, TRAIN, "--output", tmp_path, *flags) == 0
    assert {path: path.stat().st_mtime_ns for path in finished.iterdir()} == before
    out, err = capsys.readouterr()
    assert set(states(out).values()) == {"finished"}
    assert "seed0: " in err and "seed1: " not in err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds child processes in /proc")
def test_ctrl_c_stops_the_runs_in_order(tmp_path):
    running = start(tmp_path, "--algo", "ppo", "--seed", "0:2", "--jobs", 1, "--total-timesteps", 10**8, *TINY)
    first = RunFolder(tmp_path / "nature-CartPole-v1-ppo-seed0")
    wait_until(lambda: first.steps_done() > 0)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    out, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130 and "Traceback" not in err
    assert states(out) == {"ppo-seed0": "stopped", "ppo-seed1": "waiting"}
    assert "stopping: each run at work writes a checkpoint" in err
    assert first.state() == "stopped" and first.model.is_file()
