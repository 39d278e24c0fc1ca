"""A run that is stopped and resumed equals one that never was, in every figure and every weight."""

import dataclasses
import signal

import pytest
import torch
from torch.optim.optimizer import _global_optimizer_pre_hooks

from cppo.runs.checkpoints import Checkpoints
from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings
from cppo.training.starting import continued, prepare, resume
from cppo.training.training import train
from tests.kills.compare import differences, figures

SMALL = {
    "net_arch": (8, 8),
    "n_envs": 2,
    "n_steps": 64,
    "batch_size": 32,
    "n_epochs": 2,
    "total_timesteps": 1024,  # 8 updates of 128 steps
    "checkpoint_every": 300,  # due after 384, 640, 1024 = 3, 5, 8 updates
    "plasticity_every": 2,
}
CONTINUAL = SMALL | {"algo": "cppo-l2", "replacement_rate": 0.05, "maturity_threshold": 4}
SLIPPERY = CONTINUAL | {"change_every": 200, "frictions": (0.5, 1.5, 0.25)}
RUNS = {
    "slippery ant": SLIPPERY,
    "at once": SLIPPERY | {"change_at": "step", "n_envs": 1, "n_steps": 128},
    "in processes": SLIPPERY | {"processes": True, "total_timesteps": 512},
    "on MuJoCo": SLIPPERY | {"env": "SlipperyAnt-v5"},
    "ppo": SMALL | {"algo": "ppo", "env": "FastAnt-v0"},
    "by autograd": SLIPPERY | {"update": "autograd"},
    "gSDE": SMALL | {"algo": "ppo-adam", "env": "FastAnt-v0", "use_sde": True, "sde_sample_freq": 5},
    "remedies": SMALL
    | {
        "algo": "ppo",
        "env": "FastAnt-v0",
        "remedies": ("shrink-perturb", "redo", "online-norm", "regenerative"),
        "redo_every": 5,
        "redo_threshold": 0.5,
    },
    "an environment that can't tell its state": CONTINUAL | {"env": "CartPole-v1"},
}


def stop_in_update(monkeypatch, number: int) -> None:
    """Send this process a SIGTERM in the n-th update from now."""
    seen = []
    per_update = 2 * 128 // 32

    def before_step(*_):
        seen.append(1)
        if len(seen) == per_update * (number - 1) + 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setitem(_global_optimizer_pre_hooks, -1, before_step)


def run(folder, values, to_resume=False, **more):
    settings = Settings(**(values | more)).resolved()
    start = resume if to_resume else prepare
    return train(start(settings, RunFolder(folder), ["test"]))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The run of each kind that nothing happens to, made when it is first asked for."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("uninterrupted") / "run"
            assert run(made[kind], RUNS[kind]).exit_code == 0
        return made[kind]

    return get


@pytest.mark.parametrize("kind", RUNS)
def test_a_resumed_run_equals_one_that_was_never_interrupted(kind, uninterrupted, tmp_path, monkeypatch):
    """Stopped in the 2nd update, before any checkpoint was due, and again in the 4th that follows."""
    if "Ant" in RUNS[kind].get("env", "Ant"):
        pytest.importorskip("mujoco" if kind == "on MuJoCo" else "pybullet")
    expected = uninterrupted(kind)
    for number, is_resumed in ((2, False), (4, True))[: 1 if kind == "in processes" else 2]:
        with monkeypatch.context() as patch:
            stop_in_update(patch, number)
            assert run(tmp_path / "run", RUNS[kind], is_resumed).exit_code == 143
        assert RunFolder(tmp_path / "run").state() == "stopped"
    assert run(tmp_path / "run", RUNS[kind], True).exit_code == 0
    assert RunFolder(tmp_path / "run").state() == "finished"
    assert not differences(tmp_path / "run", expected)


def test_more_steps_than_at_first(uninterrupted, tmp_path):
    """Half the run, then the rest: the same as all of it at once."""
    pytest.importorskip("pybullet")
    run(tmp_path / "run", SLIPPERY, total_timesteps=512)
    folder = RunFolder(tmp_path / "run")
    longer = continued(folder, Settings(**SLIPPERY).resolved())
    assert train(resume(longer, folder, [])).ending.steps == 1024
    assert folder.settings().total_timesteps == 1024
    assert not differences(tmp_path / "run", uninterrupted("slippery ant"))


def test_tensorboard_shows_every_update_once(uninterrupted, tmp_path, monkeypatch):
    """Killed after the 4th update, one after the checkpoint of the 3rd; TensorBoard has seen 4 of them."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    kind = "an environment that can't tell its state"

    class KillError(Exception):
        pass

    def kill(self):
        if self.model.num_timesteps == 4 * 128:
            self._logs.sync()
            raise KillError

    with monkeypatch.context() as patch:
        patch.setattr("cppo.training.session.Session._on_rollout_start", kill)
        with pytest.raises(KillError):
            run(tmp_path / "run", RUNS[kind])
    run(tmp_path / "run", RUNS[kind], True)
    assert not differences(tmp_path / "run", uninterrupted(kind))
    events = event_accumulator.EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(128, 1025, 128))


def test_a_damaged_checkpoint_is_passed_over(uninterrupted, tmp_path, monkeypatch, recwarn):
    kind = "an environment that can't tell its state"
    with monkeypatch.context() as patch:
        stop_in_update(patch, 6)
        run(tmp_path / "run", RUNS[kind])
    older, newer = Checkpoints(tmp_path / "run" / "checkpoints").paths()
    content = bytearray((newer / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (newer / "state.pt").write_bytes(content)
    assert run(tmp_path / "run", RUNS[kind], True).exit_code == 0
    assert [str(each.message) for each in recwarn if "damaged" in str(each.message)] == [
        f"checkpoint {newer} is damaged: its state.pt is not what was written; it is passed over"
    ]
    assert older.name == "step-000000384"
    assert not differences(tmp_path / "run", uninterrupted(kind))


def test_a_finished_run_stays_as_it_is(tmp_path):
    values = RUNS["an environment that can't tell its state"] | {"total_timesteps": 256}
    run(tmp_path / "run", values)
    before = figures(tmp_path / "run")
    assert run(tmp_path / "run", values, True).exit_code == 0
    assert figures(tmp_path / "run") == before


def test_other_versions_are_warned_of(tmp_path, monkeypatch):
    values = RUNS["an environment that can't tell its state"] | {"total_timesteps": 256}
    run(tmp_path / "run", values)
    monkeypatch.setattr("cppo.training.starting.versions", lambda: {"numpy": "1.0", "torch": str(torch.__version__)})
    with pytest.warns(UserWarning, match=r"numpy [\d.]+ is now 1\.0: the run may not continue bit for bit"):
        run(tmp_path / "run", values, True)


@pytest.mark.parametrize(("env", "update"), [("Pendulum-v1", "closed-form"), ("CartPole-v1", "autograd")])
def test_the_update_that_was_chosen_is_kept(tmp_path, env, update):
    """The faster one where it can run; then the configuration says which, and asking for it again changes nothing."""
    values = CONTINUAL | {"env": env, "total_timesteps": 256}
    run(tmp_path / "run", values)
    folder = RunFolder(tmp_path / "run")
    assert folder.settings().update == update
    again = continued(folder, Settings(**values | {"total_timesteps": 384}).resolved())
    assert again.update == update
    assert train(resume(again, folder, [])).steps_saved == 384


@pytest.mark.parametrize(("before", "after"), [("autograd", "closed-form"), ("closed-form", "autograd")])
def test_a_run_may_go_on_by_the_other_update(tmp_path, before, after):
    values = SMALL | {"env": "Pendulum-v1", "total_timesteps": 256, "algo": "ppo"}
    run(tmp_path / "run", values, update=before)
    folder = RunFolder(tmp_path / "run")
    given = dataclasses.replace(folder.settings(), total_timesteps=384, update=after)
    training = resume(continued(folder, given), folder, [])
    assert train(training).steps_saved == 384
    assert training.model.policy.optimizer.param_groups[0]["fused"] == (True if after == "closed-form" else None)


def test_a_run_whose_closed_form_cannot_run_goes_on_by_autograd(tmp_path):
    """Such runs exist: earlier the closed form left what it doesn't cover to autograd, without a word."""
    run(tmp_path / "run", RUNS["an environment that can't tell its state"] | {"total_timesteps": 256})
    folder = RunFolder(tmp_path / "run")
    folder.config.write_text(folder.config.read_text().replace("update: autograd", "update: closed-form"))
    more = dataclasses.replace(folder.settings(), total_timesteps=384)
    with pytest.raises(ValueError, match=r"the closed-form update can't run: .*; use --update autograd"):
        resume(continued(folder, more), folder, [])
    training = resume(continued(folder, dataclasses.replace(more, update="autograd")), folder, [])
    assert train(training).steps_saved == 384
    assert folder.settings().update == "autograd"


def test_a_run_in_use_is_not_resumed(tmp_path, monkeypatch):
    values = RUNS["an environment that can't tell its state"]
    monkeypatch.setattr("cppo.runs.lock.SECONDS_TO_TRY", 0.1)
    training = prepare(Settings(**values).resolved(), RunFolder(tmp_path / "run"), [])
    with pytest.raises(BlockingIOError, match=r"is in use: process .* trains it"):
        run(tmp_path / "run", values, True)
    train(training)


def test_a_state_of_other_settings_is_refused(tmp_path):
    values = RUNS["an environment that can't tell its state"] | {"total_timesteps": 256}
    run(tmp_path / "run", values)
    with pytest.raises(ValueError, match=r"does not fit the run's settings: .*size mismatch"):
        run(tmp_path / "run", values, True, net_arch=(9, 9))
    assert not RunFolder(tmp_path / "run").lock.is_held()
