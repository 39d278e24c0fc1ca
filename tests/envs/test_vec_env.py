"""Walkers stepped together in one process: bit for bit what stable-baselines3 makes of single ones."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

import cppo_envs  # noqa: F401  registers the environments

pytest.importorskip("pybullet")

from cppo_envs.ant import FastAnt
from cppo_envs.vec_env import WalkerVecEnv

SLIPPERY = partial(gym.make, "SlipperyAnt-v0", max_episode_steps=25, change_every=50, n_envs=3)
KINDS = {
    "slippery, at episodes": partial(SLIPPERY, frictions=[0.8, 0.05, 2.0]),
    "slippery, at steps": partial(SLIPPERY, frictions=[0.8, 0.05, 2.0], change_at="step"),
    "fast": partial(gym.make, "FastAnt-v0", max_episode_steps=40),
    "without wrappers": FastAnt,
}


def without_time(info: dict[str, Any]) -> dict[str, Any]:
    """An info whose episode statistics have no wall clock, and whose arrays can be compared."""
    plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in info.items()}
    if "episode" in plain:
        plain["episode"] = {key: value for key, value in plain["episode"].items() if key != "t"}
    return plain


@pytest.mark.parametrize("kind", KINDS)
def test_equals_single_environments_bit_for_bit(kind: str) -> None:
    theirs, ours = (VecMonitor(vec_env([KINDS[kind]] * 3)) for vec_env in (DummyVecEnv, WalkerVecEnv))
    rng = np.random.default_rng(0)
    assert theirs.seed(5) == ours.seed(5)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    ends = []
    for _ in range(120):
        actions = rng.uniform(-1.5, 1.5, (3, 8)).astype(np.float32)
        actions[0] = 0  # the first ant drops onto its belly
        expected, got = theirs.step(actions), ours.step(actions)
        for one, other in zip(got[:3], expected[:3], strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        assert list(map(without_time, got[3])) == list(map(without_time, expected[3]))
        assert ours.reset_infos == theirs.reset_infos
        ends += [info["TimeLimit.truncated"] for info, done in zip(got[3], got[2], strict=True) if done]
    assert False in ends and (True in ends) == (kind != "without wrappers")
    if kind.startswith("slippery"):
        assert ours.get_attr("phase") == theirs.get_attr("phase") != [0, 0, 0]
        assert ours.get_attr("steps_taken") == theirs.get_attr("steps_taken") == [120] * 3
    theirs.close()
    ours.close()


def test_environments_stepped_by_themselves_in_between_go_on_where_they_are() -> None:
    make = partial(SLIPPERY, change_at="step", change_every=12, max_episode_steps=8)
    ours, theirs = WalkerVecEnv([make] * 2), make()
    ours.seed(3)
    ours.reset()
    theirs.reset(seed=4)
    still = np.zeros((2, 8), np.float32)
    for step in range(7):
        expected = theirs.step(still[1])
        if step % 2:
            observation = ours.step(still)[0][1]
        else:
            ((observation, *_),) = ours.env_method("step", still[1], indices=[1])
        np.testing.assert_array_equal(observation, expected[0])
    _, _, _, truncated, _ = theirs.step(still[1])  # its 8th step, as it is of ours
    assert truncated and ours.step(still)[2].tolist() == [False, True]
    theirs.close()
    ours.close()


def test_what_a_step_returns_stays_as_it_is() -> None:
    env = WalkerVecEnv([FastAnt] * 2)
    env.reset()
    actions = np.ones((2, 8), np.float32)
    returned = env.step(actions)
    before = [np.copy(part) for part in returned[:3]], [dict(info) for info in returned[3]]
    env.step(-actions)
    for part, copy in zip(returned[:3], before[0], strict=True):
        np.testing.assert_array_equal(part, copy)
    assert returned[3] == before[1]
    env.close()


def test_a_step_before_the_first_reset_is_refused() -> None:
    env = WalkerVecEnv([KINDS["fast"]])
    with pytest.raises(ResetNeeded, match="reset the environments before the first step"):
        env.step(np.zeros((1, 8), np.float32))
    env.close()


class Unknown(gym.Wrapper):
    pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TimeLimit(Unknown(FastAnt()), 5), "the walker wears Unknown"),
        (partial(gym.make, "Pendulum-v1"), "must be FastAnt-v0 or SlipperyAnt-v0, got PendulumEnv|wears"),
    ],
)
def test_what_it_cannot_step_is_named(make, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        WalkerVecEnv([make])
