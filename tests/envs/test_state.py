"""A walker's state, taken in the middle of an episode, continues in another walker to the last bit."""

import json

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("pybullet")

from cppo_envs.ant import FastAnt
from cppo_envs.friction import FrictionSchedule
from cppo_envs.slippery import ChangingFriction

BACK_AND_FORTH = FrictionSchedule(change_every=60, frictions=[0.8, 0.05, 2.0])


def walk(env: gym.Env, actions: np.ndarray) -> None:
    for action in actions:
        if env.step(action)[2]:
            env.reset()


def trace(env: gym.Env, actions: np.ndarray) -> list:
    """Everything that steps, and resets after a fall and half-way, return."""
    seen = []
    for number, action in enumerate(actions):
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append((observation.tolist(), reward, terminated, truncated, info))
        if terminated or number == len(actions) // 2:
            observation, info = env.reset()
            seen.append((observation.tolist(), info))
    return seen


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("friction", "model"), [(0.02, "original"), (0.8, "original"), (0.8, "merged")])
def test_a_walker_goes_on_to_the_last_bit(seed, friction, model):
    rng = np.random.default_rng(seed)
    with FastAnt(ground_friction=friction, model=model) as walker, FastAnt(model=model) as other:
        walker.reset(seed=seed)
        walk(walker, rng.uniform(-1, 1, (int(rng.integers(0, 150)), 8)))
        other.reset(seed=99)
        walk(other, rng.uniform(-1, 1, (10, 8)))
        other.load_state_dict(walker.state_dict())
        actions = rng.uniform(-1, 1, (200, 8)).astype(np.float32)
        assert trace(other, actions) == trace(walker, actions)
        assert other.ground_friction == friction


def test_saving_changes_nothing():
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 8)).astype(np.float32)
    with FastAnt() as walker, FastAnt() as other:
        walker.reset(seed=0)
        other.reset(seed=0)
        for action in actions:
            walker.state_dict()
            assert np.array_equal(walker.step(action)[0], other.step(action)[0])


def test_a_state_is_plain_values_and_arrays():
    with FastAnt() as walker:
        walker.reset(seed=0)
        state = walker.state_dict()
    world = state.pop("world")
    assert world.dtype == np.uint8 and world.tobytes().startswith(b"BULLET")
    assert json.loads(json.dumps(state)) == state


def test_something_else_than_a_state_is_refused():
    with FastAnt() as walker:
        walker.reset(seed=0)
        state = walker.state_dict() | {"world": np.zeros(100, np.uint8)}
        with pytest.raises(ValueError, match="not the state of a world"):
            walker.load_state_dict(state)


@pytest.mark.parametrize("change_at", ["episode", "step"])
def test_the_frictions_go_on(change_at):
    """Saved at step 100, in the phase of steps 60 to 119."""
    actions = np.random.default_rng(1).uniform(-1, 1, (100, 8)).astype(np.float32)
    with (
        ChangingFriction(FastAnt(), BACK_AND_FORTH, change_at) as env,
        ChangingFriction(FastAnt(), BACK_AND_FORTH, change_at) as other,
    ):
        env.reset(seed=0)
        walk(env, actions)
        for part, its_own in ((other.unwrapped, env.unwrapped.state_dict()), (other, env.state_dict())):
            part.load_state_dict(its_own)
        expected = trace(env, actions)
        assert trace(other, actions) == expected
        assert len({each[-1]["phase"] for each in expected}) > 1
