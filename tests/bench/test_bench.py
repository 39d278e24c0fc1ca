"""Every benchmark runs to its end, at sizes that say nothing about speed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings
from cppo.training.starting import prepare
from cppo.training.training import train
from tests.bench.__main__ import BENCHMARKS
from tests.bench.tiny import SIZES

TINY_RUN = {"env": "FastAnt-v0", "algo": "ppo", "n_steps": 16, "batch_size": 16, "n_epochs": 1, "net_arch": (8, 8)}


ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, warnings
from importlib import import_module
from tests.bench.tiny import shrink
warnings.simplefilter("ignore")  # of so short runs: that nothing will be replaced
shrink(setattr)
if __name__ == "__main__":
    import_module(f"tests.bench.{sys.argv.pop(1)}").main()
"""


def run(folder, *command):
    """Run a benchmark in a process of its own: it takes cores, and leaves ants behind."""
    pytest.importorskip("pybullet_envs_gymnasium")
    program = folder / "bench.py"
    program.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, program, *map(str, command)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("benchmark", [*BENCHMARKS, "probe"])
def test_it_runs_to_its_end(benchmark, tmp_path):
    assert run(tmp_path, benchmark).count("\n") >= 3


def test_merged_models_are_compared(tmp_path):
    train(prepare(Settings(**TINY_RUN, total_timesteps=16).resolved(), RunFolder(tmp_path / "run"), []))
    output = run(tmp_path, "merged_model", tmp_path / "run", "--episodes", "2", "--plot", "plot.svg")
    assert "Kolmogorov-Smirnov" in output and (tmp_path / "plot.svg").exists()


def test_every_benchmark_is_run():
    here = {path.stem for path in Path(__file__).parent.glob("*.py")} - {"__main__", "tiny", "test_bench"}
    assert here == {*BENCHMARKS, "probe", "merged_model"} == SIZES.keys()
