"""What each way to save time saves by itself, in turns on one core: the table of ``docs/speed.md``.

``python -m tests.bench.levers`` prints microseconds per environment step of the environments, of a pass through the
policy in a rollout, and of an update at nature settings (160 minibatches of 128 per 2048 steps).
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from unittest import mock

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecMonitor
from torch.distributions import Distribution

from cppo.fast import closed_form
from cppo.fast.policy import LeanMlpPolicy, QuickMlpPolicy
from cppo_envs.vec_env import WalkerVecEnv
from tests.bench.update import seconds, with_rollout

N_ENVS, STEPS, ROLLOUT = 4, 60, 2048
TURNS, COMPILER = 9, "inductor"
Timed = Callable[[], float]


def stepping(kind: type[DummyVecEnv], **arguments: object) -> Timed:
    """Microseconds of a step of the environments with random actions."""
    make = partial(gym.make, "SlipperyAnt-v0", frictions=[0.8], **arguments)
    env, rng = VecMonitor(kind([make] * N_ENVS)), np.random.default_rng(0)

    def run() -> float:
        env.seed(0)
        env.reset()
        actions = rng.uniform(-1, 1, (STEPS, N_ENVS, 8)).astype(np.float32)
        begin = time.perf_counter()
        for each in actions:
            env.step(each)
        return 1e6 * (time.perf_counter() - begin) / (STEPS * N_ENVS)

    return run


def passing(kind: type[ActorCriticPolicy], between: VecEnv) -> Timed:
    """Microseconds per environment of a pass through the policy, a step of the environments after each."""
    model = with_rollout("cppo")
    policy = kind(
        model.observation_space,
        model.action_space,
        model.lr_schedule,
        net_arch=[256, 256],
        activation_fn=torch.nn.ReLU,
    )
    policy.set_training_mode(False)

    def run() -> float:
        observations, seconds = between.reset(), 0.0
        for _ in range(STEPS):
            begin = time.perf_counter()
            with torch.no_grad():
                actions = policy(torch.as_tensor(observations))[0]
            seconds += time.perf_counter() - begin
            observations = between.step(actions.numpy().clip(-1, 1))[0]
        return 1e6 * seconds / (STEPS * N_ENVS)

    return run


def updating(around: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext, **options) -> Timed:
    """Microseconds per environment step of an update of PPO, and of what is given."""
    flags = options.pop("flags", {})
    model: PPO = with_rollout("ppo-adam", **options)
    for group in model.policy.optimizer.param_groups:
        group.update(flags)

    def run() -> float:
        with around():
            begin = time.perf_counter()
            model.train()
            return 1e6 * (time.perf_counter() - begin) / ROLLOUT

    return run


def print_compiled(turns: int) -> None:
    """Compare an update whose passes torch.compile compiles; before the others, whose switches have it compile anew."""
    plain, model = with_rollout("ppo-adam"), with_rollout("ppo-adam")
    model.policy.evaluate_actions = torch.compile(model.policy.evaluate_actions, backend=COMPILER)
    begin = time.perf_counter()
    model.train()
    compiling = time.perf_counter() - begin
    times = [(seconds(plain), seconds(model)) for _ in range(turns)]
    before, after = (1e6 * statistics.median(each) / ROLLOUT for each in zip(*times, strict=True))
    print(f"update: passes by torch.compile: {before:.1f} -> {after:.1f} us a step; its first took {compiling:.1f} s")


@contextlib.contextmanager
def without_validation() -> Iterator[None]:
    Distribution.set_default_validate_args(False)
    yield
    Distribution.set_default_validate_args(True)


@contextlib.contextmanager
def without_clipping() -> Iterator[None]:
    clip = torch.nn.utils.clip_grad_norm_
    torch.nn.utils.clip_grad_norm_ = lambda *_, **__: None
    yield
    torch.nn.utils.clip_grad_norm_ = clip


@contextlib.contextmanager
def with_two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def as_torch_would(optimizer: torch.optim.Optimizer) -> None:
    """Leave the choice of Adam's implementation to torch."""
    for group in optimizer.param_groups:
        group["fused"] = None


def levers() -> dict[str, Timed]:
    ants = VecMonitor(WalkerVecEnv([partial(gym.make, "SlipperyAnt-v0", frictions=[0.8])] * N_ENVS))
    return {
        "environment: DummyVecEnv, original model": stepping(DummyVecEnv, model="original"),
        "environment: WalkerVecEnv, original model": stepping(WalkerVecEnv, model="original"),
        "environment: WalkerVecEnv, merged model": stepping(WalkerVecEnv),
        "environment: SubprocVecEnv, merged model": stepping(SubprocVecEnv),
        "inference: MlpPolicy": passing(ActorCriticPolicy, ants),
        "inference: LeanMlpPolicy": passing(LeanMlpPolicy, ants),
        "inference: QuickMlpPolicy": passing(QuickMlpPolicy, ants),
        "update: stable-baselines3's": updating(),
        "update: no validation of distributions": updating(without_validation),
        "update: no clipping of gradients": updating(without_clipping),
        "update: Adam foreach": updating(flags={"foreach": True}),
        "update: Adam fused": updating(flags={"fused": True}),
        "update: two threads": updating(with_two_threads),
        "update: closed form (with fused Adam)": updating(update="closed-form"),
        "  without torch's fused Adam": updating(
            partial(mock.patch.object, closed_form, "ask_for_fused_steps", as_torch_would), update="closed-form"
        ),
    }


def main() -> None:
    torch.set_num_threads(1)
    print_compiled(TURNS)
    timed = levers()
    times = [{name: run() for name, run in timed.items()} for _ in range(TURNS)]
    for name in timed:
        print(f"{name:44} {statistics.median(each[name] for each in times):6.1f} us a step")


if __name__ == "__main__":
    main()
