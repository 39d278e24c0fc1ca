"""A run's environments: in one process or in several, on the friction its settings say."""

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from cppo.settings.settings import Settings
from cppo.training.environments import environment_arguments, make_vec_env, pays_off


def test_the_environment_asked_for_is_made_n_times():
    env = make_vec_env(Settings(env="Pendulum-v1", n_envs=3).resolved())
    assert env.num_envs == 3 and env.get_attr("spec")[0].id == "Pendulum-v1"
    assert env.observation_space.shape == (3,)


def test_only_a_slippery_ant_gets_a_friction_schedule():
    assert environment_arguments(Settings(env="FastAnt-v0").resolved()) == {}
    assert environment_arguments(
        Settings(change_every=5, friction_range=(0.1, 0.2), change_at="step", seed=4, n_envs=3).resolved()
    ) == {"change_every": 5, "friction_range": (0.1, 0.2), "change_at": "step", "schedule_seed": 4, "n_envs": 3}


def test_frictions_by_hand_take_the_place_of_range_and_seed():
    arguments = environment_arguments(Settings(frictions=(0.5, 1.0), change_every=5, n_envs=1).resolved())
    assert arguments == {"frictions": (0.5, 1.0), "change_every": 5, "change_at": "episode", "n_envs": 1}


@pytest.mark.parametrize(("cores", "n_envs", "expected"), [(2, 4, False), (8, 1, False), (8, 8, True)])
def test_processes_are_used_where_there_are_cores_and_environments_enough(monkeypatch, cores, n_envs, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert pays_off(Settings(n_envs=n_envs).resolved()) is expected


@pytest.mark.parametrize("change_at", ["step", "episode"])
def test_friction_changes_when_the_sum_of_all_environments_steps_passes_change_every(change_at):
    """Two environments and a change every 10 steps of both: phase 1 is due with the step after 5 of each."""
    pytest.importorskip("pybullet")
    frictions = (0.5, 1.5, 2.5)
    env = make_vec_env(
        Settings(n_envs=2, change_every=10, frictions=frictions, change_at=change_at, processes=False).resolved()
    )
    env.reset()
    standing = np.zeros((2, 8), np.float32)
    seen = []
    for _ in range(12):
        _, _, dones, infos = env.step(standing)
        assert not dones.any()
        assert infos[0]["friction"] == infos[1]["friction"] == frictions[infos[0]["phase"]]
        seen.append(infos[0]["phase"])
    assert seen == ([0] * 5 + [1] * 5 + [2] * 2 if change_at == "step" else [0] * 12)
    env.reset()  # 24 steps of both: two phases have passed
    assert {info["phase"] for info in env.step(standing)[3]} == {2}
    env.close()


def test_the_schedule_of_a_seed_is_drawn_from_the_range():
    pytest.importorskip("pybullet")

    def frictions(**values):
        env = make_vec_env(
            Settings(n_envs=1, change_every=1, change_at="step", friction_range=(0.3, 0.4), **values).resolved()
        )
        env.reset()
        found = [env.step(np.zeros((1, 8), np.float32))[3][0]["friction"] for _ in range(5)]
        env.close()
        return found

    ours = frictions(seed=1)
    assert len(set(ours)) == 5 and all(0.3 <= friction <= 0.4 for friction in ours)
    assert frictions(schedule_seed=1, seed=2) == ours != frictions(seed=2)


def test_processes_give_the_results_of_one_process():
    pytest.importorskip("pybullet")
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (60, 2, 8)).astype(np.float32)
    results = []
    for processes, kind in ((False, DummyVecEnv), (True, SubprocVecEnv)):
        settings = Settings(n_envs=2, change_every=30, change_at="step", processes=processes).resolved()
        env = make_vec_env(settings)
        assert isinstance(env.unwrapped, kind)
        try:
            env.seed(7)
            trace = [env.reset()]
            for action in actions:
                observations, rewards, dones, infos = env.step(action)
                # stable-baselines3 hands out rewards of one process in single precision, those of several in double
                trace += [
                    observations,
                    rewards.astype(np.float32),
                    dones,
                    [(info["friction"], info["phase"]) for info in infos],
                ]
        finally:
            env.close()
        results.append(trace)
    one, several = results
    assert [one[4][0][1], one[-1][0][1]] == [0, 3]  # 59 steps of each, 118 of both: the fourth phase
    assert all(np.array_equal(a, b) for a, b in zip(one, several, strict=True))
