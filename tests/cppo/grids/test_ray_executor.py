"""A grid on a real Ray of this machine: lost workers and lost nodes cost no run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cppo.runs.folder import RunFolder

pytest.importorskip("ray", reason="the extra cppo[ray] isn't installed")
if not sys.platform.startswith("linux"):
    pytest.skip("finds processes in /proc", allow_module_level=True)

TRAIN = Path(__file__).parents[3] / "train.py"
TINY = ["--env", "CartPole-v1", "--n-envs", "1", "--net-arch", "8", "--n-steps", "32", "--batch-size", "32"]
GRID = ["--algo", "ppo", "--seed", "0:2", "--executor", "ray", *TINY]
PATIENCE = 180.0


def start(root: Path, *flags: object) -> subprocess.Popen:
    command = [sys.executable, str(TRAIN), "--output", str(root), *GRID, *map(str, flags)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, cwd=root)


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.1)
    return found


def descendants(pid: int) -> list[int]:
    """All processes below a process."""
    below: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            below += [child, *descendants(child)]
    return below


def workers(pid: int) -> list[int]:
    """The processes of Ray, below a process, that have been given a run."""
    found = []
    for process in descendants(pid):
        try:
            command = Path(f"/proc/{process}/cmdline").read_bytes()
        except FileNotFoundError:  # ended meanwhile
            continue
        if command.startswith(b"ray::train_on_worker"):
            found.append(process)
    return found


def runs(root: Path) -> list[RunFolder]:
    return [RunFolder(root / f"nature-CartPole-v1-ppo-seed{seed}") for seed in (0, 1)]


def check_all_finished(root: Path, running: subprocess.Popen) -> None:
    out, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, out + err
    assert [run.state() for run in runs(root)] == ["finished", "finished"]
    assert "raylet" not in out  # what Ray prints of it


def test_a_run_is_taken_up_again_when_its_worker_is_killed(tmp_path):
    """The command is given in a folder of modules that somebody planted; Ray would have its workers import them."""
    for module in ("yaml", "numpy", "cppo", "torch"):
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    running = start(tmp_path, "--jobs", 2, "--total-timesteps", 96)
    os.kill(wait_until(lambda: workers(running.pid))[0], signal.SIGKILL)
    check_all_finished(tmp_path, running)
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_a_run_is_taken_up_again_on_another_node_when_its_node_is_lost(tmp_path):
    """Two nodes of one core each, as two daemons on this machine; the one with a run at work is killed."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        running = start(tmp_path, "--ray-address", cluster.address, "--total-timesteps", 96)
        wait_until(lambda: workers(node_daemon(node)))
        cluster.remove_node(node, allow_graceful=False)
        check_all_finished(tmp_path, running)
    finally:
        cluster.shutdown()


def node_daemon(node) -> int:
    return node.all_processes["raylet"][0].process.pid
