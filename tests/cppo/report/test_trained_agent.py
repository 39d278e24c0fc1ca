"""Which grounds a trained agent is put on, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from cppo.report.trained_agent import Moment, TrainedAgent
from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings
from cppo_envs.friction import FrictionSchedule


def agent_trained_for(steps: int, **settings: Any) -> TrainedAgent:
    policy: Any = None  # frictions are a matter of the settings alone
    return TrainedAgent(RunFolder(Path("run")), Settings(**settings).resolved(), steps, policy)


@pytest.mark.parametrize(
    ("steps", "met"), [(0, [0.5]), (100, [0.5]), (101, [0.5, 2.0]), (250, [0.5, 2.0]), (301, [0.5, 2.0, 0.1])]
)
def test_the_frictions_of_training_are_those_of_the_phases_that_took_steps(steps, met):
    # phases of 100 steps: the 100th is the last of phase 0, the 101st the first of phase 1; phase 2 is 0.5 once more
    agent = agent_trained_for(steps, change_every=100, frictions=(0.5, 2.0, 0.5, 0.1))
    assert agent.grounds(None) == met


def test_endless_phases_are_not_counted():
    agent = agent_trained_for(10**15, change_every=1, friction_range=(0.1, 1.0), schedule_seed=5)
    with pytest.raises(ValueError, match=r"give --friction: the agent of run was trained on 1,000,000,000,000,000 of"):
        agent.grounds(None)
    assert agent.grounds([0.5]) == [0.5]
    assert agent.last_friction == FrictionSchedule(1, (0.1, 1.0), seed=5).friction(10**15 - 1)


def test_a_phase_shorter_than_an_episode_that_was_never_met_is_left_out(make_run):
    """Phases of 100 steps in episodes of 300: due were 0 to 6, met were those in which an episode started."""
    pytest.importorskip("pybullet")
    folder = make_run("SlipperyAnt-v0", change_every=100, frictions=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7))
    assert TrainedAgent.load(folder.path).grounds(None) == [0.1]
    folder.progress.write_text('time/total_timesteps,environment/phases_met\n300,"0"\n600,"3"\n650,""\n700,"6"\n')
    assert TrainedAgent.load(folder.path).grounds(None) == [0.1, 0.4, 0.7]
    folder.progress.write_text("time/total_timesteps\n700\n")  # of a run that didn't tell
    assert TrainedAgent.load(folder.path).grounds(None) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def test_drawn_frictions_are_those_of_the_runs_schedule():
    agent = agent_trained_for(250, change_every=100, friction_range=(0.1, 1.0), schedule_seed=5)
    schedule = FrictionSchedule(100, (0.1, 1.0), seed=5)
    assert agent.grounds(()) == [schedule.friction(phase) for phase in (0, 1, 2)]


def test_frictions_asked_for_come_each_once_in_their_order():
    assert agent_trained_for(0).grounds([2, 0.5, 2.0]) == [2.0, 0.5]
    assert agent_trained_for(0, env="FastAnt-v0").grounds([2.0]) == [2.0]


def test_an_environment_without_frictions_has_one_ground():
    agent = agent_trained_for(10, env="Pendulum-v1")
    assert agent.grounds(()) == [None]
    with pytest.raises(ValueError, match=r"--friction has no effect in Pendulum-v1; it is for SlipperyAnt-v0"):
        agent.grounds([0.8])


@pytest.mark.parametrize("friction", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_friction_must_be_a_number_above_zero(friction):
    with pytest.raises(ValueError, match=f"--friction must be a finite number above 0, got {friction}"):
        agent_trained_for(0).grounds([0.8, friction])


@pytest.mark.parametrize("env_id", ["SlipperyAnt-v0", "FastAnt-v0"])
def test_the_ground_is_as_asked_for(env_id):
    pytest.importorskip("pybullet")
    with agent_trained_for(1000, env=env_id).make_env(0.3, (64, 48)) as env:
        env.reset(seed=0)
        assert env.unwrapped.ground_friction == 0.3
        assert env.render().shape == (48, 64, 3)


def test_so_it_is_on_mujoco():
    pytest.importorskip("mujoco")
    agent = agent_trained_for(1000, env="SlipperyAnt-v5", frictions=(0.5, 1.5), change_every=100)
    assert agent.grounds(()) == [0.5, 1.5]
    with agent.make_env(0.3, (64, 48)) as env:
        assert env.reset(seed=0)[1]["friction"] == 0.3 and set(env.unwrapped.model.geom_friction[:, 0]) == {0.3}
        assert (env.unwrapped.width, env.unwrapped.height, env.render_mode) == (64, 48, "rgb_array")


def test_playing_yields_the_start_and_the_moment_after_each_step(make_run):
    agent = TrainedAgent.load(make_run().path)
    with agent.make_env(None) as env:
        moments = list(agent.play(env, seed=2))
    # 2 + 2 % 3 = 4 steps of half a metre and reward 2; the fourth is truncated
    assert moments == [Moment(step, 2.0 * step, step / 2, False, step == 4) for step in range(5)]


def test_an_environment_that_tells_no_position_has_no_distance(make_run):
    agent = TrainedAgent.load(make_run("Pendulum-v1").path)
    with agent.make_env(None) as env:
        *_, end = agent.play(env, seed=0)
    assert (end.step, end.distance) == (200, None)


def test_the_policy_is_that_of_the_run(make_run):
    folder = make_run("Pendulum-v1", steps_trained=77)
    agent, model = TrainedAgent.load(folder.path), PPO.load(folder.model)
    observations = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    ours, theirs = (policy.predict(observations, deterministic=True)[0] for policy in (agent.policy, model))
    np.testing.assert_array_equal(ours, theirs)
    assert agent.steps_trained == 77


def test_diverged_weights_and_unreadable_figures_are_refused_by_name(make_run):
    folder = make_run()
    figures = folder.progress.read_text()
    folder.progress.write_text("time/total_timesteps\nmany\n")
    with pytest.raises(ValueError, match=r"progress.csv can't be read: .*'many'"):
        TrainedAgent.load(folder.path)
    folder.progress.write_text(figures)
    model = PPO.load(folder.model)
    with torch.no_grad():
        model.policy.action_net.weight[0, 0] = float("nan")
    model.save(folder.model)
    with pytest.raises(ValueError, match=r"model.zip is not the one that this run wrote"):
        TrainedAgent.load(folder.path)
    folder.write_ending(None)
    with pytest.raises(ValueError, match=r"model.zip holds weights that are not finite"):
        TrainedAgent.load(folder.path)
