"""SlipperyAnt-v0: the friction changes when it is due, and ``info`` says what the physics uses."""

import math
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import cppo_envs  # noqa: F401  registers the environments
from cppo_envs.friction import FrictionSchedule

pybullet = pytest.importorskip("pybullet")

from cppo_envs.slippery import ChangingFriction  # noqa: E402  needs pybullet

STILL = np.zeros(8, np.float32)


def friction_of_physics(env: gym.Env) -> float:
    walker = env.unwrapped
    return pybullet.getDynamicsInfo(walker._world.ground, -1, physicsClientId=walker._client)[1]


def play(env: gym.Env, episode_lengths: list[int]) -> list[list[int]]:
    """Phases that ``info`` reports: of each episode's reset, then of each of its steps."""
    reported = []
    for length in episode_lengths:
        _, info = env.reset(seed=0)
        infos = [info]
        assert info["friction"] == friction_of_physics(env)
        for _ in range(length):
            *_, info = env.step(STILL)
            assert info["friction"] == friction_of_physics(env)
            infos.append(info)
        reported.append([info["phase"] for info in infos])
    return reported


def make(**arguments: Any) -> gym.Env:
    return gym.make("SlipperyAnt-v0", **arguments)


def test_by_default_a_change_waits_for_the_next_episode() -> None:
    env = make(change_every=10)
    # The change is due after the 10th step, in the second episode; the third starts after 14 steps, the fourth after 18
    # (still phase 1, as 18 // 10 = 1) and the fifth after 23.
    assert play(env, [7, 7, 4, 5, 1]) == [[0] * 8, [0] * 8, [1] * 5, [1] * 6, [2] * 2]
    env.close()


def test_at_steps_a_change_comes_in_the_middle_of_an_episode() -> None:
    env = make(change_every=10, change_at="step")
    # Steps 1 to 10 are of phase 0, 11 to 20 of phase 1. The reset before step 1 and before step 8 is of phase 0.
    assert play(env, [7, 14]) == [[0] * 8, [0] * 4 + [1] * 10 + [2]]
    env.close()


def test_in_n_environments_the_change_comes_when_the_sum_of_their_steps_is_due() -> None:
    env = make(change_every=10, change_at="step", n_envs=4)
    # Before its own steps 1, 2, 3, 4, 5, 6 the four have together done 0, 4, 8, 12, 16, 20 steps.
    assert play(env, [6]) == [[0, 0, 0, 0, 1, 1, 2]]
    env.close()


def test_changes_that_fall_due_together_are_skipped_over() -> None:
    env = make(change_every=3, n_envs=4)
    # 2 own steps are 8 together: 8 // 3 = 2.
    assert play(env, [2, 1]) == [[0] * 3, [2] * 2]
    env.close()


@pytest.mark.parametrize("change_at", ["episode", "step"])
def test_frictions_are_those_of_the_schedule(change_at: str) -> None:
    env = make(change_every=5, friction_range=(0.01, 100), schedule_seed=11, change_at=change_at)
    schedule = FrictionSchedule(5, (0.01, 100), 11)
    for episode in range(4):
        _, info = env.reset()
        assert info["friction"] == schedule.friction(episode) == friction_of_physics(env)
        for _ in range(5):
            *_, info = env.step(STILL)
        assert info["friction"] == schedule.friction(episode) == friction_of_physics(env)
    env.close()


def test_frictions_by_hand_repeat() -> None:
    env = make(change_every=2, frictions=[0.8, 0.05, 3.0])
    seen = []
    for _ in range(4):
        _, info = env.reset()
        seen.append(info["friction"])
        env.step(STILL)
        env.step(STILL)
    assert seen == [0.8, 0.05, 3.0, 0.8]
    env.close()


@pytest.mark.parametrize("change_every", [None, math.inf])
def test_without_change_the_first_friction_stays(change_every: float | None) -> None:
    env = make(change_every=change_every, frictions=[0.3, 9.0], start_step=10**12)
    assert env.reset()[1]["friction"] == 0.3
    env.close()


def test_the_seed_of_reset_does_not_touch_the_schedule() -> None:
    env = make(change_every=1, schedule_seed=4)
    frictions = {env.reset(seed=seed)[1]["friction"] for seed in range(3)}
    assert frictions == {FrictionSchedule(seed=4).friction(0)}
    env.close()


@pytest.mark.parametrize("change_at", ["episode", "step"])
def test_a_continued_run_sees_the_same_sequence(change_at: str) -> None:
    whole, first = (make(change_every=5, change_at=change_at) for _ in range(2))
    expected = play(whole, [4, 4, 4, 4])
    begun = play(first, [4, 4])
    by_argument = make(change_every=5, change_at=change_at, start_step=first.get_wrapper_attr("steps_taken"))
    by_setter = make(change_every=5, change_at=change_at)
    by_setter.set_wrapper_attr("steps_taken", 8)
    assert begun + play(by_argument, [4, 4]) == begun + play(by_setter, [4, 4]) == expected
    for env in (whole, first, by_argument, by_setter):
        env.close()


def test_at_equal_friction_it_is_the_fast_ant() -> None:
    slippery, fast = make(frictions=[0.37]), gym.make("FastAnt-v0", ground_friction=0.37, model="merged")
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(slippery.reset(seed=1)[0], fast.reset(seed=1)[0])
    for _ in range(100):
        action = rng.uniform(-1, 1, 8).astype(np.float32)
        one, other = slippery.step(action), fast.step(action)
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:4] == other[1:4]
    slippery.close()
    fast.close()


def test_the_time_limit_truncates_and_does_not_terminate() -> None:
    env = gym.make("SlipperyAnt-v0", max_episode_steps=5)
    env.reset(seed=0)
    ends = [env.step(STILL)[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]
    env.close()


def test_works_in_a_vector_environment() -> None:
    vector = gym.make_vec("SlipperyAnt-v0", num_envs=2, change_every=4, n_envs=2, change_at="step")
    _, info = vector.reset(seed=0)
    for _ in range(3):
        *_, info = vector.step(np.zeros((2, 8), np.float32))
    # Before the third step both have done 2 steps, 4 together.
    assert info["phase"].tolist() == [1, 1]
    vector.close()


def test_the_spec_can_be_pickled_and_makes_the_same_environment() -> None:
    env = make(change_every=3, frictions=[0.2, 2.0], n_envs=2)
    twin = gym.make(pickle.loads(pickle.dumps(env.spec)))
    assert play(twin, [4, 4]) == play(env, [4, 4])
    env.close()
    twin.close()


class Skater(gym.Env):
    """Some other walker: all a schedule asks of it is ``ground_friction``."""

    observation_space = action_space = gym.spaces.Box(-1, 1, (1,))
    ground_friction = 1.0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.zeros(1, np.float32), self.ground_friction, False, False, {}


def test_any_walker_with_a_ground_friction_can_be_wrapped() -> None:
    env = ChangingFriction(Skater(), FrictionSchedule(change_every=1, frictions=[0.5, 0.25]), change_at="step")
    env.reset()
    assert [env.step(np.zeros(1))[1] for _ in range(3)] == [0.5, 0.25, 0.5]


def test_a_walker_without_ground_friction_is_refused() -> None:
    with pytest.raises(TypeError, match="settable ground_friction or a MuJoCo model, which CartPoleEnv has not"):
        ChangingFriction(gym.make("CartPole-v1"), FrictionSchedule())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"change_every": -1}, ValueError, "change_every must be a whole number of at least 1, got -1"),
        ({"friction_range": (0, 1)}, ValueError, "friction_range's bounds must be a finite number above 0, got 0"),
        ({"friction_range": (2, 1)}, ValueError, r"0 < low <= high, got \(2, 1\)"),
        ({"schedule_seed": -3}, ValueError, "schedule seed must be a whole number of at least 0, got -3"),
        ({"frictions": []}, ValueError, "frictions must be a non-empty sequence"),
        ({"change_at": "reset"}, ValueError, 'change_at must be "episode" or "step", got \'reset\''),
        ({"n_envs": 0}, ValueError, "n_envs must be a whole number of at least 1, got 0"),
        ({"n_envs": True}, TypeError, "n_envs must be a whole number of at least 1, got True"),
        ({"start_step": -1}, ValueError, "start_step must be a whole number of at least 0, got -1"),
        ({"no_such_argument": 1}, TypeError, "no_such_argument"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(**arguments)
