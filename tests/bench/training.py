"""How fast whole training runs are: CPPO on our ant against stable-baselines3's PPO on AntBulletEnv-v0, on one core.

``python -m tests.bench.training`` prints the ratio, where CPPO's time goes, and the memory of its process. Both step
four environments and learn at the nature settings (2048 steps, 160 minibatches of 128, 2 x 256 ReLU). CPPO replaces
units in its steady state, see ``tests/bench/update.py``, and logs as ``train.py`` does; stable-baselines3 logs nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

import pybullet
import pybullet_envs_gymnasium  # noqa: F401  registers AntBulletEnv-v0
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

from cppo.plasticity.callback import PlasticityCallback
from cppo.training.agent import build_model
from cppo.training.progress import Progress
from cppo.training.starting import build
from tests.bench.update import age, nature, seconds, with_rollout

ROLLOUT = 2048
TURNS = 8
THEIRS = "PPO of stable-baselines3 on AntBulletEnv-v0"
UPDATES = ("autograd", "closed-form")
"""CPPO's, on SlipperyAnt-v0."""
Turn = Callable[[], None]


def theirs() -> Turn:
    """A turn, a rollout and an update, of stable-baselines3's PPO."""
    settings = nature(algo="ppo", env="AntBulletEnv-v0", n_envs=4)
    model = build_model(settings, make_vec_env("AntBulletEnv-v0", settings.n_envs))
    model.verbose = 0
    return lambda: model.learn(ROLLOUT, reset_num_timesteps=False)


def ours(folder: str, update: str) -> tuple[Turn, PPO]:
    """A turn of CPPO with everything that a run does meanwhile, and the agent."""
    settings = nature(algo="cppo", frictions=(0.8,), n_envs=4, processes=False, update=update)
    model = build(settings)
    model.set_logger(configure(folder, ["csv", "tensorboard"]))
    model.learn(ROLLOUT)
    age(model)
    callbacks = [Progress(bar=False)]
    if settings.plasticity_every:
        callbacks.append(PlasticityCallback(settings.plasticity_every))
    return lambda: model.learn(ROLLOUT, callback=callbacks, reset_num_timesteps=False), model


def taken(turn: Turn) -> float:
    begin = time.perf_counter()
    turn()
    return time.perf_counter() - begin


class Stopwatch:
    """Adds up the seconds spent in functions by name, from when they are watched on."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def watch(self, owner: Any, function: str, name: str) -> None:
        timed = getattr(owner, function)

        @wraps(timed)
        def run(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return timed(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - begin

        setattr(owner, function, run)


def where_it_goes(turn: Turn, model: PPO, update: str, turns: int) -> dict[str, float]:
    """Seconds of a turn by what they are spent on."""
    watch = Stopwatch()
    watch.watch(pybullet, "stepSimulation", "physics")
    watch.watch(model.env, "step", "step")
    watch.watch(model.policy, "forward", "inference")
    watch.watch(model, "collect_rollouts", "rollout")
    watch.watch(model, "train", "train")
    plain = with_rollout("ppo-adam", update=update)
    totals, updates = [], []
    for _ in range(turns):
        totals.append(taken(turn))
        updates.append(seconds(plain))
    spent = {name: each / turns for name, each in watch.seconds.items()}
    total, learning = statistics.mean(totals), statistics.mean(updates)
    return {
        "physics": spent["physics"],
        "environment around it": spent["step"] - spent["physics"],
        "inference": spent["inference"],
        "rollout bookkeeping": spent["rollout"] - spent["step"] - spent["inference"],
        "update, as PPO's with the same Adam": learning,
        "replacement": spent["train"] - learning,
        "logs and the rest": total - spent["rollout"] - spent["train"],
        "in all": total,
    }


def machine() -> str:
    """The processor's name as Linux tells it, or what Python knows."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        return f"{names[0]}, {len(names)} cores"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=TURNS, help="rollouts and updates of each (default: %(default)s)")
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    if sys.platform.startswith("linux"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    warnings.filterwarnings("ignore", "no unit will be replaced|learning ended without")
    print(f"on one core of {machine()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        contestants = {update: ours(os.path.join(folder, update), update) for update in UPDATES}
        # Of this process with both agents and eight ants, before stable-baselines3's own are there.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        turns_of = {THEIRS: theirs()} | {name: turn for name, (turn, _) in contestants.items()}
        turns_of[THEIRS]()
        times = [{name: taken(turn) for name, turn in turns_of.items()} for _ in range(turns)]
        for name in turns_of:
            rate = ROLLOUT / statistics.median(each[name] for each in times)
            ratio = statistics.median(each[THEIRS] / each[name] for each in times)
            print(f"{name:46} {rate:5.0f} steps/s, ratio {ratio:.2f}")
        spent = {name: where_it_goes(*contestants[name], name, turns) for name in UPDATES}
    print("where CPPO's time goes, microseconds a step:")
    for part in spent[UPDATES[0]]:
        print(f"  {part:36} " + ", ".join(f"{1e6 * spent[name][part] / ROLLOUT:6.1f} {name}" for name in UPDATES))
    replaced = [model.continual_backprop.total_replaced for _, model in contestants.values()]
    print(f"units replaced meanwhile: {replaced}; memory of the process: {memory:.0f} MiB")


if __name__ == "__main__":
    main()
