"""An environment whose episodes can be reckoned by hand, runs with agents that have learnt nothing, and runs that are
nothing but figures."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from cppo.report import figures
from cppo.runs.folder import Ending, RunFolder
from cppo.settings.settings import Settings
from cppo.training.agent import build_model
from cppo.training.environments import make_vec_env

MakeRun = Callable[..., RunFolder]


class Corridor(gym.Env):
    """Each step is half a metre along x and earns 2; the door comes after 2 + seed % 3 steps.

    The door terminates an episode of 2 or 3 steps; one of 4 steps is truncated. A picture is grey, 10 levels a step.
    """

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 60}  # noqa: RUF012

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.door = 0, 2 + (seed or 0) % 3
        return np.zeros(2, np.float32), {"x_position": 10.0}

    def step(self, action):
        self.steps += 1
        over, short = self.steps == self.door, self.door < 4
        return np.zeros(2, np.float32), 2.0, over and short, over and not short, {"x_position": 10 + self.steps / 2}

    def render(self):
        return np.full((201, 333, 3), 10 * self.steps, np.uint8)


class BlindCorridor(Corridor):
    """The corridor of which there are no pictures."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def render(self):
        return None


for environment in (Corridor, BlindCorridor):
    gym.register(f"Test{environment.__name__}-v0", environment, disable_env_checker=True)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make the folder of a run that has saved a small agent, untrained."""

    def make(env: str = "TestCorridor-v0", steps_trained: int = 0, **settings) -> RunFolder:
        resolved = Settings(env=env, algo="ppo", net_arch=(8, 8), n_envs=1, **settings).resolved()
        folder = RunFolder(tmp_path / f"run-{env}")
        folder.create(resolved, ["train.py"])
        vec_env = make_vec_env(resolved)
        build_model(resolved, vec_env).save(folder.model)
        vec_env.close()
        folder.write_ending(Ending("finished", steps_trained, model=folder.model_digest()))
        folder.progress.write_text(f"time/total_timesteps\n{steps_trained}\n")
        return folder

    return make


def write_folder(path: Path, rows: Sequence[dict], **settings) -> Path:
    """Write the folder of a run that is nothing but settings and rows of figures."""
    folder = RunFolder(path)
    folder.create(Settings(**({"algo": "ppo", "n_envs": 1} | settings)).resolved(), ["train.py"]).release()
    with folder.progress.open("w", newline="") as file:
        writer = csv.DictWriter(file, dict.fromkeys(key for row in rows for key in row))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Write the folder of a run by its name."""
    return lambda name, rows, **settings: write_folder(tmp_path / name, rows, **settings)


LOSS = {"ppo": 0.12, "ppo-l2": 0.05, "cppo-l2": 0.0}
"""How much of its learning a method loses with each phase, in stories."""


def story(algo: str, seed: int, phases: int = 4, phase_steps: int = 20_480) -> list[dict]:
    """Rows as a training writes them, of an agent that learns each friction anew and may lose its plasticity.

    Its inside is measured with every second row.
    """
    generator, rows = np.random.default_rng([seed, len(algo)]), []
    talent = generator.normal(1, 0.12)
    for step in range(2048, phases * phase_steps + 1, 2048):
        phase = (step - 1) // phase_steps
        plastic = max(0.1, 1 - LOSS[algo] * phase)
        learnt = 1 - np.exp(-4 * (step - phase * phase_steps) / phase_steps)
        row = {
            "time/total_timesteps": step,
            "environment/phase": phase,
            "environment/phases_met": phase if (step - 1) % phase_steps < 2048 else "",
            "episodes/ended": 3,
            "episodes/return": 2000 * talent * plastic * learnt + 100 * generator.normal() + 300,
        }
        for layer in () if step % 4096 else ("actor.0", "actor.1", "critic.0", "critic.1"):
            row[f"plasticity/{layer}/dead_share"] = (1 - plastic) * 0.6 * talent + 0.02 * generator.random()
            row[f"plasticity/{layer}/effective_rank"] = 180 * plastic + 5 * generator.random()
        if algo.startswith("cppo"):
            row |= {"cbp/replaced": 2, "cbp/actor.0/age_median": step / 12.8}
        rows.append(row)
    return rows


def write_stories(folder: Path, seeds: int) -> list[Path]:
    """Write runs of all methods that tell a story, with the same frictions for all."""
    values = {"total_timesteps": 4 * 20_480, "change_every": 20_480, "schedule_seed": 0}
    return [
        write_folder(folder / f"{algo}-{seed}", story(algo, seed), algo=algo, seed=seed, **values)
        for algo in LOSS
        for seed in range(seeds)
    ]


@pytest.fixture
def write_story(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write runs that tell a story."""
    return lambda seeds: write_stories(tmp_path, seeds)


@pytest.fixture
def one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have reports draw no more than what was replaced, as drawing is most of their time."""
    draw = figures._figures
    few = lambda comparison: (each for each in draw(comparison) if each[0] == "insides/cbp_replaced")  # noqa: E731
    monkeypatch.setattr(figures, "_figures", few)


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs that tell a story, two of each method, to be read only."""
    return write_stories(tmp_path_factory.mktemp("stories"), seeds=2)
