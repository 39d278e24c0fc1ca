"""``cppo COMMAND``, as the installed script and as a module, does what the commands do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cppo.__main__ import COMMANDS

SCRIPT = Path(sys.executable).with_name("cppo")
TINY = ["--env", "Pendulum-v1", "--algo", "ppo", "--total-timesteps", "64", "--n-envs", "1", "--n-steps", "32"]
TINY += ["--batch-size", "32", "--n-epochs", "1", "--net-arch", "8", "--plasticity-every", "0"]


def type_in(folder, *words):
    return subprocess.run(
        words, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120
    )


def test_the_overview_names_every_command(tmp_path):
    done = type_in(tmp_path, SCRIPT, "--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_what_it_takes(tmp_path, name):
    done = type_in(tmp_path, sys.executable, "-m", "cppo", name, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


@pytest.mark.parametrize(
    ("typed", "said", "nearest"),
    [
        (["trian"], "cppo: error: command 'trian' is unknown; choose one of train, evaluate, ", "train"),
        (["runs", "lst"], "python -m cppo.runs: error: command 'lst' is unknown; choose one of list, show; ", "list"),
    ],
)
def test_a_command_that_is_none_gets_one_line_that_names_the_nearest(tmp_path, typed, said, nearest):
    done = type_in(tmp_path, SCRIPT, *typed)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(said)
    assert line.endswith(f"did you mean {nearest}?")


def test_a_run_is_trained_and_evaluated_and_says_how_to_go_on(tmp_path):
    trained = type_in(tmp_path, SCRIPT, "train", *TINY, "--output", "mine")
    assert trained.returncode == 0, trained.stderr
    assert yaml.safe_load((tmp_path / "mine/config.yaml").read_text())["command"][:3] == ["cppo", "train", "--env"]
    wrong = type_in(tmp_path, SCRIPT, "train", "--resume", "nowhere")
    assert (wrong.returncode, wrong.stderr[:19]) == (2, "cppo train: error: ")
    evaluated = type_in(tmp_path, SCRIPT, "evaluate", "mine", "--episodes", "1")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "mean" in evaluated.stdout


@pytest.mark.parametrize("start", [[SCRIPT], [sys.executable, "-m", "cppo"]], ids=["script", "module"])
def test_a_grid_trains_its_runs_by_the_same_command(tmp_path, start):
    flags = [*TINY, "--seed", "0", "1", "--jobs", "1", "--output", "grid"]
    done = type_in(tmp_path, *start, "train", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    folders = sorted((tmp_path / "grid").iterdir())
    assert [yaml.safe_load((folder / "ending.yaml").read_text())["state"] for folder in folders] == ["finished"] * 2
