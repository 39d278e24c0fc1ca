"""Returns of a trained agent on the ant as PyBullet loads it and on the merged one: is their distribution the same?

``python -m tests.bench.merged_model RUN`` plays 200 episodes on each with the agent of a run of ``train.py``, other
starts on each, prints means and the two-sample Kolmogorov-Smirnov test, and draws both distributions (``--plot``).
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from scipy import stats
from stable_baselines3.common.vec_env import VecMonitor

from cppo.runs.folder import RunFolder
from cppo.training.trained_policy import read_policy
from cppo_envs.vec_env import WalkerVecEnv

AT_ONCE = 20
MODELS = ("original", "merged")


def returns(run: Path, model: str, episodes: int, first_seed: int) -> np.ndarray:
    """Returns of deterministic episodes, each from a start of its own."""
    env = VecMonitor(WalkerVecEnv([partial(gym.make, "FastAnt-v0", model=model)] * AT_ONCE))
    policy = read_policy(RunFolder(run), env)[0]
    found: list[float] = []
    for seed in range(first_seed, first_seed + episodes, AT_ONCE):
        env.seed(seed)
        observations, ended = env.reset(), np.full(AT_ONCE, np.nan)
        while np.isnan(ended).any():
            observations, _, dones, infos = env.step(policy.predict(observations, deterministic=True)[0])
            for number in np.flatnonzero(dones & np.isnan(ended)):
                ended[number] = infos[number]["episode"]["r"]
        found += ended.tolist()
    env.close()
    return np.array(found[:episodes])


def plot(samples: dict[str, np.ndarray], path: Path) -> None:
    """Draw the share of episodes with at most each return."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    for (name, sample), style in zip(samples.items(), ("-", "--"), strict=True):
        axes.step(np.sort(sample), np.arange(1, len(sample) + 1) / len(sample), style, where="post", label=name)
    axes.set(xlabel="return of an episode", ylabel="share of episodes with at most this return", ylim=(0, 1))
    axes.legend(title=f"{len(sample)} episodes each", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run of train.py on FastAnt-v0 or SlipperyAnt-v0")
    parser.add_argument("--episodes", type=int, default=200, help="on each (default: %(default)s)")
    parser.add_argument("--plot", type=Path, help="where to draw the distributions")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    samples = {
        model: returns(arguments.run, model, arguments.episodes, first_seed=number * 10_000)
        for number, model in enumerate(MODELS)
    }
    for model, sample in samples.items():
        deciles = ", ".join(f"{each:.0f}" for each in np.quantile(sample, [0.1, 0.5, 0.9]))
        print(
            f"{model:9} mean {sample.mean():7.1f}, standard deviation {sample.std():6.1f}, deciles 1, 5, 9: {deciles}"
        )
    test = stats.ks_2samp(*samples.values())
    print(f"Kolmogorov-Smirnov: distance {test.statistic:.3f}, p = {test.pvalue:.2f}")
    if arguments.plot:
        plot(samples, arguments.plot)


if __name__ == "__main__":
    main()
