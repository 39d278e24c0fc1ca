"""The ant without its massless links: the same body, whose steps differ from the original's by rounding errors."""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from scipy import stats

pytest.importorskip("pybullet")

from cppo_envs.ant import FastAnt
from cppo_envs.engine import pybullet
from cppo_envs.slippery import slippery_ant

# Signs that make a positive target swing a leg forward and push its foot down, in the order of the legs.
FORWARD, DOWN = np.array([-1, -1, 1, 1]), np.array([1, -1, -1, 1])
Controller = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def trot(observation: np.ndarray, step: int, rng: np.random.Generator) -> np.ndarray:
    """Springs and dampers at the joints; diagonal legs swing together, the other pair half a period later."""
    phase = 2 * np.pi * step / 36 + np.array([0, np.pi, 0, np.pi])
    targets = np.stack([0.9 * FORWARD * np.sin(phase), DOWN * (0.2 - 0.5 * np.cos(phase))], axis=1).ravel()
    torques = 2 * (targets - observation[8:24:2]) - 0.3 * observation[9:24:2]
    return np.clip(torques + 0.1 * rng.normal(size=8), -1, 1).astype(np.float32)


def flail(observation: np.ndarray, step: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, 8).astype(np.float32)


@pytest.fixture(scope="module")
def original():
    with FastAnt() as ant:
        yield ant


@pytest.fixture(scope="module")
def merged():
    with FastAnt(model="merged") as ant:
        yield ant


def links_with_mass(ant: FastAnt) -> dict[str, tuple]:
    """Dynamics of each link with mass, by name."""
    robot, client = ant._world.robot, ant._client
    named = {"torso": pybullet.getDynamicsInfo(robot, -1, client)}
    for link in range(pybullet.getNumJoints(robot, client)):
        named[pybullet.getJointInfo(robot, link, client)[12].decode()] = pybullet.getDynamicsInfo(robot, link, client)
    return {name: dynamics for name, dynamics in named.items() if dynamics[0] > 0}


def test_the_bodies_are_the_same_and_eight_links_are_gone(original: FastAnt, merged: FastAnt) -> None:
    expected, got = links_with_mass(original), links_with_mass(merged)
    assert list(got) == list(expected) and len(expected) == 13
    for name, dynamics in expected.items():
        # mass, friction, inertia, place and turn of the centre of mass, restitution, rolling and spinning friction,
        # contact damping and stiffness; what follows are Bullet's own margins
        for one, other in zip(got[name][:10], dynamics[:10], strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
    assert [pybullet.getNumJoints(ant._world.robot, ant._client) for ant in (original, merged)] == [20, 12]


def test_the_joints_are_the_same(original: FastAnt, merged: FastAnt) -> None:
    def joints(ant: FastAnt) -> list[tuple]:
        infos = [pybullet.getJointInfo(ant._world.robot, joint, ant._client) for joint in ant._joints]
        # name, type, damping, friction, limits, greatest force and speed, axis
        return [(info[1], info[2], *info[6:12], info[13]) for info in infos]

    assert joints(merged) == joints(original)


def put(ant: FastAnt, state: np.ndarray) -> None:
    """Set position 3, orientation 4, velocity 3, angular velocity 3, joint angles 8 and joint speeds 8."""
    robot, client = ant._world.robot, ant._client
    ant._world.restore_start()
    pybullet.resetBasePositionAndOrientation(robot, state[:3], state[3:7], client)
    pybullet.resetBaseVelocity(robot, state[7:10], state[10:13], client)
    for joint, angle, speed in zip(ant._joints, state[13:21], state[21:], strict=True):
        pybullet.resetJointState(robot, joint, angle, speed, client)
        ant._world.disable_motor(joint)


def get(ant: FastAnt) -> np.ndarray:
    robot, client = ant._world.robot, ant._client
    joints = np.array([joint[:2] for joint in pybullet.getJointStates(robot, ant._joints, client)])
    base = pybullet.getBasePositionAndOrientation(robot, client), pybullet.getBaseVelocity(robot, client)
    return np.concatenate([*base[0], *base[1], joints[:, 0], joints[:, 1]])


def test_in_the_air_the_next_state_is_the_same(original: FastAnt, merged: FastAnt) -> None:
    rng = np.random.default_rng(0)
    bent = np.array([0, 1.1, 0, -1.1, 0, -1.1, 0, 1.1])
    for _ in range(100):
        turn = rng.normal(size=4)
        state = np.concatenate(
            [
                [*rng.normal(size=2), 5.0],
                turn / np.linalg.norm(turn),
                2 * rng.normal(size=6),
                bent + rng.uniform(-0.6, 0.6, 8),
                3 * rng.normal(size=8),
            ]
        )
        torques = rng.uniform(-250, 250, 8).tolist()
        after = []
        for ant in (original, merged):
            put(ant, state)
            pybullet.setJointMotorControlArray(
                ant._robot, ant._joints, pybullet.TORQUE_CONTROL, forces=torques, physicsClientId=ant._client
            )
            pybullet.stepSimulation(ant._client)
            after.append(get(ant))
        assert np.abs(after[0] - state).max() > 1e-3
        np.testing.assert_allclose(after[1], after[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("turn", [(0, 0.5, 0), (0.3, 0.5, 0), (-0.5, 0.1, 1.0), (1.2, 0.5, 0.3)])
def test_a_foot_is_felt_at_the_same_height(original: FastAnt, merged: FastAnt, turn: tuple[float, ...]) -> None:
    def feels(ant: FastAnt, height: float) -> bool:
        state = np.zeros(29)
        state[2], state[3:7] = height, pybullet.getQuaternionFromEuler(turn)
        state[13:21] = [0, 0.6, 0, -0.6, 0, -0.6, 0, 0.6]
        put(ant, state)
        pybullet.performCollisionDetection(ant._client)
        return bool(pybullet.getContactPoints(ant._robot, ant._world.ground, physicsClientId=ant._client))

    heights = []
    for ant in (original, merged):
        touching, away = 0.0, 3.0
        while away - touching > 1e-12:
            middle = (touching + away) / 2
            touching, away = (middle, away) if feels(ant, middle) else (touching, middle)
        heights.append(touching)
    assert heights[1] == pytest.approx(heights[0], abs=1e-9)


def play(ant: FastAnt, controller: Controller, seed: int, raised: float = 0.0) -> np.ndarray:
    """Observations and rewards of up to 100 steps, from a start that is raised by so many metres."""
    rng = np.random.default_rng(seed)
    observation, _ = ant.reset(seed=seed)
    if raised:
        (x, y, z), turn = pybullet.getBasePositionAndOrientation(ant._robot, ant._client)
        pybullet.resetBasePositionAndOrientation(ant._robot, (x, y, z + raised), turn, ant._client)
    seen = []
    for step in range(100):
        observation, reward, terminated, *_ = ant.step(controller(observation, step, rng))
        seen.append([*observation, reward])
        if terminated:
            break
    return np.array(seen)


@pytest.mark.parametrize("controller", [trot, flail])
@pytest.mark.parametrize("seed", range(4))
def test_with_contacts_it_stays_closer_than_the_original_stays_to_itself(
    original: FastAnt, merged: FastAnt, controller: Controller, seed: int
) -> None:
    """Contacts amplify any difference; one of 1e-9 m at the start grows sooner than that of the merged model."""
    expected = play(original, controller, seed)

    def steps_close(other: np.ndarray) -> int:
        length = min(len(other), len(expected))
        apart = np.abs(other[:length] - expected[:length]).max(axis=1) > 1e-6
        return int(np.argmax(apart)) if apart.any() else length

    assert expected[:, 24:28].any()
    close = steps_close(play(merged, controller, seed))
    assert close > 20
    assert close >= steps_close(play(original, controller, seed, raised=1e-9))


def test_a_gait_gets_as_far(original: FastAnt, merged: FastAnt) -> None:
    """Sums of rewards of 40 episodes each, of different seeds: the two-sample Kolmogorov-Smirnov test."""
    returns = [
        [play(ant, trot, seed)[:, -1].sum() for seed in seeds]
        for ant, seeds in ((original, range(40)), (merged, range(100, 140)))
    ]
    assert np.std(returns[0]) > 5
    assert stats.ks_2samp(*returns).pvalue > 0.01


def test_the_camera_sees_the_same_ant() -> None:
    pictures = []
    for model in ("original", "merged"):
        with FastAnt(render_mode="rgb_array", width=64, height=48, model=model) as ant:
            ant.reset(seed=0)
            pictures.append(ant.render().astype(int))
    difference = np.abs(pictures[0] - pictures[1]).max(axis=-1)
    assert (difference > 8).mean() < 0.05  # capsules are drawn with other facets


def test_slippery_ant_is_merged_unless_the_original_is_asked_for() -> None:
    links = {}
    for arguments in ({}, {"model": "original"}):
        with slippery_ant(**arguments) as env:
            links[tuple(arguments.values())] = len(env.unwrapped._world.links)
    assert links == {(): 12, ("original",): 20}


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match='model must be "original" or "merged", got \'fused\''):
        gym.make("FastAnt-v0", model="fused")
