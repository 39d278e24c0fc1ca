"""Every benchmark runs to its end, at sizes that say nothing about speed."""

import os
import re
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
if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of so short runs: that nothing will be replaced
    shrink(setattr)
    names, sys.argv[1:] = sys.argv[1].split(","), sys.argv[2:]
    for name in names:
        print("==", name, flush=True)
        import_module(f"tests.bench.{name}").main()
"""


def run(folder, names, *arguments):
    """Run benchmarks in a process of their own, as they take cores and leave ants behind; return what each printed."""
    pytest.importorskip("pybullet_envs_gymnasium")
    program = folder / "bench.py"
    program.write_text(PROGRAM)
    command = [sys.executable, program, ",".join(names), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    parts = re.split("^== (.*)\n", done.stdout, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_they_run_to_their_end(tmp_path):
    printed = run(tmp_path, [*BENCHMARKS, "probe"])
    assert {name: output.count("\n") >= 2 for name, output in printed.items()} == dict.fromkeys(printed, True)
    assert list(printed) == [*BENCHMARKS, "probe"]


def test_merged_models_are_compared(tmp_path):
    train(prepare(Settings(**TINY_RUN, total_timesteps=16).resolved(), RunFolder(tmp_path / "run"), []))
    output = run(tmp_path, ["merged_model"], tmp_path / "run", "--episodes", "2", "--plot", "plot.svg")["merged_model"]
    assert "Kolmogorov-Smirnov" in output and (tmp_path / "plot.svg").exists()


def test_every_benchmark_is_run():
    here = {path.stem for path in Path(__file__).parent.glob("*.py")} - {"__main__", "tiny", "test_bench"}
    assert here == {*BENCHMARKS, "probe", "merged_model"} == SIZES.keys()
