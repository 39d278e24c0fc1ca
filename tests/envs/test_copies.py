"""A copied or unpickled ant is an ant of its own, in the same state."""

import copy
import gc
import multiprocessing
import pickle
from collections.abc import Callable
from functools import partial

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

pybullet = pytest.importorskip("pybullet")

from cppo_envs.ant import FastAnt  # noqa: E402  needs pybullet
from cppo_envs.vec_env import WalkerVecEnv  # noqa: E402

SLIPPERY = partial(gym.make, "SlipperyAnt-v0", change_every=40, frictions=[0.8, 0.05, 2.0], max_episode_steps=50)
KINDS = {
    "fast": partial(gym.make, "FastAnt-v0"),
    "merged, by hand": partial(FastAnt, ground_friction=0.3, model="merged"),
    "slippery, at episodes": SLIPPERY,
    "slippery, at steps": partial(SLIPPERY, change_at="step"),
    "in a wrapper": lambda: RecordEpisodeStatistics(SLIPPERY()),
}
COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
    "cloudpickle": lambda env: pickle.loads(cloudpickle.dumps(env)),
}
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (90, 8)).astype(np.float32)


def play(env: gym.Env, actions: np.ndarray) -> list:
    """Everything that steps and resets return, but for the wall clock."""
    seen = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        info.pop("episode", None)
        seen.append((observation.tolist(), reward, terminated, truncated, info))
        if terminated or truncated:
            observation, info = env.reset()
            seen.append((observation.tolist(), info))
    return seen


def in_middle(make: Callable[[], gym.Env]) -> gym.Env:
    env = make()
    env.reset(seed=3)
    play(env, ACTIONS[:45])
    return env


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_goes_on_to_the_last_bit_and_alone(kind: str, how: str) -> None:
    env = in_middle(KINDS[kind])
    twin = COPIES[how](env)
    other = COPIES[how](twin)
    assert len({each.unwrapped._client for each in (env, twin, other)}) == 3
    expected = play(twin, ACTIONS)
    assert play(env, ACTIONS) == expected
    twin.close()
    env.close()
    assert play(other, ACTIONS) == expected
    other.close()


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_made_before_the_first_reset(how: str) -> None:
    env = SLIPPERY()
    twin = COPIES[how](env)
    np.testing.assert_array_equal(twin.reset(seed=1)[0], env.reset(seed=1)[0])
    assert play(twin, ACTIONS) == play(env, ACTIONS)
    assert twin.spec == env.spec
    env.close()
    twin.close()


def test_action_spaces_draw_on_alike() -> None:
    with FastAnt() as ant:
        ant.action_space.seed(2)
        ant.action_space.sample()
        with copy.deepcopy(ant) as twin:
            np.testing.assert_array_equal(twin.action_space.sample(), ant.action_space.sample())


def test_forgetting_a_copy_leaves_the_ant_alone() -> None:
    with FastAnt() as ant:
        ant.reset(seed=0)
        twin = copy.deepcopy(ant)
        assert pybullet.getConnectionInfo(twin._client)["isConnected"]
        client = twin._client
        del twin
        gc.collect()
        assert not pybullet.getConnectionInfo(client)["isConnected"]
        ant.step(ACTIONS[0])


def test_a_closed_ant_does_not_drive_the_one_that_got_its_client() -> None:
    closed = FastAnt()
    closed.reset(seed=0)
    client = closed._client
    closed.close()
    with FastAnt() as ant:
        assert ant._client == client
        ant.reset(seed=0)
        state = ant.state_dict()["world"]
        for each in (closed, copy.deepcopy(closed)):
            for use in (lambda ant=each: ant.step(ACTIONS[0]), each.reset):
                with pytest.raises(pybullet.error, match="Not connected"):
                    use()
        np.testing.assert_array_equal(ant.state_dict()["world"], state)


def test_pictures_of_a_copy_are_its_own() -> None:
    env = in_middle(partial(gym.make, "SlipperyAnt-v0", render_mode="rgb_array", width=64, height=48))
    before = env.render()
    twin = copy.deepcopy(env)
    # Bullet works the links' places out anew, which shifts a shadow's edge by rounding.
    np.testing.assert_allclose(twin.render().astype(int), before, atol=1)
    play(twin, ACTIONS[:10])
    assert (twin.render() != before).any()
    np.testing.assert_array_equal(env.render(), before)
    env.close()
    twin.close()


def test_a_world_alone_is_not_copied() -> None:
    with FastAnt() as ant, pytest.raises(TypeError, match="its walker can"):
        copy.copy(ant._world)


def answer(pipe, pickled: bytes) -> None:
    """Play a copy beside an ant of this process, and say what either of them saw."""
    mine = in_middle(KINDS["fast"])
    theirs = pickle.loads(pickled)
    pipe.send((play(theirs, ACTIONS), play(mine, ACTIONS)))


def test_in_another_process_a_copy_drives_nobody_elses_ant() -> None:
    """The module of a test can't be imported there, so the child is forked; it opens clients of its own numbers."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork")
    env, alone = in_middle(SLIPPERY), in_middle(KINDS["fast"])
    pickled, context = pickle.dumps(env), multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=answer, args=(theirs, pickled))
    process.start()
    assert ours.recv() == (play(env, ACTIONS), play(alone, ACTIONS))
    process.join()
    env.close()
    alone.close()


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_made_environments_go_to_workers(start_method: str) -> None:
    env = in_middle(KINDS["slippery, at steps"])
    envs = SubprocVecEnv([lambda: env], start_method=start_method)
    for action in ACTIONS[:4]:
        observations, rewards, _, infos = envs.step(action[None])
        observation, reward, *_, info = env.step(action)
        np.testing.assert_array_equal(observations[0], observation)
        assert (rewards[0], infos[0]["phase"]) == (reward, info["phase"])
    envs.close()
    env.step(ACTIONS[0])
    env.close()


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", [DummyVecEnv, WalkerVecEnv])
def test_environments_of_one_process_are_copied_together(kind: type[DummyVecEnv], how: str) -> None:
    envs = kind([SLIPPERY, KINDS["fast"]])
    envs.seed(0)
    envs.reset()
    actions = np.random.default_rng(1).uniform(-1, 1, (60, 2, 8)).astype(np.float32)
    for each in actions[:20]:
        envs.step(each)
    twins = COPIES[how](envs)
    seen = [[[part.tolist() for part in copied.step(each)[:3]] for each in actions] for copied in (envs, twins)]
    assert seen[0] == seen[1]
    twins.close()
    envs.step(actions[0])
    envs.close()
