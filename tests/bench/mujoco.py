"""Steps per second of gymnasium's MuJoCo ant and of the slippery one, alone and four at a time, in turns on one core.

``python -m tests.bench.mujoco`` prints the rates and the ratios that they are held to, by processor time.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

from cppo_envs.vec_env import WalkerVecEnv

THEIRS, OURS = "Ant-v5", "SlipperyAnt-v5"
FOUR_THEIRS, FOUR_OURS = f"DummyVecEnv of 4 {THEIRS}", f"WalkerVecEnv of 4 {OURS}"
MAKE = {
    THEIRS: partial(gym.make, THEIRS),
    OURS: partial(gym.make, OURS, frictions=[1.0]),
}  # all of them Ant-v5's physics
STEPS_PER_TURN = 400
TURNS = 40


def single_player(name: str) -> Callable[[np.ndarray, int], None]:
    """Return a function that plays actions in one environment."""
    env = MAKE[name]()

    def play(actions: np.ndarray, seed: int) -> None:
        env.reset(seed=seed)
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return play


def four_player(name: str, vec_env: type[DummyVecEnv]) -> Callable[[np.ndarray, int], None]:
    """Return the same for four environments at a time."""
    envs = vec_env([MAKE[name]] * 4)

    def play(actions: np.ndarray, seed: int) -> None:
        envs.seed(seed)
        envs.reset()
        for four in actions.reshape(-1, 4, actions.shape[-1]):
            envs.step(four)

    return play


def measure(turns: int, warm_up: int = 2) -> dict[str, np.ndarray]:
    """Processor seconds of each for each of ``turns`` turns of uniform random actions, the same for all."""
    players = {
        THEIRS: single_player(THEIRS),
        OURS: single_player(OURS),
        FOUR_THEIRS: four_player(THEIRS, DummyVecEnv),
        FOUR_OURS: four_player(OURS, WalkerVecEnv),
    }
    seconds: dict[str, list[float]] = {name: [] for name in players}
    rng = np.random.default_rng(0)
    for turn in range(warm_up + turns):
        actions = rng.uniform(-1, 1, (STEPS_PER_TURN, 8)).astype(np.float32)
        for name, play in players.items():
            begin = time.process_time()
            play(actions, turn)
            if turn >= warm_up:
                seconds[name].append(time.process_time() - begin)
    return {name: np.array(taken) for name, taken in seconds.items()}


def report(seconds: dict[str, np.ndarray]) -> str:
    """The rates, and the medians over the turns of how many times as fast ours is."""
    rates = [f"{name:28} {STEPS_PER_TURN / np.median(taken):6.0f} steps/s" for name, taken in seconds.items()]
    alone = np.median(seconds[THEIRS] / seconds[OURS])
    four = np.median(seconds[FOUR_THEIRS] / seconds[FOUR_OURS])
    ratios = [
        f"{OURS} / {THEIRS}: {alone:.2f} (at least 0.97 wanted)",
        f"{FOUR_OURS} / {FOUR_THEIRS}: {four:.2f} (at least 1.3 wanted)",
    ]
    return "\n".join(rates + ratios)


def main() -> None:
    """Measure on one core and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=TURNS, help="turns of 400 steps each (default: %(default)s)")
    turns = parser.parse_args().turns
    if sys.platform.startswith("linux"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(report(measure(turns)))


if __name__ == "__main__":
    main()
