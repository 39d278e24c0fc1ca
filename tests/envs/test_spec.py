"""An environment's spec goes through JSON, as stores of data sets keep it, and makes the same environment."""

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import NormalizeObservation, RecordEpisodeStatistics

pytest.importorskip("pybullet")

from cppo_envs.ant import FastAnt
from cppo_envs.friction import FrictionSchedule
from cppo_envs.slippery import ChangingFriction


def strict_json(spec: EnvSpec) -> str:
    """The spec's JSON, which must be JSON to others too: without Infinity and NaN."""
    json.loads(spec.to_json(), parse_constant=pytest.fail)
    return spec.to_json()


def assert_same(env: gym.Env, other: gym.Env) -> None:
    """Compare some steps, over a reset and over changes of friction."""
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 8)).astype(np.float32)
    for seed in (0, 1):
        for (one, one_info), (another, another_info) in [(env.reset(seed=seed), other.reset(seed=seed))]:
            np.testing.assert_array_equal(one, another)
            assert one_info == another_info
        for action in actions:
            step, same = env.step(action), other.step(action)
            np.testing.assert_array_equal(step[0], same[0])
            assert step[1:4] == same[1:4]
            assert {key: step[4][key] for key in ("friction", "phase", "x_position") if key in step[4]} == {
                key: same[4][key] for key in ("friction", "phase", "x_position") if key in same[4]
            }


@pytest.mark.parametrize(
    ("environment_id", "arguments"),
    [
        ("SlipperyAnt-v0", {}),
        ("SlipperyAnt-v0", {"change_every": 10}),
        ("SlipperyAnt-v0", {"change_every": 1e1, "schedule_seed": np.int64(4), "change_at": "step"}),
        ("SlipperyAnt-v0", {"change_every": None}),
        ("SlipperyAnt-v0", {"change_every": float("inf")}),
        ("SlipperyAnt-v0", {"frictions": [0.8, 0.2], "change_every": 20}),
        ("SlipperyAnt-v0", {"frictions": (0.8, 0.2), "change_every": 20, "n_envs": 2, "start_step": 7}),
        ("SlipperyAnt-v0", {"frictions": np.array([0.8, 0.2]), "change_every": 20, "change_at": "step"}),
        ("SlipperyAnt-v0", {"frictions": range(1, 4), "change_every": 20, "change_at": "step"}),
        ("SlipperyAnt-v0", {"friction_range": (0.01, 100), "change_every": 9, "change_at": "step"}),
        ("SlipperyAnt-v0", {"friction_range": np.array([0.01, 100]), "change_every": 9, "model": "original"}),
        ("SlipperyAnt-v0", {"max_episode_steps": 7, "disable_env_checker": False}),
        ("FastAnt-v0", {}),
        ("FastAnt-v0", {"ground_friction": np.float32(0.5), "model": "merged", "render_mode": "rgb_array"}),
    ],
)
def test_a_spec_through_json_makes_the_same_environment(environment_id: str, arguments: dict[str, Any]) -> None:
    env = gym.make(environment_id, **arguments)
    again = gym.make(EnvSpec.from_json(strict_json(env.spec)))
    assert str(again) == str(env)
    assert again.spec.to_json() == env.spec.to_json()
    assert_same(env, again)
    env.close()
    again.close()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda: RecordEpisodeStatistics(gym.make("SlipperyAnt-v0", change_every=20, friction_range=(0.01, 1))),
        lambda: NormalizeObservation(gym.make("SlipperyAnt-v0", frictions=[0.8, 0.1], change_every=20)),
        lambda: ChangingFriction(
            RecordEpisodeStatistics(gym.make("FastAnt-v0")),
            FrictionSchedule(20, frictions=np.array([0.7, 0.1])),
            "step",
        ),
        lambda: RecordEpisodeStatistics(
            ChangingFriction(gym.make("FastAnt-v0"), {"change_every": 20, "friction_range": [0.1, 10.0], "seed": 3})
        ),
    ],
)
def test_so_does_that_of_an_environment_in_wrappers(wrap: Any) -> None:
    env = wrap()
    again = gym.make(EnvSpec.from_json(strict_json(env.spec)))
    assert str(again) == str(env)
    assert_same(env, again)
    env.close()
    again.close()


def test_a_schedule_can_be_given_as_its_arguments() -> None:
    schedule = FrictionSchedule(1000, (0.1, 10), seed=5)
    with FastAnt() as ant:
        assert ChangingFriction(ant, json.loads(json.dumps(schedule.arguments()))).schedule == schedule
        with pytest.raises(TypeError, match="no_such_argument"):
            ChangingFriction(ant, {"no_such_argument": 1})


def test_the_spec_of_a_walker_made_by_hand_is_none() -> None:
    with FastAnt() as ant:
        assert ant.spec is None and ChangingFriction(ant, FrictionSchedule()).spec is None
