"""Seconds of an update of PPO with each remedy against PPO with the same optimizer, taken in turns on one core.

``python -m tests.bench.remedies`` prints their ratios, at the settings of the nature protocol.
"""

from __future__ import annotations

import statistics

import torch

from cppo.settings.presets import METHODS, preset
from tests.bench.update import seconds, with_rollout

TURNS = 7
PLAIN = "ppo-adam"


def main() -> None:
    torch.set_num_threads(1)
    algos = [PLAIN, *(algo for algo in METHODS["nature"] if len(preset("nature", algo)["remedies"]) == 1)]
    models = {algo: with_rollout(algo) for algo in algos if algo.startswith("ppo")}
    times: dict[str, list[float]] = {algo: [] for algo in models}
    for _ in range(TURNS):
        for algo, model in models.items():
            times[algo].append(seconds(model))
    for algo, taken in times.items():
        ratios = [mine / plain for mine, plain in zip(taken, times[PLAIN], strict=True)]
        print(f"{algo:20} {1000 * statistics.median(taken) / 160:6.3f} ms a minibatch, {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
