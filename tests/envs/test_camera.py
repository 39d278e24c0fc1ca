"""Pictures: right shape, show the walker and the ground moving past, and leave the physics alone."""

import gymnasium as gym
import numpy as np
import pytest

import cppo_envs  # noqa: F401  registers the environments

pytest.importorskip("pybullet")


def make(width: int = 64, height: int = 48) -> gym.Env:
    return gym.make("FastAnt-v0", render_mode="rgb_array", width=width, height=height)


@pytest.mark.parametrize("environment_id", ["FastAnt-v0", "SlipperyAnt-v0"])
def test_default_picture_is_320_by_240(environment_id: str) -> None:
    env = gym.make(environment_id, render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert (picture.shape, picture.dtype) == ((240, 320, 3), np.uint8)
    env.close()


def test_size_can_be_chosen_and_the_torso_is_in_the_middle() -> None:
    env = make(width=100, height=60)
    env.reset(seed=0)
    picture = env.render().astype(int)
    assert picture.shape == (60, 100, 3)
    red_not_blue = np.argwhere(picture[..., 0] > picture[..., 2] + 60)
    assert np.abs(np.median(red_not_blue, axis=0) - (30, 50)).max() < 12
    env.close()


def test_the_camera_follows_and_the_ground_moves_past() -> None:
    env = make()
    env.reset(seed=0)
    walker = env.unwrapped
    before = env.render()
    camera = walker._camera
    ground_here, ground_there = camera._ground(0.0, 0.0), camera._ground(0.5, 0.0)
    ground_two_tiles_on = camera._ground(2.0, 0.0)
    # The chequered pattern repeats after two tiles of 1 m; the shadow, far behind then, is left out by the median.
    assert np.median(np.abs(ground_here - ground_two_tiles_on)) < 0.5 < np.abs(ground_here - ground_there).mean()
    env.step(np.ones(8, np.float32))
    assert (env.render() != before).any()
    env.close()


def test_rendering_leaves_the_physics_alone() -> None:
    watched, unwatched = make(), gym.make("FastAnt-v0")
    watched.reset(seed=0)
    unwatched.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(60):
        action = rng.uniform(-1, 1, 8).astype(np.float32)
        seen = watched.step(action)[0]
        watched.render()
        np.testing.assert_array_equal(seen, unwatched.step(action)[0])
    np.testing.assert_array_equal(watched.reset(seed=1)[0], unwatched.reset(seed=1)[0])
    watched.close()
    unwatched.close()


def test_frames_per_second_are_those_of_the_physics() -> None:
    env = make()
    assert env.metadata["render_fps"] == pytest.approx(1 / 0.0165)
    env.close()


def test_a_window_without_a_display_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(gym.error.DependencyNotInstalled, match="needs a display"):
        gym.make("FastAnt-v0", render_mode="human")


def test_an_unknown_render_mode_is_refused() -> None:
    with pytest.raises(ValueError, match='render_mode must be None, "human" or "rgb_array", got \'ansi\''):
        from cppo_envs.ant import FastAnt

        FastAnt(render_mode="ansi")
