"""Processor seconds of an update of PPO and of CPPO with the same optimizer, taken in turns on one core.

``python -m tests.bench.update`` prints their ratio and where the difference goes. CPPO is measured in its steady state:
units of all ages up to the mean life time, weights young since their unit was replaced, replacements going on.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from cppo import CPPO
from cppo.settings.settings import Settings
from cppo.training.agent import build_model

TURNS = 15
SETTINGS: dict[str, Any] = {}
"""What is not as the protocol says: nothing, see ``tests/bench/tiny.py``."""


class Noise(gym.Env):
    """The spaces of the ant and nothing behind them: an update doesn't care."""

    observation_space = gym.spaces.Box(-5, 5, (28,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (8,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action):
        return self._observe(), float(self.np_random.normal()), False, False, {}

    def _observe(self):
        return self.np_random.normal(size=28).astype(np.float32)


def nature(**options: Any) -> Settings:
    """Settings of the nature protocol."""
    return Settings(**SETTINGS | options).resolved()


def with_rollout(algo: str, **options: object) -> PPO:
    """Build the agent of the nature protocol with a rollout to learn from."""
    settings = nature(algo=algo, env="FastAnt-v0", **options)
    model = build_model(settings, DummyVecEnv([Noise] * settings.n_envs))
    _, callback = model._setup_learn(settings.n_steps * settings.n_envs)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, settings.n_steps)
    model.train()
    return model


def age(model: CPPO) -> None:
    """Bring the agent to its steady state: units live maturity + 1 / rate steps on average, all ages equally likely."""
    cbp = model.continual_backprop
    life = cbp.maturity_threshold + round(1 / cbp.replacement_rate)
    generator = torch.Generator().manual_seed(0)
    cbp.age.copy_(torch.randint(life, cbp.age.shape, generator=generator))
    for state in model.policy.optimizer.state.values():
        state["step"].fill_(life)
    fresh = cbp.optimizer_state
    for layer in cbp.layers:
        for part in layer.parts:
            fresh.replaced_at[fresh.birth_map.spans[part]] = life - layer.age
    fresh.load_state_dict(fresh.state_dict())  # so that it looks at the births anew


def seconds(model: PPO) -> float:
    begin = time.process_time()  # on a busy machine the clock would count what others do
    model.train()
    return time.process_time() - begin


def main() -> None:
    torch.set_num_threads(1)
    rivals = {
        "PPO": with_rollout("ppo-adam"),
        "PPO with torch's fused Adam": with_rollout("ppo-adam"),
        "CPPO": with_rollout("cppo"),
        "CPPO, optimizer state kept": with_rollout("cppo", reset_optimizer_state=False),
    }
    for group in rivals["PPO with torch's fused Adam"].policy.optimizer.param_groups:
        group["fused"] = True
    for model in rivals.values():
        if isinstance(model, CPPO):
            age(model)
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(TURNS):
        for name, model in rivals.items():
            times[name].append(seconds(model))
    minibatches = 160
    for name, taken in times.items():
        ratios = [mine / plain for mine, plain in zip(taken, times["PPO"], strict=True)]
        milliseconds = 1000 * statistics.median(taken) / minibatches
        print(f"{name:28} {milliseconds:6.3f} ms a minibatch, {statistics.median(ratios):.3f} times PPO's")
    print(f"units replaced meanwhile: {rivals['CPPO'].continual_backprop.total_replaced}")


if __name__ == "__main__":
    main()
