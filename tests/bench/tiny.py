"""Sizes at which the benchmarks only show that they run to their end, in seconds."""

import contextlib
import io
import runpy
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any


def run_here(command: Sequence[str | Path]) -> tuple[float, float, float]:
    """Run a command of Python in this process, which has imported most of what it needs; measure nothing."""
    option, *rest = map(str, command)
    sys.argv[1:] = rest[1:] if option == "-m" else rest
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            if option == "-c":
                exec(rest[0], {})
            elif option == "-m":
                runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(option, run_name="__main__")
    except SystemExit as end:
        assert not end.code
    return 0.0, 0.0, 0.0


SIZES: dict[str, dict[str, Any]] = {
    "update": {"TURNS": 1, "SETTINGS": {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "net_arch": (8, 8)}},
    "training": {"TURNS": 1, "ROLLOUT": 64},
    "levers": {"TURNS": 1, "N_ENVS": 1, "STEPS": 4, "ROLLOUT": 16, "COMPILER": "eager"},
    "environment": {"TURNS": 1, "STEPS_PER_TURN": 10},
    "mujoco": {"TURNS": 1, "STEPS_PER_TURN": 8},
    "remedies": {"TURNS": 1},
    "algorithms": {"TURNS": 1, "EXPERIENCE": 20, "AGES": 2},
    "plasticity": {"BEFORE": 40, "STEPS": 8},
    "benchmarks": {"PLAIN_STEPS": 20, "SEEDS": 2, "STEPS": 20, "MNIST": ((100, 40),)},
    "load": {"RUNS": 2, "ROWS_OF_MANY": 20, "ROWS": (20,), "MEASURES": ("dead_share",), "measure": run_here},
    "probe": {"TARGETS": 1, "STEPS": 5, "OBSERVATIONS": 128},
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
