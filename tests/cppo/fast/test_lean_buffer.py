"""The buffer of runs: stable-baselines3's, bit for bit."""

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from cppo.fast.lean_buffer import LeanRolloutBuffer

HELD = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs", "advantages", "returns")


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("env", ["Pendulum-v1", "CartPole-v1", "FrozenLake-v1"])
def test_it_holds_the_same(env: str, n_envs: int) -> None:
    buffers = []
    for kind in (None, LeanRolloutBuffer):
        model = PPO("MlpPolicy", make_vec_env(env, n_envs), n_steps=40, seed=0, rollout_buffer_class=kind)
        _, callback = model._setup_learn(40 * n_envs)
        for _ in range(2):
            assert model.collect_rollouts(model.env, callback, model.rollout_buffer, 40)
        buffers.append(model.rollout_buffer)
    theirs, ours = buffers
    assert type(ours) is LeanRolloutBuffer and ours.full
    for name in HELD:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype


def test_later_changes_of_what_was_added_do_not_reach_it() -> None:
    model = PPO("MlpPolicy", "Pendulum-v1", n_steps=4, rollout_buffer_class=LeanRolloutBuffer)
    buffer = model.rollout_buffer
    obs, action, reward = np.ones((1, 3), np.float32), np.ones((1, 1), np.float32), np.ones(1, np.float32)
    _, value, log_prob = model.policy(model.policy.obs_to_tensor(obs)[0])
    value, log_prob = value.detach(), log_prob.detach()
    before = value.item()
    buffer.add(obs, action, reward, np.zeros(1), value, log_prob)
    for array in (obs, action, reward):
        array += 1
    value += 1
    assert (buffer.observations[0] == 1).all() and (buffer.actions[0] == 1).all() and (buffer.rewards[0] == 1).all()
    assert buffer.values[0] == np.float32(before)
