"""What an agent still can, forgot, and never learned: its returns then and now."""

import shutil

import gymnasium as gym
import pytest

from cppo.report.evaluation import Episode, Result
from cppo.report.retention import columns, retentions, returns_then
from cppo.report.trained_agent import TrainedAgent
from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings
from cppo.training.starting import prepare
from cppo.training.training import train

TASK = {"total_timesteps": 400, "change_every": 100, "frictions": (0.5, 2.0, 0.1, 0.5)}


def agent_with(write_run, *ends: float, last_step: int = 400, **settings) -> TrainedAgent:
    """An agent whose phases of 100 steps ended with these returns."""
    rows = [
        {
            "time/total_timesteps": min(100 * (phase + 1), last_step),
            "environment/phase": phase,
            "episodes/return": value,
            "episodes/ended": 1,
        }
        for phase, value in enumerate(ends)
    ]
    folder = RunFolder(write_run("run", rows, **(TASK | settings)))
    return TrainedAgent(folder, folder.settings(), last_step, None)  # its networks don't matter


def now(friction: float | None, *returns: float) -> Result:
    return Result(friction, tuple(Episode(number, value, 10, None, False) for number, value in enumerate(returns)))


def test_then_is_the_end_of_the_last_finished_phase_of_the_friction(write_run):
    # friction 0.5 came in phases 0 and 3
    assert returns_then(agent_with(write_run, 10, 20, 30, 40)) == {0.5: 40.0, 2.0: 20.0, 0.1: 30.0}


def test_a_checkpoint_tells_the_same_as_the_table_and_spares_reading_it(tmp_path, monkeypatch):
    """Episodes of 12 steps, phases of 320, of which the last tenth is the last rollout; the last one is cut short."""
    pytest.importorskip("pybullet")
    monkeypatch.setattr(gym.registry["SlipperyAnt-v0"], "max_episode_steps", 12)
    values = {"n_envs": 2, "n_steps": 16, "batch_size": 32, "n_epochs": 1, "net_arch": (8,), "plasticity_every": 0}
    settings = Settings(
        algo="ppo", change_every=320, frictions=(0.5, 2.0, 0.1), total_timesteps=1120, **values
    ).resolved()
    folder = RunFolder(tmp_path / "run")
    train(prepare(settings, folder, ["train.py"]))
    agent = TrainedAgent.load(folder.path)
    table = folder.progress.read_text()
    folder.progress.write_text("nothing")
    told = returns_then(TrainedAgent.load(folder.path))
    folder.progress.write_text(table)
    shutil.rmtree(folder.checkpoints)
    from_table = TrainedAgent.load(folder.path)
    assert agent.phase_ends is not None and from_table.phase_ends is None
    assert agent.grounds(None) == from_table.grounds(None) == [0.5, 2.0, 0.1]
    assert told == pytest.approx(returns_then(from_table), rel=1e-12)
    assert told


def test_a_phase_at_work_has_no_end_yet(write_run):
    assert returns_then(agent_with(write_run, 10, 20, 30, 40, last_step=350)) == {0.5: 10.0, 2.0: 20.0, 0.1: 30.0}


def test_an_agent_whose_run_tells_nothing_has_no_then(write_run):
    agent = agent_with(write_run, 10)
    agent.folder.progress.unlink()
    kept = retentions(agent, [now(0.5, 3.0)])
    assert (kept[0].then, kept[0].now, kept[0].verdict) == (None, 3.0, None)
    assert columns(kept) == {}


def test_what_it_still_can_forgot_and_never_learned(write_run):
    # the best return is 1000: under 500 then and now was never learned; now under 3/4 of then was forgotten
    agent = agent_with(write_run, 0, 800, 490, 1000)
    kept = retentions(agent, [now(0.5, 1000), now(2.0, 590, 600), now(0.1, 499), now(0.7, 5)])
    assert [one.verdict for one in kept] == ["trained last", "forgot", "never learned", None]
    assert columns(kept) == {
        "then": ["1000.0", "800.0", "490.0", "-"],
        "verdict": ["trained last", "forgot", "never learned", "-"],
    }


def test_what_was_trained_last_cannot_be_forgotten(write_run):
    # phase 3 was of 0.5: that it plays worse now is the difference between drawn and most likely actions
    kept = retentions(agent_with(write_run, 0, 800, 800, 1000), [now(0.5, 600), now(2.0, 300)])
    assert [one.verdict for one in kept] == ["trained last", "forgot"]


def test_what_it_learnt_since_counts_as_learnt(write_run):
    kept = retentions(agent_with(write_run, 0, 100, 0, 1000), [now(0.5, 1000), now(2.0, 900)])
    assert [one.verdict for one in kept] == ["trained last", "still can"]


def test_shares_of_a_negative_return_say_nothing(write_run):
    assert retentions(agent_with(write_run, -9, -9, -9, -9), [now(0.5, -5)])[0].verdict is None


@pytest.mark.parametrize("env", ["FastAnt-v0", "Pendulum-v1"])
def test_a_ground_that_never_changed_is_not_compared(write_run, env):
    agent = agent_with(write_run, 10, env=env, change_every=None, frictions=None)
    assert retentions(agent, [now(None, 1.0)])[0].then is None
