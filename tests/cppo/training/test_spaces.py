"""Whatever stable-baselines3's PPO takes is trained with the policy that fits; anything else is refused by name."""

import dataclasses
import re
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO

from cppo import CPPO
from cppo.report.probe import gather_observations
from cppo.report.trained_agent import TrainedAgent
from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings
from cppo.training.spaces import check_spaces, choose_policy
from cppo.training.starting import prepare, resume
from cppo.training.training import train
from tests.cppo.agents import BOX, Target

SEVERAL = spaces.MultiDiscrete([3, 4])
VECTOR = spaces.Box(-1, 1, (3,), np.float32)
SMALL = {"net_arch": (8, 8), "n_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1, "total_timesteps": 64}
QUICK = {"plasticity_every": 1, "replacement_rate": 0.05, "maturity_threshold": 1}


def image(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


def register(observation_space: spaces.Space, action_space: spaces.Space = BOX) -> None:
    gym.registry.pop("Spaces-v0", None)
    gym.register("Spaces-v0", lambda: Target(action_space, observation_space), disable_env_checker=True)


@pytest.mark.parametrize(
    ("observation_space", "policy"),
    [
        (spaces.Discrete(5), "MlpPolicy"),
        (image(36, 40, 1), "CnnPolicy"),  # its channels come first for the agent
        (spaces.Dict(camera=image(40, 36, 3), goal=VECTOR, room=spaces.Discrete(3), a=SEVERAL), "MultiInputPolicy"),
    ],
)
def test_a_run_takes_the_policy_that_fits_and_can_be_resumed_and_evaluated(observation_space, policy, tmp_path):
    register(observation_space)
    folder = RunFolder(tmp_path / "run")
    settings = Settings(env="Spaces-v0", algo="cppo", **SMALL, **QUICK).resolved()
    assert train(prepare(settings, folder, [])).ending.state == "finished"
    recorded = folder.settings()
    assert (settings.policy, recorded.policy) == (None, policy)
    outcome = train(resume(dataclasses.replace(recorded, total_timesteps=128), folder, []))
    assert outcome.ending.steps == 128
    model = CPPO.load(folder.model)
    assert type(model.policy) is PPO.policy_aliases[policy] and model.continual_backprop.total_replaced > 0
    agent = TrainedAgent.load(folder.path)
    with agent.make_env(None) as env:
        assert [moment.step for moment in agent.play(env, 3)] == list(range(9))
    seen = gather_observations(agent, None, 5)
    assert len(seen["goal"] if isinstance(seen, dict) else seen) > 0


def test_actions_of_numbers_are_trained(tmp_path):
    register(spaces.MultiBinary(4), SEVERAL)
    settings = Settings(env="Spaces-v0", algo="ppo", **SMALL).resolved()
    assert train(prepare(settings, RunFolder(tmp_path / "run"), [])).ending.state == "finished"


@pytest.mark.parametrize("space", [image(20, 20, 3), spaces.Box(0, 1, (84, 84, 3), np.float32)])
def test_what_looks_like_an_image_and_is_none_is_not_flattened_without_a_word(space):
    with pytest.warns(UserWarning, match=r"are no images for a CnnPolicy .*: an MlpPolicy is trained on them"):
        assert choose_policy(space, None) == "MlpPolicy"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_policy(space, "MlpPolicy") == choose_policy(image(84, 84, 3), "MlpPolicy") == "MlpPolicy"


@pytest.mark.parametrize(
    ("space", "named", "fitting"),
    [
        (spaces.Dict(a=VECTOR), "MlpPolicy", "MultiInputPolicy"),
        (VECTOR, "CnnPolicy", "MlpPolicy"),
        (image(84, 84, 3), "MultiInputPolicy", "CnnPolicy"),
    ],
)
def test_a_policy_that_cannot_take_the_observations_is_refused(space, named, fitting):
    words = re.escape(f"--policy {named} can't take the observations {space}: --policy {fitting} does")
    with pytest.raises(ValueError, match=words):
        choose_policy(space, named)


@pytest.mark.parametrize(
    ("observations", "actions", "words"),
    [
        (VECTOR, spaces.Discrete(3, start=1), "the actions Discrete(3, start=1) can't be trained: .* begin at 0"),
        (VECTOR, spaces.MultiDiscrete([2, 2], start=[0, 1]), "the actions MultiDiscrete.*begin at 0"),
        (VECTOR, spaces.MultiDiscrete([[2], [2]]), "with one axis"),
        (VECTOR, spaces.MultiBinary((2, 2)), "with one axis"),
        (VECTOR, spaces.Box(-np.inf, np.inf, (2,)), "a lower and an upper bound"),
        (VECTOR, spaces.Box(-1, 1, (0,)), "there is nothing in it"),
        (VECTOR, spaces.Tuple([BOX]), "the actions Tuple.*takes Box, Discrete"),
        (spaces.Discrete(3, start=1), BOX, "the observations Discrete(3, start=1) can't be trained on: .* begin at 0"),
        (spaces.Dict(a=spaces.Discrete(3, start=1)), BOX, "the observation 'a', Discrete(3, start=1), can't"),
        (spaces.Dict(a=spaces.Dict(b=VECTOR)), BOX, "the observation 'a', Dict.*a Dict of these"),
        (spaces.Dict(a=image(20, 20, 3)), BOX, "the observation 'a'.*36 x 36 or larger"),
        (spaces.Dict({}), BOX, "the observations Dict() can't be trained on: they are empty"),
        (spaces.Box(-1, 1, ()), BOX, "needs an axis"),
        (spaces.Text(3), BOX, "the observations Text"),
        (spaces.Graph(VECTOR, None), BOX, "the observations Graph"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(observations, actions, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")):
        check_spaces(observations, actions)


def test_the_closed_form_says_what_it_does_not_cover(tmp_path):
    register(spaces.Discrete(5))
    settings = Settings(env="Spaces-v0", algo="ppo", update="closed-form", **SMALL).resolved()
    with pytest.raises(ValueError, match=r"can't run: observations are no vectors, but Discrete\(5\)"):
        prepare(settings, RunFolder(tmp_path / "run"), [])


def test_a_run_from_before_there_was_a_choice_keeps_its_mlp(tmp_path):
    register(image(36, 36, 3))
    folder = RunFolder(tmp_path / "run")
    settings = Settings(env="Spaces-v0", algo="ppo", policy="MlpPolicy", **SMALL).resolved()
    train(prepare(settings, folder, []))
    config = folder.config.read_text()
    folder.config.write_text(config.replace("  policy: MlpPolicy\n", ""))
    assert folder.config.read_text() != config and folder.settings().policy == "MlpPolicy"
    assert train(resume(folder.settings(), folder, [])).ending.state == "finished"
    assert TrainedAgent.load(folder.path).steps_trained == 64
