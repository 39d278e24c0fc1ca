"""What measuring plasticity costs at its default interval, as a share of the training time, on one core.

``python -m tests.bench.plasticity`` prints it for PPO on the ant in the settings of the nature protocol, for SAC at its
defaults, and for a DQN with a NatureCNN; the latter two learn from noise, so that their environments cost nothing.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger

from cppo import PlasticityCallback
from cppo.training.agent import build_model
from cppo.training.environments import make_vec_env
from tests.bench.algorithms import IMAGES, VECTORS, Noise
from tests.bench.update import nature

BEFORE, STEPS = 2000, 400
"""Steps of SAC and DQN before they learn, and while they are timed."""


class Stopwatch:
    """Times a callback and the updates of the model it measures.

    :param model: the model
    :param callback: the callback
    """

    def __init__(self, model: BaseAlgorithm, callback: PlasticityCallback) -> None:
        self.callback = callback
        self.in_callback = 0.0
        self.watched: list[float] = []
        self.unwatched: list[float] = []
        self._train, self._end = model.train, callback._on_rollout_end
        model.train = self.train
        callback._on_rollout_end = self.on_rollout_end

    def train(self, *args: Any, **kwargs: Any) -> None:
        times = self.watched if self.callback._watch._handles else self.unwatched
        begin = time.perf_counter()
        self._train(*args, **kwargs)
        times.append(time.perf_counter() - begin)

    def on_rollout_end(self) -> None:
        begin = time.perf_counter()
        self._end()
        self.in_callback += time.perf_counter() - begin

    @property
    def cost(self) -> float:
        """Seconds spent on measuring."""
        if not (self.watched and self.unwatched):
            return self.in_callback
        extra = statistics.median(self.watched) - statistics.median(self.unwatched)
        return self.in_callback + extra * len(self.watched)


def ppo() -> None:
    settings = nature(algo="cppo-l2", env="FastAnt-v0")
    model = build_model(settings, make_vec_env(settings))
    model.set_logger(Logger(None, []))
    model.learn(2 * settings.n_steps * settings.n_envs)
    callback = PlasticityCallback(settings.plasticity_every)
    callback.init_callback(model)
    callback._is_due = lambda enough: (
        callback._rollouts == settings.plasticity_every
    )  # leave out a run's very first one
    watch = Stopwatch(model, callback)
    begin = time.perf_counter()
    model.learn(settings.plasticity_every * settings.n_steps * settings.n_envs, callback)
    _say("PPO, ant, nature settings", watch, time.perf_counter() - begin)


def off_policy(name: str, algorithm: Any, policy: str, spaces: tuple, steps: int, **options: Any) -> None:
    """Time some steps and one measurement, and scale the steps up to the interval between two."""
    model = algorithm(
        policy, Noise(*spaces), buffer_size=BEFORE + 100, learning_starts=BEFORE, seed=0, device="cpu", **options
    )
    model.set_logger(Logger(None, []))
    model.learn(BEFORE, log_interval=None)
    callback = PlasticityCallback()
    callback.init_callback(model)
    interval = callback._interval()
    callback._rollouts = interval - steps // model.train_freq.frequency
    callback._is_due = lambda enough: callback._rollouts == interval
    watch = Stopwatch(model, callback)
    begin = time.perf_counter()
    model.learn(steps, callback, log_interval=None, reset_num_timesteps=False)
    plain = time.perf_counter() - begin - watch.cost
    _say(name, watch, plain * 20_480 / steps + watch.cost)


def _say(name: str, watch: Stopwatch, seconds: float) -> None:
    share = watch.cost / (seconds - watch.cost)
    print(f"{name:28} measuring takes {watch.cost:.3f} s in {seconds:.1f} s: {100 * share:.2f} % of the training time")


def main() -> None:
    torch.set_num_threads(1)
    ppo()
    off_policy("SAC at its defaults", SAC, "MlpPolicy", VECTORS, STEPS)
    off_policy("DQN with a NatureCNN", DQN, "CnnPolicy", IMAGES, STEPS)


if __name__ == "__main__":
    main()
