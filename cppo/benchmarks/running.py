"""Run settings of a problem and write their results; seeds whose results are there are skipped."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from cppo.benchmarks.learner_settings import LearnerSettings
from cppo.benchmarks.problem import Problem, Row
from cppo.benchmarks.problems import PROBLEMS
from cppo.benchmarks.results_folder import ResultFolder
from cppo.compiled import numba
from cppo.files import naming, sweep


def run_settings(
    problem: Problem, settings: Sequence[LearnerSettings], root: Path, command: Sequence[str], jobs: int = 1
) -> list[ResultFolder]:
    """Run settings, those that are alike together; seeds whose results are there are left out.

    :param problem: the problem
    :param settings: resolved settings
    :param root: each setting's results go to a folder in it, named after what differs from the defaults
    :param command: what was typed
    :param jobs: processes that work at once
    :return: the folders, in the order of the settings
    :raises ImportError: without numba, which the compiled learners need
    :raises FileExistsError: if a folder holds results of other settings
    :raises BlockingIOError: if another process works on one of the settings
    :raises OSError: if a folder can't be written
    """
    if numba is None:
        raise ImportError("the benchmarks need numba: pip install 'cppo[fast]'")
    folders = [ResultFolder(root / each.name()) for each in settings]
    with contextlib.ExitStack() as held:
        for folder, each in zip(folders, settings, strict=True):
            with naming(folder.path):
                folder.path.mkdir(parents=True, exist_ok=True)
            lock = folder.lock
            lock.acquire()
            held.callback(lock.release)
            sweep(folder.path)
            folder.begin(problem.name, each, command)
        _run_groups([(problem.name, group, root) for group in problem.groups(settings)], jobs)
    return folders


def _run_groups(groups: Sequence[tuple[str, Sequence[LearnerSettings], Path]], jobs: int) -> None:
    if jobs == 1 or len(groups) == 1:
        for group in groups:
            _run_group(*group)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_run_group, *group) for group in groups]):
            future.result()


def _run_group(name: str, settings: Sequence[LearnerSettings], root: Path) -> None:
    """Run what is missing of some settings that are alike."""
    torch.set_num_threads(1)
    problem, began = PROBLEMS[name], time.monotonic()
    runs, folders = [], []
    for each in settings:
        folder = ResultFolder(root / each.name())
        done = {row["seed"] for row in folder.results(each.n_rows)}
        missing = [seed for seed in each.all_seeds if seed not in done]
        runs += [(each, seed) for seed in missing]
        folders += [folder] * len(missing)
    if not runs:
        _say(f"{settings[0].name()}: done before")
        return
    left = len(runs)
    for done_now in _finite(problem, runs):
        rows: dict[Path, list[Row]] = {}
        for place, of_run in done_now.items():
            rows.setdefault(folders[place].path, []).extend(of_run)
        for path, of_folder in rows.items():
            ResultFolder(path).add(of_folder, settings[0].n_rows)
        left -= len(done_now)
        names = ", ".join(path.name for path in rows)
        _say(f"{names}: {len(done_now)} of {len(runs)} runs done, {left} left, {time.monotonic() - began:.0f} s")


def _finite(problem: Problem, runs: Sequence[tuple[LearnerSettings, int]]) -> Iterator[dict[int, list[Row]]]:
    """Train; say which settings diverged where the library refuses to go on."""
    try:
        yield from problem.train(runs)
    except FloatingPointError as error:
        raise ValueError(f"{runs[0][0].name()} diverged: {error}") from error


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
