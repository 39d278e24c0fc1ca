"""Every benchmark runs to its end, at sizes that say nothing about speed."""

import gc
import os
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings
from cppo.training.starting import prepare
from cppo.training.training import train
from tests.bench.__main__ import BENCHMARKS
from tests.bench.tiny import SIZES, shrink

TINY_RUN = {"env": "FastAnt-v0", "algo": "ppo", "n_steps": 16, "batch_size": 16, "n_epochs": 1, "net_arch": (8, 8)}


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """Tiny sizes, in an empty folder; benchmarks that stay on one core leave this process there."""
    pytest.importorskip("pybullet_envs_gymnasium")
    shrink(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench"])
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    yield
    gc.collect()  # a closed AntBulletEnv that is collected later disconnects the client that got its number
    torch.set_num_threads(1)
    if cores is not None:
        os.sched_setaffinity(0, cores)


def run(benchmark):
    import_module(f"tests.bench.{benchmark}").main()


@pytest.mark.parametrize("benchmark", [*BENCHMARKS, "probe"])
@pytest.mark.filterwarnings("ignore")  # of so short runs: that nothing will be replaced
def test_it_runs_to_its_end(benchmark, capsys):
    run(benchmark)
    assert capsys.readouterr().out.count("\n") >= 3


def test_merged_models_are_compared(monkeypatch, capsys, tmp_path):
    train(prepare(Settings(**TINY_RUN, total_timesteps=16).resolved(), RunFolder(tmp_path / "run"), []))
    monkeypatch.setattr(sys, "argv", ["bench", str(tmp_path / "run"), "--episodes", "2", "--plot", "plot.svg"])
    run("merged_model")
    assert "Kolmogorov-Smirnov" in capsys.readouterr().out and Path("plot.svg").exists()


def test_every_benchmark_is_run():
    here = {path.stem for path in Path(__file__).parent.glob("*.py")} - {"__main__", "tiny", "test_bench"}
    assert here == {*BENCHMARKS, "probe", "merged_model"} == SIZES.keys()
