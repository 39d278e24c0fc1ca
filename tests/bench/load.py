"""How long the commands take that read run folders, and how much memory: many runs, and runs of many rows.

Each is a process of its own; the first line is what a process needs that imports the same and reads nothing. The first
seconds are of the processor, which tell the same on a busy machine, the second ones of the clock.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cppo.runs.checkpoints import Checkpoints
from cppo.runs.folder import Ending, RunFolder
from cppo.settings.settings import Settings
from cppo.training.agent import build_model
from cppo.training.environments import make_vec_env

ROOT = Path(__file__).parents[2]
RUNS, ROWS_OF_MANY = 200, 1000
ROWS = (1000, 250_000, 1_000_000)
ROLLOUT, PHASES = 2048, 10
LAYERS = ("actor.0", "actor.1", "critic.0", "critic.1")
MEASURES = ("dead_share", "dormant_share", "effective_rank", "stable_rank", "weight_magnitude", "gradient_norm",
            "distance_from_init", "update_size", "dead_share_probe", "effective_rank_probe")  # fmt: skip
OTHERS = ("time/fps", "time/iterations", "train/approx_kl", "train/loss", "train/value_loss", "train/std",
          "rollout/ep_rew_mean", "rollout/ep_len_mean", "cbp/replaced", "cbp/total_replaced")  # fmt: skip


def write_run(path: Path, rows: int, seed: int, algo: str = "ppo", with_model: bool = False) -> RunFolder:
    """Write the folder of a finished run with a table of 57 columns, each with a figure in every row."""
    total = rows * ROLLOUT
    values = {"env": "SlipperyAnt-v0", "net_arch": (8, 8), "n_envs": 1, "n_steps": ROLLOUT, "schedule_seed": 0}
    settings = Settings(
        algo=algo,
        seed=seed,
        total_timesteps=total,
        change_every=total // PHASES,
        **values,  # type: ignore[arg-type]
    ).resolved()
    folder = RunFolder(path)
    folder.create(settings, ["train.py"]).release()
    _write_table(folder.progress, rows, seed)
    if with_model:
        env = make_vec_env(settings)
        model = build_model(settings, env)
        model.save(folder.model)
        env.close()
        seen = [
            {"phase": phase, "friction": 0.5, "returns": [], "end": [[(phase + 1) * total // PHASES, 200, 118.0]]}
            for phase in range(PHASES)
        ]
        state = {
            "networks": {"policy": model.policy.state_dict()},
            "callbacks": {"Progress": {"phases": seen, "logged": PHASES}},
            "session": {"settings": settings.as_dict()},
        }
        Checkpoints(folder.checkpoints).write(total, state, 1)
    folder.write_ending(Ending("finished", total, model=folder.model_digest() if with_model else ""))
    return folder


def _write_table(path: Path, rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    inside = [f"plasticity/{layer}/{measure}" for layer in LAYERS for measure in MEASURES]
    figures = [f"{value!r}" for value in generator.random(len(inside) + len(OTHERS)).tolist()]
    named = ["environment/friction", "environment/phase", "environment/phases_met", "episodes/ended", "episodes/return"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*named, "time/total_timesteps", *inside, *OTHERS])
        for row in range(rows):
            phase, before = row * PHASES // rows, (row - 1) * PHASES // rows
            met = phase if row == 0 or phase != before else ""
            writer.writerow([0.5, phase, met, 2, 100 + row % 37, (row + 1) * ROLLOUT, *figures])


STARTER = """
import os, sys
nowhere = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
process = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ, file_actions=nowhere)
_, status, used = os.wait4(process, 0)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)  # Linux counts kilobytes
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Starts a command of Python: Linux counts to a process's memory that of the one that started it."""


def measure(command: Sequence[str | Path]) -> tuple[float, float, float]:
    """Seconds of the processor and of the clock, and megabytes, of a command of Python."""
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", STARTER, *map(str, command)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    of_processor, megabytes = map(float, done.stdout.split())
    return of_processor, time.perf_counter() - began, megabytes


def show(what: str, command: Sequence[str | Path]) -> None:
    of_processor, of_clock, megabytes = measure(command)
    print(f"{what:<60} {of_processor:8.2f} s {of_clock:8.2f} s {megabytes:8.0f} MB", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        many, output = Path(place) / "many", Path(place) / "report"
        for number in range(RUNS):
            write_run(many / f"run{number}", ROWS_OF_MANY, number // 2, ("ppo", "cppo")[number % 2])
        show("list: nothing but imports", ["-c", "import cppo.runs.__main__"])
        show(f"list: {RUNS} runs of {ROWS_OF_MANY:,} rows", ["-m", "cppo.runs", "list", many])
        show("report: nothing but imports", ["-c", "import cppo.report.__main__, matplotlib.figure"])
        show(f"report: {RUNS} runs of {ROWS_OF_MANY:,} rows", ["-m", "cppo.report", many, "--output", output])
        for rows in ROWS:
            folder = write_run(Path(place) / f"rows{rows}", rows, 0, with_model=True)
            show(f"list: a run of {rows:,} rows", ["-m", "cppo.runs", "list", folder.path])
            report = ["-m", "cppo.report", folder.path, "--output", output / str(rows)]
            show(f"report: a run of {rows:,} rows", report)
            evaluate = [ROOT / "evaluate.py", folder.path, "--episodes", "1", "--friction", "0.5"]
            show(f"evaluate: one episode, a run of {rows:,} rows", evaluate)


if __name__ == "__main__":
    main()
