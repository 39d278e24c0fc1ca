"""Seconds of an update of SAC and of a DQN on images, with and without continual backpropagation, in turns on one core.

``python -m tests.bench.algorithms`` prints the ratios. SAC is stable-baselines3's at its defaults (two hidden layers of
256 units in the actor and in each of two critics, batches of 256), DQN has its NatureCNN. Continual backpropagation is
measured in its steady state: units of all ages up to the mean life time, replacements going on.
"""

from __future__ import annotations

import statistics
import time
import warnings

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from cppo import ContinualBackprop
from cppo.sb3.algorithms import ContinualDQN, ContinualSAC

TURNS = 15
EXPERIENCE = 300
"""Steps before learning."""
AGES = 20
"""Distinct ages in the steady state."""


class Noise(gym.Env):
    """Spaces and nothing behind them: an update doesn't care."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(self.np_random.normal()), False, False, {}


VECTORS = gym.spaces.Box(-5, 5, (28,), np.float32), gym.spaces.Box(-1, 1, (8,), np.float32)
IMAGES = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8), gym.spaces.Discrete(6)


def with_experience(algorithm: type[OffPolicyAlgorithm], policy: str, spaces: tuple, **options) -> OffPolicyAlgorithm:
    """Build an agent and let it act at random for long enough to fill its buffer, without learning."""
    before = {"buffer_size": EXPERIENCE, "learning_starts": EXPERIENCE}
    model = algorithm(policy, Noise(*spaces), seed=0, device="cpu", **before, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that so short a run replaces nothing
        model.learn(EXPERIENCE, log_interval=None)
    model.train(gradient_steps=2, batch_size=model.batch_size)
    return model


def age(network: ContinualBackprop) -> None:
    """Bring a network to its steady state: units live maturity + 1 / rate steps on average, all ages equally likely."""
    life = network.maturity_threshold + round(1 / network.replacement_rate)
    generator = torch.Generator().manual_seed(0)
    network.age.copy_(torch.randint(AGES, network.age.shape, generator=generator) * life // AGES)
    steps = [state["step"] for state in network.optimizer_state.optimizer.state.values()]
    for birth in range(life, 0, -life // AGES):
        for step in steps:
            step.fill_(birth)
        for layer in network.layers:
            units = (layer.age == life - birth).nonzero().flatten()
            for part in layer.parts:
                network.optimizer_state.restart(part, units)
    for step in steps:
        step.fill_(life)


def seconds(model: OffPolicyAlgorithm, gradient_steps: int) -> float:
    begin = time.perf_counter()
    model.train(gradient_steps=gradient_steps, batch_size=model.batch_size)
    return (time.perf_counter() - begin) / gradient_steps


def compare(names: tuple[str, str, str], rivals: list[OffPolicyAlgorithm], gradient_steps: int) -> None:
    """Print what an update takes, and its ratio to that of the first rival in the same turn."""
    for model in rivals[1:]:
        watched = model.continual_backprop
        for network in [watched] if isinstance(watched, ContinualBackprop) else watched.values():
            age(network)
    times = [[seconds(model, gradient_steps) for model in rivals] for _ in range(TURNS)]
    for name, model, taken in zip(names, rivals, zip(*times, strict=True), strict=True):
        ratio = statistics.median(mine / turn[0] for mine, turn in zip(taken, times, strict=True))
        replaced = getattr(getattr(model, "continual_backprop", None), "total_replaced", 0)
        milliseconds = 1000 * statistics.median(taken)
        print(f"{name:47} {milliseconds:7.3f} ms an update, {ratio:.3f} times the plain one's; {replaced} replaced")


def main() -> None:
    torch.set_num_threads(1)
    kept = {"reset_optimizer_state": False}
    for plain, continual, policy, spaces, options, gradient_steps in (
        (SAC, ContinualSAC, "MlpPolicy", VECTORS, {}, 20),
        (DQN, ContinualDQN, "CnnPolicy", IMAGES, {"target_update_interval": 10**6}, 8),
    ):
        name = f"{plain.__name__} {policy}"
        rivals = [
            with_experience(plain, policy, spaces, **options),
            with_experience(continual, policy, spaces, **options),
            with_experience(continual, policy, spaces, **options, **kept),
        ]
        compare((name, f"continual {name}", f"continual {name}, optimizer state kept"), rivals, gradient_steps)


if __name__ == "__main__":
    main()
