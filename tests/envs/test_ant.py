"""FastAnt-v0: equal to AntBulletEnv-v0, well-behaved as a gymnasium environment, and independent of its past."""

import gc
import math
import pickle
import warnings
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import cppo_envs  # noqa: F401  registers the environments

pybullet = pytest.importorskip("pybullet")

Controller = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
JOINT_POSITIONS, JOINT_SPEEDS = slice(8, 24, 2), slice(9, 24, 2)
# Signs that make a positive target swing a leg forward and push its foot down, in the order of the legs.
FORWARD, DOWN = np.array([-1, -1, 1, 1]), np.array([1, -1, -1, 1])


def hold(targets: np.ndarray, observation: np.ndarray, gain: float = 2.0) -> np.ndarray:
    """Torques of a spring and a damper at each joint."""
    error = targets - observation[JOINT_POSITIONS]
    return np.clip(gain * error - 0.3 * observation[JOINT_SPEEDS], -1, 1).astype(np.float32)


def stand(observation: np.ndarray, step: int, rng: np.random.Generator) -> np.ndarray:
    targets = np.zeros(8)
    targets[1::2] = 0.2 * DOWN
    return hold(targets, observation)


def walk(observation: np.ndarray, step: int, rng: np.random.Generator) -> np.ndarray:
    """Trot: diagonal legs swing together, the other pair half a period later."""
    phase = 2 * np.pi * step / 36 + np.array([0, np.pi, 0, np.pi])
    targets = np.zeros(8)
    targets[0::2] = 0.9 * FORWARD * np.sin(phase)
    targets[1::2] = DOWN * (0.2 - 0.5 * np.cos(phase))
    return hold(targets, observation)


def go_limp(observation: np.ndarray, step: int, rng: np.random.Generator) -> np.ndarray:
    return np.zeros(8, np.float32)


def sag(observation: np.ndarray, step: int, rng: np.random.Generator) -> np.ndarray:
    """Hold the feet up, weakly: the ant sinks onto its belly after some 150 steps."""
    targets = np.zeros(8)
    targets[1::2] = -0.5 * DOWN
    return hold(targets, observation, gain=0.1)


def flail(observation: np.ndarray, step: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, 8).astype(np.float32)


def flail_weakly(observation: np.ndarray, step: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-0.5, 0.5, 8).astype(np.float32)


def flail_out_of_range_in_double_precision(observation: np.ndarray, step: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-3, 3, 8)


def full_torque(observation: np.ndarray, step: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(np.array([-1, 1], np.float32), 8)


EPISODES: list[Controller] = [
    *(stand, walk, go_limp, sag, flail_weakly, go_limp, flail_out_of_range_in_double_precision),
    *(full_torque, sag, flail_weakly, sag, flail_weakly, sag, go_limp),
    *(sag, flail_weakly, sag, flail_weakly, sag, go_limp, flail),
]


@pytest.fixture
def ant():
    env = gym.make("FastAnt-v0")
    yield env
    env.close()


def test_every_episode_equals_the_original_to_the_last_bit(ant: gym.Env) -> None:
    pytest.importorskip("pybullet_envs_gymnasium")
    gc.collect()  # a closed AntBulletEnv that is collected later would disconnect the client that got its number
    original = gym.make("AntBulletEnv-v0", disable_env_checker=True)
    original.reset(seed=1)  # its first reset is unlike all later ones
    rng = np.random.default_rng(0)
    lengths, distances = [], []
    for episode, controller in enumerate(EPISODES):
        # Every third episode goes on with the generator as the last one left it.
        seed = None if episode % 3 == 2 else episode
        expected, _ = original.reset(seed=seed)
        observation, info = ant.reset(seed=seed)
        np.testing.assert_array_equal(observation, expected)
        assert observation.dtype == expected.dtype == np.float32
        ended, step = False, 0
        while not ended and (step < 400 or controller in (stand, walk)):  # some are reset before they end
            action = controller(observation, step, rng)
            expected, *expected_outcome, _ = original.step(action)
            observation, *outcome, info = ant.step(action)
            assert np.array_equal(observation, expected)
            assert outcome == expected_outcome
            ended, step = outcome[1] or outcome[2], step + 1
        lengths.append(step)
        distances.append(info["x_position"])
    original.close()

    assert len(EPISODES) >= 20
    length_of = {c: [n for n, d in zip(lengths, EPISODES, strict=True) if d is c] for c in set(EPISODES)}
    assert length_of[stand] == [1000]
    assert max(length_of[go_limp]) < 30 < 100 < min(length_of[sag]) < max(length_of[sag]) < 1000
    assert max(d for d, c in zip(distances, EPISODES, strict=True) if c is walk) > 5


def test_actions_and_observations_have_the_originals_shape_and_type(ant: gym.Env) -> None:
    pytest.importorskip("pybullet_envs_gymnasium")
    original = gym.make("AntBulletEnv-v0")
    assert ant.action_space == original.action_space
    assert ant.observation_space.shape == original.observation_space.shape
    assert ant.observation_space.dtype == original.observation_space.dtype
    original.close()


@pytest.mark.parametrize("environment_id", ["FastAnt-v0", "SlipperyAnt-v0"])
def test_both_environment_checkers_pass_without_a_warning(environment_id: str) -> None:
    env = gym.make(environment_id)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
        sb3_check_env(env, skip_render_check=True)
    env.close()


def rollout(env: gym.Env, seed: int, steps: int = 150) -> list[tuple[bytes, float]]:
    """What the ant sees and earns while it flails, the same way for the same seed."""
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    seen = [(observation.tobytes(), 0.0)]
    for step in range(steps):
        observation, reward, terminated, truncated, _ = env.step(flail(observation, step, rng))
        seen.append((observation.tobytes(), float(reward)))
        if terminated or truncated:
            break
    return seen


def test_same_seed_same_rollout(ant: gym.Env) -> None:
    other = gym.make("FastAnt-v0")
    assert rollout(ant, seed=3) == rollout(other, seed=3) != rollout(other, seed=4)
    other.close()


def test_a_used_world_continues_like_a_fresh_one(ant: gym.Env) -> None:
    ant.unwrapped.ground_friction = 5.0
    for seed in range(3):
        rollout(ant, seed)
    ant.unwrapped.ground_friction = 0.02
    fresh = gym.make("FastAnt-v0", ground_friction=0.02)
    assert rollout(ant, seed=7) == rollout(fresh, seed=7)
    fresh.close()


def test_environments_in_one_process_are_independent(ant: gym.Env) -> None:
    alone = rollout(ant, seed=5)
    others = [gym.make("FastAnt-v0", ground_friction=friction) for friction in (0.01, 3.0)]
    rng = np.random.default_rng(5)
    observation, _ = ant.reset(seed=5)
    between = [(observation.tobytes(), 0.0)]
    for other in others:
        other.reset(seed=1)
    for step in range(len(alone) - 1):
        observation, reward, *_ = ant.step(flail(observation, step, rng))
        between.append((observation.tobytes(), float(reward)))
        for other in others:
            other.step(np.ones(8, np.float32))
    assert between == alone
    for other in others:
        other.close()


def test_friction_matters_to_the_walker(ant: gym.Env) -> None:
    def distance(friction: float) -> float:
        ant.unwrapped.ground_friction = friction
        observation, _ = ant.reset(seed=0)
        for step in range(300):
            observation, *_, info = ant.step(walk(observation, step, np.random.default_rng(0)))
        return info["x_position"]

    assert distance(0.8) > 3 > 1 > abs(distance(1e-4))


def test_every_friction_beyond_the_clamp_is_the_same_task() -> None:
    # 6.67 * 1.5 > 10, the largest friction Bullet lets two bodies have together; 6.6 * 1.5 < 10.
    seen = {}
    for friction in (6.6, 6.67, 1e4):
        env = gym.make("FastAnt-v0", ground_friction=friction)
        seen[friction] = rollout(env, seed=2)
        env.close()
    assert seen[6.67] == seen[1e4] != seen[6.6]


def test_a_new_friction_takes_effect_with_the_next_step(ant: gym.Env) -> None:
    walker = ant.unwrapped
    observation, _ = ant.reset(seed=0)
    for step in range(60):
        observation, *_ = ant.step(walk(observation, step, np.random.default_rng(0)))

    def sideways_force() -> float:
        contacts = pybullet.getContactPoints(walker._robot, walker._world.ground, physicsClientId=walker._client)
        assert contacts
        return sum(abs(contact[10]) + abs(contact[12]) for contact in contacts)

    assert sideways_force() > 1
    walker.ground_friction = 0.0
    ant.step(walk(observation, 60, np.random.default_rng(0)))
    assert sideways_force() == 0


def test_returned_observations_are_the_callers_to_keep(ant: gym.Env) -> None:
    first, _ = ant.reset(seed=0)
    copy = first.copy()
    second, *_ = ant.step(np.zeros(8, np.float32))
    ant.step(np.ones(8, np.float32))
    np.testing.assert_array_equal(first, copy)
    assert not np.shares_memory(first, second)


def test_rewards_are_the_sum_of_the_terms_in_info(ant: gym.Env) -> None:
    ant.reset(seed=0)
    for _ in range(30):
        _, reward, *_, info = ant.step(ant.action_space.sample())
        assert reward == pytest.approx(sum(term for name, term in info.items() if name.startswith("reward_")))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_action_that_is_not_finite_is_refused_in_one_line(ant: gym.Env, bad: float) -> None:
    ant.reset(seed=0)
    action = np.zeros(8, np.float32)
    action[3] = bad
    with pytest.raises(ValueError, match=r"action must be finite, got .*(nan|inf)") as raised:
        ant.step(action)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("shape", [(7,), (1, 8), ()])
def test_an_action_of_another_shape_is_refused(ant: gym.Env, shape: tuple[int, ...]) -> None:
    ant.reset(seed=0)
    with pytest.raises(ValueError, match=r"action must have the shape \(8,\), got"):
        ant.step(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ground_friction": -0.1}, ValueError, "ground_friction must be a finite number of at least 0, got -0.1"),
        ({"ground_friction": math.nan}, ValueError, "got nan"),
        ({"ground_friction": "0.8"}, TypeError, "got '0.8'"),
        ({"ground_friction": True}, TypeError, "got True"),
        ({"width": 0}, ValueError, "width must be a whole number of at least 1, got 0"),
        ({"height": 2.5}, TypeError, "height must be a whole number of at least 1, got 2.5"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gym.make("FastAnt-v0", **arguments)


def open_clients() -> int:
    return sum(bool(pybullet.isConnected(client)) for client in range(64))


def test_close_frees_the_client_and_may_be_called_twice() -> None:
    before = open_clients()
    env = gym.make("FastAnt-v0").unwrapped
    assert open_clients() == before + 1
    env.close()
    env.close()
    assert open_clients() == before


def test_a_forgotten_environment_frees_its_client() -> None:
    gc.collect()
    before = open_clients()
    env = gym.make("FastAnt-v0")
    env.reset()
    del env
    gc.collect()
    assert open_clients() == before


def test_the_spec_can_be_pickled_and_makes_the_same_environment() -> None:
    env = gym.make("FastAnt-v0", ground_friction=0.3)
    twin = gym.make(pickle.loads(pickle.dumps(env.spec)))
    assert twin.unwrapped.ground_friction == 0.3
    assert rollout(env, seed=0) == rollout(twin, seed=0)
    env.close()
    twin.close()
