"""Steps per second of the environments, and of PyBullet alone, taken in turns on one core.

``python -m tests.bench.environment`` prints the rates and the ratios that FastAnt-v0 is held to.
"""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pybullet

import cppo_envs  # noqa: F401  registers the environments
from cppo_envs.ant import FastAnt

ORIGINAL, BARE, FAST, SLIPPERY = "AntBulletEnv-v0", "PyBullet alone", "FastAnt-v0", "SlipperyAnt-v0"
STEPS_PER_TURN = 250
TURNS = 40


class UnfilteredAnt(FastAnt):
    """The ant with its needless collision pairs, as PyBullet has it when nobody does anything about them."""

    model = dataclasses.replace(FastAnt.model, self_collision=True)


Play = Callable[[np.ndarray, int, list[int]], float]


def environment_player(environment_id: str, **arguments: Any) -> Play:
    """Return a function that plays actions and returns the seconds they took, resets within included."""
    env = gym.make(environment_id, disable_env_checker=True, **arguments)
    env.reset()  # AntBulletEnv's first reset loads the world

    def play(actions: np.ndarray, seed: int, ends: list[int]) -> float:
        env.reset(seed=seed)
        begin = time.perf_counter()
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return time.perf_counter() - begin

    return play


def bare_player() -> Play:
    """Return the same for PyBullet with nothing but torques set and the simulation stepped.

    It goes through the same episodes as the environments; its resets are not in the time taken.
    """
    ant = UnfilteredAnt()
    client, robot, joints = ant._client, ant._robot, ant._joints

    def play(actions: np.ndarray, seed: int, ends: list[int]) -> float:
        ant.reset(seed=seed)
        seconds = 0.0
        for episode in np.split(np.clip(actions, -1, 1) * ant.model.torque, ends):
            torques = episode.tolist()
            begin = time.perf_counter()
            for forces in torques:
                pybullet.setJointMotorControlArray(
                    robot, joints, pybullet.TORQUE_CONTROL, forces=forces, physicsClientId=client
                )
                pybullet.stepSimulation(client)
            seconds += time.perf_counter() - begin
            ant.reset()
        return seconds

    return play


def find_ends(ant: FastAnt, actions: np.ndarray, seed: int) -> list[int]:
    """Play actions and return after how many of them each episode ended."""
    ant.reset(seed=seed)
    ends = []
    for count, action in enumerate(actions, start=1):
        if ant.step(action)[2]:
            ends.append(count)
            ant.reset()
    return ends


def players() -> dict[str, Play]:
    """The contestants, the original only where its package is installed."""
    playing = {
        BARE: bare_player(),
        FAST: environment_player(FAST),
        SLIPPERY: environment_player(SLIPPERY, frictions=[0.8]),
    }
    try:
        import pybullet_envs_gymnasium  # noqa: F401  registers the original
    except ImportError:
        return playing
    return playing | {ORIGINAL: environment_player(ORIGINAL)}


def measure(turns: int = 40, warm_up: int = 2) -> dict[str, np.ndarray]:
    """Seconds of each contestant for each of ``turns`` turns of 250 uniform random actions.

    They go through the same episodes one after the other, so that whatever else the machine does slows all of them.
    """
    contestants, scout = players(), FastAnt()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    rng = np.random.default_rng(0)
    for turn in range(warm_up + turns):
        actions = rng.uniform(-1, 1, (STEPS_PER_TURN, 8)).astype(np.float32)
        ends = find_ends(scout, actions, seed=turn)
        for name, play in contestants.items():
            taken = play(actions, turn, ends)
            if turn >= warm_up:
                seconds[name].append(taken)
    return {name: np.array(taken) for name, taken in seconds.items()}


def speed_ratio(seconds: dict[str, np.ndarray], one: str, other: str) -> float:
    """How many times as fast ``one`` is as ``other``: the median over turns, each compared within itself."""
    return float(np.median(seconds[other] / seconds[one]))


def report(seconds: dict[str, np.ndarray]) -> str:
    """The rates and FastAnt's ratios to the others as lines of text."""
    lines = [f"{name:16} {STEPS_PER_TURN / np.median(taken):6.0f} steps/s" for name, taken in seconds.items()]
    if ORIGINAL in seconds:
        lines.append(f"{FAST} / {ORIGINAL}: {speed_ratio(seconds, FAST, ORIGINAL):.2f} (at least 1.9 wanted)")
    lines.append(f"{FAST} / {BARE}: {speed_ratio(seconds, FAST, BARE):.2f} (at least 0.75 wanted)")
    lines.append(f"{SLIPPERY} / {FAST}: {speed_ratio(seconds, SLIPPERY, FAST):.2f}")
    return "\n".join(lines)


def main() -> None:
    """Measure on one core and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=TURNS, help="turns of 250 steps each (default: %(default)s)")
    turns = parser.parse_args().turns
    if sys.platform.startswith("linux"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(report(measure(turns)))


if __name__ == "__main__":
    main()
