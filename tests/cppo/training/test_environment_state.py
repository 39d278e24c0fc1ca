"""Where environments are in their episodes is taken down, wrappers included, or None is the answer."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecMonitor, VecNormalize

from cppo.runs.checkpoints import pack, unpack
from cppo.training.environment_state import environment_state, restore_environment


class Counting(gym.Env):
    """Observes how many steps it has taken in all; episodes have 7."""

    observation_space = gym.spaces.Box(-1e6, 1e6, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self.steps = self.left = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 7
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        self.left -= 1
        return self.observe(), float(self.steps), self.left == 0, False, {}

    def observe(self):
        return np.array([self.steps], np.float32)

    def state_dict(self):
        return {"steps": self.steps, "left": self.left}

    def load_state_dict(self, state):
        vars(self).update(state)


class Forgetful(gym.Env):
    """An environment without a word about its state."""

    observation_space, action_space = Counting.observation_space, Counting.action_space


def limited():
    return gym.wrappers.TimeLimit(gym.wrappers.OrderEnforcing(Counting()), max_episode_steps=5)


def make(normalize: bool) -> VecMonitor | VecNormalize:
    env = VecMonitor(DummyVecEnv([limited, Counting]))
    return VecNormalize(env) if normalize else env


def steps(env, count: int) -> list:
    return [[each.tolist() for each in env.step([0, 0])[:3]] for _ in range(count)]


@pytest.mark.parametrize("normalize", [False, True])
def test_environments_and_wrappers_continue(normalize):
    """After 3 steps: the first is truncated after 2 more, by its wrapper; the running means have seen 3 x 2."""
    env, other = make(normalize), make(normalize)
    env.reset()
    steps(env, 3)
    other.reset()
    steps(other, 6)
    restore_environment(other, unpack(pack(environment_state(env))))
    expected = steps(env, 12)
    assert steps(other, 12) == expected
    assert expected[1][2] == [True, False] and expected[3][2] == [False, True]
    monitors = [each.venv if normalize else each for each in (env, other)]
    assert monitors[0].episode_count == monitors[1].episode_count > 0


def test_an_environment_that_says_nothing_has_no_state():
    assert environment_state(Forgetful()) is None
    assert environment_state(DummyVecEnv([Counting, Forgetful])) is None


def test_an_unknown_wrapper_may_have_a_memory():
    """A wrapper that delays observations, say, would continue wrongly."""
    assert environment_state(gym.wrappers.DelayObservation(Counting(), 2)) is None

    class Unknown(VecEnvWrapper):
        def reset(self):
            return self.venv.reset()

        def step_wait(self):
            return self.venv.step_wait()

    assert environment_state(Unknown(DummyVecEnv([Counting]))) is None


def test_a_whole_vec_env_may_tell_its_own_state():
    class Merged(DummyVecEnv):
        def state_dict(self):
            return {"world": np.arange(3)}

        def load_state_dict(self, state):
            self.world = state["world"]

    env = VecMonitor(Merged([Forgetful]))
    state = environment_state(env)
    restore_environment(env, state)
    assert env.venv.world.tolist() == [0, 1, 2]
