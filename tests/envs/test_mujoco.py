"""Walkers on MuJoCo whose friction changes: gymnasium's to the last bit, and all of it in the state."""

import copy
import json
import pickle
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.vec_env import DummyVecEnv

import cppo_envs
from cppo.training.environment_state import environment_state, restore_environment
from cppo_envs.changing import Changing
from cppo_envs.friction import FrictionSchedule, Schedule
from cppo_envs.vec_env import WalkerVecEnv

mujoco = pytest.importorskip("mujoco")

WALKERS = ("Ant", "HalfCheetah", "Hopper", "Humanoid", "Walker2d")
IDS = ("SlipperyAnt-v3", *(f"Slippery{walker}-v5" for walker in WALKERS))


def plain(value: Any) -> Any:
    """A value, or what is nested, with its arrays as lists, so that == compares it."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def actions_for(env: gym.Env, count: int, seed: int = 0) -> np.ndarray:
    box = env.action_space
    return np.random.default_rng(seed).uniform(box.low, box.high, (count, *box.shape)).astype(np.float32)


def trace(env: gym.Env, actions: np.ndarray, without: tuple[str, ...] = ()) -> list:
    """Everything that steps and resets return, without these entries of the infos."""
    seen = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        left = {key: value for key, value in info.items() if key not in without}
        seen.append(plain((observation, float(reward), bool(terminated), truncated, left)))
        if terminated or truncated:
            seen.append(plain(env.reset()[0]))
    return seen


def own_friction(model: Any) -> np.ndarray:
    return np.concatenate([model.geom_friction[:, 0], model.pair_friction[:, :2].ravel()])


@pytest.mark.parametrize("environment_id", IDS)
def test_it_passes_gymnasiums_checker(environment_id: str) -> None:
    with gym.make(environment_id) as env:
        check_env(env.unwrapped, skip_render_check=True)
        assert env.reset(seed=0)[1]["phase"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"include_cfrc_ext_in_observation": False, "exclude_current_positions_from_observation": False},
        {"contact_force_range": (-0.1, 0.2), "healthy_z_range": (0.4, 0.9), "frame_skip": 2, "ctrl_cost_weight": 0.1},
        {"terminate_when_unhealthy": False},
    ],
)
def test_the_ant_is_gymnasiums_to_the_last_bit(arguments: dict[str, Any]) -> None:
    ours = gym.make("SlipperyAnt-v5", frictions=[1.0], max_episode_steps=150, **arguments)
    theirs = gym.make("Ant-v5", max_episode_steps=150, **arguments)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    assert plain(ours.reset(seed=3)[0]) == plain(theirs.reset(seed=3)[0])
    actions = actions_for(ours, 300)
    assert trace(ours, actions, ("friction", "phase")) == trace(theirs, actions)


def test_speeds_that_are_not_finite_end_an_episode_and_large_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with gym.make("SlipperyAnt-v5") as env:
        ant = env.unwrapped
        monkeypatch.setattr("mujoco.mj_step", lambda model, data, nstep: None)
        for speed, ends in ((1.0, False), (1e308, False), (np.nan, True), (np.inf, True)):
            env.reset(seed=0)
            ant.data.qvel[:] = speed
            with np.errstate(over="ignore", invalid="ignore"):
                assert ant.step(np.zeros(8, np.float32))[2] is ends


def test_an_action_of_another_shape_is_refused() -> None:
    with gym.make("SlipperyAnt-v5") as env:
        env.reset(seed=0)
        with pytest.raises(ValueError, match=r"shape \(8,\), got \(3,\)"):
            env.step(np.zeros(3))


def test_the_friction_is_that_of_the_published_model(tmp_path: Path) -> None:
    """There the friction is written into the model's default geom before it is loaded."""
    with gym.make("SlipperyAnt-v5", frictions=[0.37]) as env:
        model = env.unwrapped.model
        tree = ET.parse(env.unwrapped.fullpath)
        tree.find("default/geom").set("friction", "0.37 0.5 0.5")
        tree.write(tmp_path / "ant.xml")
        published = mujoco.MjModel.from_xml_path(str(tmp_path / "ant.xml"))
        np.testing.assert_array_equal(model.geom_friction, published.geom_friction)
        env.reset(seed=0)
        for _ in range(30):
            env.step(np.zeros(8, np.float32))
        touching = env.unwrapped.data.contact.friction
        assert len(touching) and {tuple(each) for each in touching.tolist()} == {(0.37, 0.37, 0.5, 0.5, 0.5)}


@pytest.mark.parametrize("environment_id", IDS)
def test_all_geoms_have_the_friction_that_info_tells(environment_id: str) -> None:
    make = partial(gym.make, environment_id, change_every=6, n_envs=2, change_at="step", terminate_when_unhealthy=False)
    if "Cheetah" in environment_id:  # it can't fall
        make = partial(gym.make, environment_id, change_every=6, n_envs=2, change_at="step")
    schedule = FrictionSchedule(6, (0.02, 2.0))
    with make() as env:
        model = env.unwrapped.model
        rest = model.geom_friction[:, 1:].copy()
        env.reset(seed=0)
        for step in range(9):
            info = env.step(env.action_space.sample())[4]
            assert (info["phase"], info["friction"]) == (step * 2 // 6, schedule.friction(step * 2 // 6))
            assert set(own_friction(model)) == {info["friction"]}
        np.testing.assert_array_equal(model.geom_friction[:, 1:], rest)


def test_a_change_waits_for_the_episode() -> None:
    with gym.make("SlipperyHopper-v5", change_every=5, frictions=[1, 0.1]) as env:
        env.reset(seed=0)
        told = [env.step(np.zeros(3, np.float32))[4]["friction"] for _ in range(7)]
        assert told == [1.0] * 7 and env.reset()[1]["friction"] == 0.1


def test_the_published_ant() -> None:
    """Ant-v3 of gym 0.23: 27 numbers and the contact forces, all 0, of 14 bodies; paid for the step of its fall."""
    published, today = (gym.make(f"SlipperyAnt-v{version}", frictions=[1.0]) for version in (3, 5))
    observation, _ = published.reset(seed=0)
    np.testing.assert_array_equal(observation[:27], today.reset(seed=0)[0][:27])
    assert observation.shape == published.observation_space.shape == (27 + 14 * 6,)
    paid = {False: 1.0, True: 0.0}
    for action in actions_for(today, 400, seed=5):
        (seen, reward, terminated, _, info), (_, other, fallen, _, of_today) = (
            e.step(action) for e in (published, today)
        )
        assert not seen[27:].any() and info["reward_contact"] == 0 and info["reward_survive"] == 1
        assert terminated == fallen and of_today["reward_survive"] == paid[fallen]
        assert reward == pytest.approx(other - of_today["reward_contact"] + fallen, abs=1e-12)
        if terminated:
            break
    assert terminated
    with gym.make("SlipperyAnt-v3", contact_force_range=(-1.0, 1.0)) as env:
        env.reset(seed=0)
        forces = [env.step(action)[0][27:] for action in actions_for(env, 20)]
        assert np.any(forces)


# -- other properties


@pytest.mark.parametrize(
    ("name", "field", "of_the_own"),
    [("gear", "actuator_gear", 1), ("stiffness", "jnt_stiffness", 1), ("damping", "dof_damping", 1)],
)
def test_properties_in_multiples_of_the_models_own(name: str, field: str, of_the_own: float) -> None:
    base = gym.make("HalfCheetah-v5")
    own = getattr(base.unwrapped.model, field).copy()
    env = Changing(base, property=name, schedule=Schedule(change_every=4, values=[1, 0.25]), change_at="step")
    told = [env.reset(seed=0)[1][name]]
    for action in actions_for(env, 5):
        told.append(env.step(action)[4][name])
        np.testing.assert_array_equal(getattr(base.unwrapped.model, field), own * told[-1])
    assert told == [1, 1, 1, 1, 1, 0.25]
    env.close()


def test_gravity_points_down_and_a_cheetah_falls_as_it_says() -> None:
    env = Changing(gym.make("HalfCheetah-v5"), property="gravity", schedule={"change_every": None, "values": [3.7]})
    _, info = env.reset(seed=0)
    assert info["gravity"] == 3.7 and env.unwrapped.model.opt.gravity.tolist() == [0, 0, -3.7]
    env.close()


@pytest.mark.parametrize(
    ("make", "arguments", "error", "message"),
    [
        (
            "Ant-v5",
            {"property": "stiffness", "schedule": {"values": [1]}},
            TypeError,
            "MujocoAnt|AntEnv has no stiffness",
        ),
        (
            "Ant-v5",
            {"property": "colour", "schedule": {"values": [1]}},
            ValueError,
            "one of friction, gravity.*'colour'",
        ),
        ("Ant-v5", {"property": "gravity", "schedule": {}}, TypeError, "value_range must be two numbers"),
        ("Ant-v5", {"schedule": {"friction_range": (2, 1)}}, ValueError, r"friction_range .* got \(2, 1\)"),
        ("CartPole-v1", {"property": "gear", "schedule": {"values": [1]}}, TypeError, "a MuJoCo model, which CartPole"),
    ],
)
def test_what_cannot_change_is_named(make: str, arguments: dict, error: type[Exception], message: str) -> None:
    with gym.make(make) as env, pytest.raises(error, match=message):
        Changing(env, **arguments)


# -- state


def in_middle(environment_id: str) -> tuple[gym.Env, gym.Env]:
    """An environment in the middle of an episode and of a phase, and another elsewhere."""
    make = partial(gym.make, environment_id, change_every=7, frictions=[1.0, 0.3, 0.05], max_episode_steps=60)
    env, other = make(), make()
    env.reset(seed=1)
    trace(env, actions_for(env, 33, seed=1))
    other.reset(seed=9)
    trace(other, actions_for(env, 4, seed=2))
    return env, other


@pytest.mark.parametrize("environment_id", IDS)
def test_it_goes_on_to_the_last_bit(environment_id: str) -> None:
    env, other = in_middle(environment_id)
    state = environment_state(env)
    assert state is not None
    restore_environment(other, state)
    assert own_friction(other.unwrapped.model).tolist() == own_friction(env.unwrapped.model).tolist()
    actions = actions_for(env, 80, seed=3)
    assert trace(env, actions) == trace(other, actions)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_so_does_a_copy(how: Any) -> None:
    env, _ = in_middle("SlipperyAnt-v5")
    other = how(env)
    actions = actions_for(env, 80, seed=3)
    assert trace(env, actions) == trace(other, actions) and other.spec.id == "SlipperyAnt-v5"


@pytest.mark.parametrize("environment_id", ["Ant-v5", "Humanoid-v5", "Reacher-v5", "HumanoidStandup-v5", "Swimmer-v5"])
def test_gymnasiums_own_go_on_too_with_whatever_changes(environment_id: str) -> None:
    def make() -> gym.Env:
        env = gym.make(environment_id)
        return Changing(env, property="gear", schedule=Schedule(change_every=5, values=[1, 0.5]), change_at="step")

    env, other = make(), make()
    env.reset(seed=1)
    other.reset(seed=2)
    trace(env, actions_for(env, 17))
    restore_environment(other, environment_state(env))
    actions = actions_for(env, 40, seed=3)
    assert trace(env, actions) == trace(other, actions)


def test_saving_changes_nothing() -> None:
    env, other = (gym.make("SlipperyAnt-v5") for _ in range(2))
    env.reset(seed=0)
    other.reset(seed=0)
    for action in actions_for(env, 30):
        env.unwrapped.state_dict()
        assert trace(env, action[None]) == trace(other, action[None])


def test_the_state_of_another_walker_is_refused() -> None:
    hopper, ant = gym.make("SlipperyHopper-v5"), gym.make("SlipperyAnt-v5")
    hopper.reset(seed=0)
    ant.reset(seed=0)
    before = plain(ant.unwrapped.state_dict())
    with pytest.raises(ValueError, match="MujocoAnt can't go on from the state of another environment"):
        ant.unwrapped.load_state_dict(hopper.unwrapped.state_dict())
    assert plain(ant.unwrapped.state_dict()) == before


def test_a_spec_through_json_makes_the_same_environment() -> None:
    env = gym.make("SlipperyAnt-v5", frictions=np.array([0.8, 0.1]), change_every=20, healthy_z_range=(0.3, 1.0))
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    env.reset(seed=0)
    again.reset(seed=0)
    json.loads(env.spec.to_json(), parse_constant=pytest.fail)
    actions = actions_for(env, 40)
    assert trace(env, actions) == trace(again, actions)


# -- several, and pictures


@pytest.mark.parametrize("environment_id", ["SlipperyAnt-v5", "SlipperyHumanoid-v5"])
def test_several_equal_single_environments_bit_for_bit(environment_id: str) -> None:
    make = partial(gym.make, environment_id, max_episode_steps=25, change_every=50, n_envs=3)
    theirs, ours = (vec_env([make] * 3) for vec_env in (DummyVecEnv, WalkerVecEnv))
    theirs.seed(5)
    ours.seed(5)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    for actions in actions_for(theirs.envs[0], 3 * 60).reshape(60, 3, -1):
        expected, got = theirs.step(actions), ours.step(actions)
        for one, other in zip(got[:3], expected[:3], strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        assert plain(got[3]) == plain(expected[3])
    theirs.close()
    ours.close()


def can_draw() -> bool:
    from cppo_envs.mujoco_pictures import without_screen

    try:
        with without_screen():
            return True
    except gym.error.DependencyNotInstalled:
        return False


def test_pictures_need_no_screen_and_show_where_the_ant_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if not can_draw():
        pytest.skip("no EGL here")
    with gym.make("SlipperyAnt-v5", render_mode="rgb_array", width=64, height=48) as env:
        env.reset(seed=0)
        first = env.render()
        trace(env, actions_for(env, 10))
        second = env.render()
    assert first.shape == second.shape == (48, 64, 3) and first.dtype == np.uint8
    assert first.std() > 10 and (first != second).any()


@pytest.mark.parametrize("backend", ["glfw", "no-such-backend"])
def test_without_anything_to_draw_with_one_line_says_so(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("MUJOCO_GL", backend)
    monkeypatch.setattr("sys.platform", "linux")
    with gym.make("SlipperyAnt-v5", render_mode="rgb_array") as env:
        env.reset(seed=0)
        with pytest.raises(gym.error.DependencyNotInstalled, match=f"MUJOCO_GL={backend}: .* MUJOCO_GL=egl") as raised:
            env.render()
    assert "\n" not in str(raised.value)


def test_every_environment_on_mujoco_is_tested() -> None:
    of_mujoco = {name for name, entry_point in cppo_envs.ENTRY_POINTS.items() if "mujoco" in entry_point}
    assert of_mujoco == set(IDS)
