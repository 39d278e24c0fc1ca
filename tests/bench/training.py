"""How fast whole training runs are: CPPO on our ant against stable-baselines3's PPO on AntBulletEnv-v0, on one core.

``python -m tests.bench.training`` prints each one's speed and its ratio to two others, medians with the least and the
most of all turns: to stable-baselines3's PPO as it is, and to the same with the faster policy of our runs
(``LeanMlpPolicy``). Seconds are the processor's, as others may use the machine. All step four environments and learn at
the nature settings (2048 steps, 160 minibatches of 128, 2 x 256 ReLU). CPPO replaces units in its steady state, see
``tests/bench/update.py``, and logs as ``train.py`` does; stable-baselines3 logs nothing. Then come where CPPO's time
goes, and the memory of its process.
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
from stable_baselines3.common.env_util import make_vec_env as sb3_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.policies import ActorCriticPolicy

from cppo.fast.policy import LeanMlpPolicy
from cppo.plasticity.callback import PlasticityCallback
from cppo.training.agent import PPO_FIELDS, draw_initial_weights, policy_arguments
from cppo.training.environments import make_vec_env
from cppo.training.progress import Progress
from cppo.training.starting import build
from tests.bench.update import age, nature, seconds, with_rollout

ROLLOUT = 2048
TURNS = 8
PLAIN = "PPO of stable-baselines3 on AntBulletEnv-v0"
LEAN = "  the same with our policy class"
ON_OURS = "PPO of stable-baselines3 on SlipperyAnt-v0"
UPDATES = ("autograd", "closed-form")
"""CPPO's, on SlipperyAnt-v0."""
Turn = Callable[[], None]


def theirs(policy: type[ActorCriticPolicy] | str, env: str, **options: Any) -> Turn:
    """A turn, a rollout and an update, of stable-baselines3's PPO with one of its policies or ours."""
    settings = nature(algo="ppo", env=env, n_envs=4, processes=False, **options)
    envs = make_vec_env(settings) if settings.is_slippery else sb3_vec_env(env, settings.n_envs)
    arguments = {name: getattr(settings, name) for name in PPO_FIELDS} | {"verbose": 0}
    model = PPO(policy, envs, policy_kwargs=policy_arguments(settings), **arguments)
    draw_initial_weights(model.policy, settings)
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
    begin = time.process_time()
    turn()
    return time.process_time() - begin


def spread(values: list[float], form: str) -> str:
    """The median, the least and the most."""
    middle, least, most = (format(each, form) for each in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({least} to {most})"


class Stopwatch:
    """Adds up the seconds spent in functions by name, from when they are watched on."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def watch(self, owner: Any, function: str, name: str) -> None:
        timed = getattr(owner, function)

        @wraps(timed)
        def run(*args: Any, **kwargs: Any) -> Any:
            begin = time.process_time()
            try:
                return timed(*args, **kwargs)
            finally:
                self.seconds[name] += time.process_time() - begin

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
        turns_of = {
            PLAIN: theirs("MlpPolicy", "AntBulletEnv-v0"),
            LEAN: theirs(LeanMlpPolicy, "AntBulletEnv-v0"),
            ON_OURS: theirs("MlpPolicy", "SlipperyAnt-v0", frictions=(0.8,)),
        }
        for turn in turns_of.values():
            turn()
        turns_of |= {f"CPPO on SlipperyAnt-v0, {name}": turn for name, (turn, _) in contestants.items()}
        times = [{name: taken(turn) for name, turn in turns_of.items()} for _ in range(turns)]
        for name in turns_of:
            rate = spread([ROLLOUT / each[name] for each in times], ".0f")
            ratios = [spread([each[other] / each[name] for each in times], ".2f") for other in (PLAIN, LEAN)]
            print(f"{name:44} {rate} steps/s; ratio {ratios[0]}, to the second {ratios[1]}")
        spent = {name: where_it_goes(*contestants[name], name, turns) for name in UPDATES}
    print("where CPPO's time goes, microseconds a step:")
    for part in spent[UPDATES[0]]:
        print(f"  {part:36} " + ", ".join(f"{1e6 * spent[name][part] / ROLLOUT:6.1f} {name}" for name in UPDATES))
    replaced = [model.continual_backprop.total_replaced for _, model in contestants.values()]
    print(f"units replaced meanwhile: {replaced}; memory of the process: {memory:.0f} MiB")


if __name__ == "__main__":
    main()
