"""Statistics, by hand; the episodes of an evaluation; table and record."""

import json

import pytest

from cppo.report.evaluation import (
    Episode,
    Result,
    evaluate,
    run_record,
    table,
    write_json,
)
from cppo.report.trained_agent import TrainedAgent


@pytest.fixture
def corridor(make_run) -> TrainedAgent:
    return TrainedAgent.load(make_run(steps_trained=4096, seed=7).path)


def result(*returns: float, friction: float | None = 0.5, distance: float | None = 1.0) -> Result:
    episodes = tuple(Episode(1000 + i, value, 10 + i, distance, False) for i, value in enumerate(returns))
    return Result(friction, episodes)


def test_a_single_episode_has_neither_spread_nor_interval():
    assert result(3.0).as_dict()["std_return"] is None
    cells = table([result(3.0)]).splitlines()[1].split()
    assert cells == ["0.5", "1", "3.0", "-", "3.0", "-", "10.0", "1.0", "m"]


def test_evaluation_plays_whole_episodes_with_the_seeds_asked_for(corridor, capsys):
    (found,) = evaluate(corridor, [None], episodes=3, seed=1000)
    # 1000 % 3 = 1, 1001 % 3 = 2, 1002 % 3 = 0: doors after 3, 4, 2 steps of half a metre and reward 2
    assert found.episodes == (
        Episode(1000, 6.0, 3, 1.5, True),
        Episode(1001, 8.0, 4, 2.0, False),
        Episode(1002, 4.0, 2, 1.0, True),
    )
    assert found.friction is None
    # deviations from the mean 6: 0, 2, -2; (0 + 4 + 4) / (3 - 1) = 4
    assert found.as_dict()["std_return"] == 2.0
    assert (found.as_dict()["mean_length"], found.as_dict()["mean_distance"]) == (3.0, 1.5)
    assert capsys.readouterr().err == "TestCorridor-v0: mean return 6.0 over 3 episodes\n"


def test_stochastic_episodes_differ_from_deterministic_ones_and_repeat_with_their_seed(make_run):
    agent = TrainedAgent.load(make_run("Pendulum-v1").path)
    deterministic, stochastic, again = (
        evaluate(agent, [None], 1, 1000, deterministic=mode)[0].returns[0] for mode in (True, False, False)
    )
    assert stochastic == again != deterministic


def test_exploration_that_depends_on_the_state_repeats_with_its_seed_too(make_run):
    agent = TrainedAgent.load(make_run("Pendulum-v1", use_sde=True).path)
    first, again, deterministic = (
        evaluate(agent, [None], 1, 1000, deterministic=mode)[0].returns[0] for mode in (False, False, True)
    )
    assert first == again != deterministic


def test_the_table_has_a_line_for_each_friction_and_a_dash_for_what_is_unknown():
    lines = table([result(1, 3), result(*[2.0] * 4, friction=None, distance=None), result(1, 1, distance=-0.01)])
    head, first, second, third = lines.splitlines()
    assert head.split() == ["friction", "episodes", "mean", "std", "IQM", "95", "%", "interval", "length", "distance"]
    # (1 + 3) / 2 = 2; ((1 - 2)^2 + (3 - 2)^2) / 1 = 2, its root 1.4; lengths 10 and 11
    assert first.split() == ["0.5", "2", "2.0", "1.4", "2.0", "[1.0,", "3.0]", "10.5", "1.0", "m"]
    assert second.split() == ["-", "4", "2.0", "0.0", "2.0", "[2.0,", "2.0]", "11.5", "-"]
    assert third.split()[-2:] == ["0.0", "m"]
    assert len({len(line) for line in (head, first, second, third)}) == 1


def test_the_record_holds_the_run_the_statistics_and_every_episode(corridor, tmp_path):
    path = tmp_path / "evaluation.json"
    write_json(path, [run_record(corridor, evaluate(corridor, [None], 2, 1000), deterministic=True)])
    record = json.loads(path.read_text())
    run = record["run"]
    assert (run["algo"], run["env"], run["seed"], run["steps_trained"]) == ("ppo", "TestCorridor-v0", 7, 4096)
    assert record["deterministic"] is True
    (found,) = record["results"]
    assert found["episodes"] == [
        {"seed": 1000, "return": 6.0, "length": 3, "distance": 1.5, "terminated": True},
        {"seed": 1001, "return": 8.0, "length": 4, "distance": 2.0, "terminated": False},
    ]
    assert found["friction"] is None
    assert (found["mean_return"], found["iqm_return"], found["iqm_interval"]) == (7.0, 7.0, [6.0, 8.0])
    assert found["std_return"] == pytest.approx(2**0.5)  # (1 + 1) / (2 - 1)
    assert (found["mean_length"], found["mean_distance"]) == (3.5, 1.75)
