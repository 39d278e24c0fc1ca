"""Whether the direct test of plasticity tells networks apart: before and after fitting 300 targets one after another.

``python -m tests.bench.probe`` takes minutes. A network like those of the nature protocol (28 inputs, 2 x 256 ReLU)
fits one random target after another, 100 steps of 128 samples each, with Adam at step size 1e-3 and betas .9, .999.
Then it is probed with five targets it hasn't seen, against fresh networks. With continual backpropagation (maturity
100) likewise.
"""

from __future__ import annotations

from functools import partial

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from cppo import ContinualBackprop
from cppo.plasticity.fitting import compare_fitting, random_targets
from cppo.plasticity.layers import measure_module

TARGETS, STEPS, OBSERVATIONS = 300, 500, 2048
adam = partial(torch.optim.Adam, lr=1e-3)


def gather() -> Tensor:
    """Observations of the ant under random actions."""
    env = gym.make("FastAnt-v0")
    env.action_space.seed(0)
    env.reset(seed=0)
    seen = []
    while len(seen) < OBSERVATIONS:
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        seen.append(observation)
        if terminated or truncated:
            env.reset()
    return torch.as_tensor(np.array(seen))


def build(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(28, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
    for layer in (net[0], net[2]):
        nn.init.uniform_(layer.weight, -((3 / layer.in_features) ** 0.5), (3 / layer.in_features) ** 0.5)
        nn.init.zeros_(layer.bias)
    return net


def fit_one_after_another(net: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, n_targets: int) -> float:
    """Return the mean squared error of the last minibatch."""
    generator = torch.Generator().manual_seed(0)
    for number in range(n_targets):
        targets = random_targets(inputs, number)
        for _ in range(100):
            chosen = torch.randint(len(inputs), (128,), generator=generator)
            loss = (net(inputs[chosen]) - targets[chosen]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.item()


def main() -> None:
    torch.set_num_threads(1)
    inputs = gather()
    for n_targets, rate in ((0, 0.0), (TARGETS, 0.0), (TARGETS, 1e-4)):
        body = build(1)
        net = nn.Sequential(*body, nn.Linear(256, 1))
        optimizer = adam(net.parameters())
        if rate:
            ContinualBackprop(net, optimizer, replacement_rate=rate, maturity_threshold=100)
        if n_targets:
            fit_one_after_another(net, optimizer, inputs, n_targets)
        fitting = compare_fitting(body, build, inputs, adam, n_targets=5, n_steps=STEPS, seed=5000)
        last = measure_module(net, inputs)["2"]
        ratios = ", ".join(f"{ratio:.2f}" for ratio in fitting.ratios)
        errors = f"{np.mean(fitting.trained):.3f} against {np.mean(fitting.fresh):.3f}"
        inside = f"dead {last['dead_share']:.2f}, effective rank {last['effective_rank']:.1f}"
        print(f"{n_targets} targets, replacement rate {rate}: ratios {ratios}; errors {errors}; {inside}", flush=True)


if __name__ == "__main__":
    main()
