"""Sizes at which the benchmarks only show that they run to their end, in seconds."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

SIZES: dict[str, dict[str, Any]] = {
    "update": {"TURNS": 1, "SETTINGS": {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "net_arch": (8, 8)}},
    "training": {"TURNS": 1, "ROLLOUT": 64},
    "levers": {"TURNS": 1, "N_ENVS": 1, "STEPS": 4, "ROLLOUT": 16, "COMPILER": "eager"},
    "environment": {"TURNS": 1, "STEPS_PER_TURN": 10},
    "mujoco": {"TURNS": 1, "STEPS_PER_TURN": 8},
    "remedies": {"TURNS": 1},
    "algorithms": {"TURNS": 1},
    "plasticity": {"BEFORE": 300, "STEPS": 40},
    "benchmarks": {"PLAIN_STEPS": 20, "SEEDS": 2, "STEPS": 20, "MNIST": ((100, 40),)},
    "load": {"RUNS": 2, "ROWS_OF_MANY": 20, "ROWS": (20,)},
    "probe": {"TARGETS": 1, "STEPS": 5},
    "merged_model": {"AT_ONCE": 2},
}


def shrink(put: Callable[[Any, str, Any], None]) -> None:
    """Give every benchmark its tiny sizes.

    :param put: ``setattr``, or one that takes it back
    """
    for benchmark, sizes in SIZES.items():
        module = import_module(f"tests.bench.{benchmark}")
        for name, value in sizes.items():
            assert hasattr(module, name), f"{benchmark} has no {name}"
            put(module, name, value)
