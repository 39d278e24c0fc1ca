"""What a run tells while it trains."""

import math

import gymnasium as gym
import pytest
from gymnasium.envs.registration import register, registry
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from cppo.settings.settings import Settings
from cppo.training import progress as progress_module
from cppo.training.environments import make_vec_env
from cppo.training.progress import PhaseReturns, Progress
from cppo_envs.changing import Changing


def learn(env_id: str, progress: Progress, steps: int = 40, n_envs: int = 1, **callbacks: BaseCallback) -> PPO:
    """Train with rollouts of 8 steps of each environment."""
    env = make_vec_env(Settings(env=env_id, n_envs=n_envs).resolved())
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, n_epochs=1, policy_kwargs={"net_arch": [4]}, device="cpu")
    model.learn(steps, callback=CallbackList([progress, *callbacks.values()]))
    progress.close()
    return model


class Logged(BaseCallback):
    """Keeps what the logger holds at each update."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict] = []

    def _on_rollout_end(self) -> None:
        self.rows.append(dict(self.logger.name_to_value))

    def _on_step(self) -> bool:
        return True


def test_returns_of_a_phase_are_averaged_over_its_last_episodes():
    """Of the returns 0, 1, ..., 149 the last hundred are 50 to 149, their mean 99.5."""
    phase = PhaseReturns(2, 0.123456)
    assert math.isnan(phase.mean)
    phase.returns.extend(map(float, range(150)))
    assert phase.mean == 99.5
    assert str(phase) == "phase 2, friction 0.1235: return 99.5 (mean of the last 100 episodes)"


def test_a_phase_without_a_finished_episode_says_so():
    assert str(PhaseReturns(1, 0.5)) == "phase 1, friction 0.5: no episode has ended"
    assert str(PhaseReturns(None, None)) == "no episode has ended"


def test_whatever_changes_is_told_by_its_name_and_logged():
    """On a phase of 16 steps, two updates of 8."""
    pytest.importorskip("mujoco")
    register(
        "Lighter-v0",
        lambda: Changing(gym.make("Hopper-v5"), {"change_every": 16, "values": [9.81, 3.7]}, property="gravity"),
    )
    progress, logged = Progress(bar=False), Logged()
    try:
        learn("Lighter-v0", progress, steps=16, logged=logged)
    finally:
        del registry["Lighter-v0"]
    assert str(progress.phases[0]).startswith("phase 0, gravity 9.81: ")
    assert [row["environment/gravity"] for row in logged.rows] == [9.81, 9.81]
    again = Progress(bar=False)
    again.load_state_dict(progress.state_dict())
    assert again.phases == progress.phases


def test_returns_are_kept_by_phase(scripted):
    """Episodes of 4 steps, a phase of 10: phase 0 holds those that start at steps 0, 4, 8, phase 1 those at 12, 16,
    and so on; 40 steps are 10 episodes: 3 + 2 + 3 + 2."""
    progress = Progress(bar=False)
    learn(scripted(lengths=(4,), phase_steps=10), progress)
    assert [(seen.phase, seen.friction, list(seen.returns)) for seen in progress.phases] == [
        (0, 0.5, [4.0] * 3),
        (1, 1.5, [4.0] * 2),
        (2, 2.5, [4.0] * 3),
        (3, 3.5, [4.0] * 2),
    ]


def test_environments_that_change_at_different_times_share_a_phase(scripted):
    """A phase of 10 steps. One environment's episodes of 4 steps start phase 1 at step 12, the other's of 7 at step 14:
    in between, both phases are at work. Each is listed once, with the episodes of both: 16 steps are 4 and 2 episodes,
    all of phase 0 but the one of 4 steps from step 12 on."""
    progress = Progress(bar=False)
    learn(scripted(lengths=(4, 7), phase_steps=10), progress, steps=32, n_envs=2)
    assert [(seen.phase, sorted(seen.returns)) for seen in progress.phases] == [
        (0, [4.0, 4.0, 4.0, 7.0, 7.0]),
        (1, [4.0]),
    ]


def test_friction_and_phase_are_logged_with_each_update(scripted):
    """Updates after 8, 16, 24, 32, 40 steps; of the episodes of 4 steps, phases 1, 2, 3 start at 12, 20, 32.

    Step 32 itself is still of phase 2."""
    logged = Logged()
    learn(scripted(lengths=(4,), phase_steps=10), Progress(bar=False), logged=logged)
    assert [row["environment/phase"] for row in logged.rows] == [0, 1, 2, 2, 3]
    assert [row["environment/friction"] for row in logged.rows] == [0.5, 1.5, 2.5, 2.5, 3.5]


def test_each_update_logs_the_returns_of_the_present_phase_that_ended_in_its_rollout(scripted):
    """Rollouts of 8 steps, phases due every 10: episodes of 4 steps end at 4, 8 (phase 0), 12 (0), 16 (1), 20 (1),
    24 (2), 28 (2), 32 (2), 36 (3), 40 (3). The one ending at 12 is of the phase before that of its update, and so
    is the one at 20: they aren't counted to a phase that isn't theirs."""
    logged = Logged()
    learn(scripted(lengths=(4,), phase_steps=10), Progress(bar=False), logged=logged)
    assert [row["episodes/ended"] for row in logged.rows] == [2, 1, 1, 2, 2]
    assert [row["episodes/return"] for row in logged.rows] == [4.0] * 5
    assert [row["environment/phases_met"] for row in logged.rows] == ["0", "1", "2", "", "3"]


def test_an_update_without_an_ended_episode_logs_no_return(scripted):
    logged = Logged()
    learn(scripted(lengths=(12,)), Progress(bar=False), steps=16, logged=logged)
    assert [row["episodes/ended"] for row in logged.rows] == [0, 1]
    assert [row.get("episodes/return") for row in logged.rows] == [None, 12.0]


def test_how_far_the_same_episodes_came_is_logged_where_the_environment_tells(scripted):
    logged = Logged()
    learn(scripted(lengths=(4, 12), speed=0.5), Progress(bar=False), steps=32, n_envs=2, logged=logged)
    assert [row["episodes/distance"] for row in logged.rows] == [2.0, (2 * 2 + 6) / 3]


def test_a_phase_shorter_than_an_episode_is_not_met(scripted):
    """Phases of 2 steps: an episode of 4 starts in every second one."""
    logged = Logged()
    learn(scripted(lengths=(4,), phase_steps=2), Progress(bar=False), steps=16, logged=logged)
    assert [row["environment/phases_met"] for row in logged.rows] == ["0 2", "4 6"]


def test_an_environment_without_phases_logs_none(scripted):
    logged, progress = Logged(), Progress(bar=False)
    learn(scripted(), progress, steps=16, logged=logged)
    assert not [key for row in logged.rows for key in row if key.startswith("environment/")]
    assert [(seen.phase, list(seen.returns)) for seen in progress.phases] == [(None, [4.0] * 4)]


def test_plain_lines_tell_steps_speed_friction_and_return(scripted, monkeypatch, capsys):
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_LINES", 0.0)
    learn(scripted(lengths=(4,), phase_steps=10), Progress(), steps=16)  # stderr is no terminal in a test
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("8 of 16 steps, ") and "/s, phase 0, friction 0.5: return 4.0 (mean of" in lines[0]
    assert lines[1].startswith("16 of 16 steps, ") and "phase 1, friction 1.5" in lines[1]


def test_plain_lines_come_seconds_apart(scripted, capsys):
    learn(scripted(), Progress(), steps=40)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_gets_a_bar(scripted, monkeypatch, capsys, is_terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal, raising=False)
    learn(scripted(lengths=(4,), phase_steps=10), Progress(), steps=16)
    shown = capsys.readouterr().err
    assert ("16.0/16.0" in shown and "phase 1, friction 1.5: return 4.0" in shown) is is_terminal
    assert ("%|" in shown) is is_terminal
