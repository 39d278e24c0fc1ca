"""What users type next, of stable-baselines3's and gymnasium's own helpers, works with what the set-up installs."""

import gymnasium as gym
import pytest
from gymnasium.wrappers import RecordVideo

from cppo import CPPO


def test_learning_shows_a_progress_bar(capsys):
    model = CPPO("MlpPolicy", "Pendulum-v1", n_steps=32, batch_size=32, n_epochs=1, policy_kwargs={"net_arch": [8]})
    model.learn(64, progress_bar=True)
    assert "64/64" in "".join(capsys.readouterr())


def test_gymnasium_records_the_ant(tmp_path):
    pytest.importorskip("pybullet")
    env = RecordVideo(
        gym.make("SlipperyAnt-v0", render_mode="rgb_array", width=64, height=48, max_episode_steps=5), str(tmp_path)
    )
    env.reset(seed=0)
    for _ in range(5):
        env.step(env.action_space.sample())
    env.close()
    (film,) = tmp_path.glob("*.mp4")
    assert film.stat().st_size > 500
