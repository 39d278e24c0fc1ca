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
    for benchmark in sys.argv[1:]:
        name, *sys.argv[1:] = benchmark.split()
        print("==", name, flush=True)
        import_module(f"tests.bench.{name}").main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def printed(folder):
    """What each printed, all in one process of their own, as they take cores and leave ants behind."""
    pytest.importorskip("pybullet_envs_gymnasium")
    train(prepare(Settings(**TINY_RUN, total_timesteps=16).resolved(), RunFolder(folder / "run"), []))
    program = folder / "bench.py"
    program.write_text(PROGRAM)
    command = [sys.executable, program, *BENCHMARKS, "probe", "merged_model run --episodes 2 --plot plot.svg"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    parts = re.split("^== (.*)\n", done.stdout, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_they_run_to_their_end(printed):
    assert {name: output.count("\n") >= 2 for name, output in printed.items()} == dict.fromkeys(printed, True)
    assert list(printed) == [*BENCHMARKS, "probe", "merged_model"]


def test_merged_models_are_compared(printed, folder):
    assert "Kolmogorov-Smirnov" in printed["merged_model"] and (folder / "plot.svg").exists()


def test_every_benchmark_is_run():
    here = {path.stem for path in Path(__file__).parent.glob("*.py")} - {"__main__", "tiny", "test_bench"}
    assert here == {*BENCHMARKS, "probe", "merged_model"} == SIZES.keys()
