"""Processes with environments that die are named, and replaced if asked for."""

import contextlib
import os
import signal
import time
from functools import partial

import numpy as np
import pytest

from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings
from cppo.training.environment_state import Restorable
from cppo.training.environments import make_environment
from cppo.training.starting import prepare, resume
from cppo.training.training import train
from cppo.training.workers import WorkerDied, Workers

SLIPPERY = partial(make_environment, "SlipperyAnt-v0", {"change_every": 20, "frictions": [0.5, 1.5], "n_envs": 2})
CART_POLE = partial(make_environment, "CartPole-v1", {})


RUN = {
    "env": "FastAnt-v0",
    "algo": "ppo",
    "processes": True,
    "n_envs": 2,
    "n_steps": 32,
    "batch_size": 32,
    "n_epochs": 1,
    "net_arch": (8, 8),
    "total_timesteps": 256,
    "checkpoint_every": 64,
}


@pytest.fixture
def workers(request):
    """Two environments after 12 steps."""
    pytest.importorskip("pybullet")
    env = Workers([(lambda: Restorable(SLIPPERY()))] * 2, restart=request.param)
    env.seed(0)
    env.reset()
    for _ in range(12):
        step(env)
    yield env
    env.close()


def step(env):
    return env.step(np.zeros((2, 8), np.float32))


def kill(env, number):
    env.processes[number].kill()
    env.processes[number].join()


@pytest.mark.parametrize("workers", [False], indirect=True)
def test_a_process_that_dies_is_named(workers):
    kill(workers, 1)
    with pytest.raises(
        WorkerDied,
        match=r"^environment 1 of 2 died after 12 of its steps: its process was killed by signal 9$",
    ):
        step(workers)
    with pytest.raises(WorkerDied, match="environment 1 of 2"):
        workers.env_method("state_dict")


@pytest.mark.parametrize("workers", [True], indirect=True)
def test_a_process_that_dies_is_replaced(workers, capfd):
    """The 13th step truncates its episode; each of 2 environments counts 13 steps then, 26 in all: phase 1 of 20."""
    before, *_ = step(workers)
    kill(workers, 1)
    observations, rewards, dones, infos = step(workers)
    assert dones.tolist() == [False, True] and rewards[1] == 0
    assert infos[1]["TimeLimit.truncated"] and np.array_equal(infos[1]["terminal_observation"], before[1])
    assert not np.array_equal(observations[1], before[1])
    assert "environment 1 of 2 died" in capfd.readouterr().err
    *_, infos = step(workers)
    assert [info["phase"] for info in infos] == [0, 1]  # the other one's change waits for its next episode
    assert workers.env_method("state_dict")[1]["layers"][-2]["steps_taken"] == 15


@pytest.mark.parametrize("workers", [False], indirect=True)
def test_signals_for_the_parent_leave_the_processes_alone(workers):
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(workers.processes[0].pid, number)
    time.sleep(0.1)
    step(workers)


@pytest.mark.parametrize("workers", [False], indirect=True)
def test_closing_ends_all_processes_dead_or_not(workers):
    kill(workers, 0)
    workers.step_async(np.zeros((2, 8), np.float32))
    workers.close()
    workers.close()
    assert not any(process.is_alive() for process in workers.processes)


def test_an_environment_that_cannot_tell_its_state_says_so():
    env = Restorable(CART_POLE())
    env.reset()
    assert env.state_dict() is None
    env.close()


def kill_a_worker_in_update(monkeypatch, training, number):
    update, seen = type(training.model).train, []

    def train_and_kill(self):
        seen.append(1)
        if len(seen) == number:
            kill(training.model.get_env().venv, 1)
        update(self)

    monkeypatch.setattr(type(training.model), "train", train_and_kill)


def test_a_run_stops_with_a_line_and_can_be_resumed(tmp_path, monkeypatch):
    """Killed in the second update of 64 steps, after which a checkpoint can't be taken: the first one is left."""
    pytest.importorskip("pybullet")
    folder = RunFolder(tmp_path / "run")
    settings = Settings(**RUN).resolved()
    training = prepare(settings, folder, [])
    with monkeypatch.context() as patch:
        kill_a_worker_in_update(patch, training, 2)
        outcome = train(training)
    assert (outcome.exit_code, outcome.steps_saved) == (1, 64)
    assert folder.state() == "failed"
    assert folder.ending().reason.startswith("environment 1 of 2 died after 64 of its steps")
    assert train(resume(settings, folder, [])).exit_code == 0
    assert folder.state() == "finished"


def test_a_run_goes_on_with_another_process(tmp_path, monkeypatch):
    """The answer of the process that died is due with the step after the checkpoint."""
    pytest.importorskip("pybullet")
    folder = RunFolder(tmp_path / "run")
    training = prepare(Settings(**(RUN | {"restart_workers": True, "total_timesteps": 128})).resolved(), folder, [])
    kill_a_worker_in_update(monkeypatch, training, 1)  # before the checkpoint at 64 steps
    assert train(training).exit_code == 0
    assert [*folder.column("time/total_timesteps")] == ["64", "128"]


@pytest.mark.parametrize("method", ["state_dict", "reset"])
def test_a_process_that_dies_when_it_is_asked_for_its_state_or_an_episode_is_replaced(tmp_path, method, capfd):
    """It ends in the middle of the call, once."""
    last = tmp_path / "last"

    class Mortal(Restorable):
        def die_once(self):
            with contextlib.suppress(FileNotFoundError):  # only one of the two can remove it
                last.unlink()
                os._exit(7)

        def reset(self, **kwargs):
            if method == "reset":
                self.die_once()
            return super().reset(**kwargs)

        def state_dict(self):
            if method == "state_dict":
                self.die_once()
            return super().state_dict()

    env = Workers([lambda: Mortal(CART_POLE())] * 2, restart=True)
    env.seed(0)
    env.reset()
    env.step(np.zeros(2, int))
    last.touch()
    assert getattr(env, method)() is None or method == "reset"
    assert "of 2 died after 1 of its steps: its process ended with exit code 7" in capfd.readouterr().err
    assert sum(env.step(np.zeros(2, int))[2]) == (method == "state_dict")  # its episode is truncated; a reset needn't
    assert not last.exists()
    env.close()
