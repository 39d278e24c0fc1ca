"""Evaluates a trained agent: its episodes at each friction, their statistics, the table, the JSON record."""

import itertools
import json
import sys
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from cppo.command_line import aligned
from cppo.files import MARK, replacing
from cppo.report.trained_agent import Moment, TrainedAgent
from cppo.statistics import bootstrap_interval, interquartile_mean

COLUMNS = ("friction", "episodes", "mean", "std", "IQM", "95 % interval", "length", "distance")


class Episode(NamedTuple):
    """A whole episode.

    :param total_reward: its return
    :param length: in steps
    :param distance: metres walked along x; None where the environment doesn't tell
    :param terminated: whether the task ended it (the ant fell), not the time limit
    """

    seed: int
    total_reward: float
    length: int
    distance: float | None
    terminated: bool


@dataclass(frozen=True)
class Result:
    """The episodes at one friction.

    :param friction: of the ground; None where there is none
    :param episodes: at least one
    """

    friction: float | None
    episodes: tuple[Episode, ...]

    @property
    def returns(self) -> np.ndarray:
        """The return of each episode."""
        return np.array([episode.total_reward for episode in self.episodes])

    @property
    def mean_distance(self) -> float | None:
        """Metres walked along x in an episode, on the mean; None where the environment doesn't tell."""
        distances = [episode.distance for episode in self.episodes if episode.distance is not None]
        return float(np.mean(distances)) if distances else None

    def as_dict(self) -> dict[str, Any]:
        """Statistics and episodes as plain values; None where there is nothing to tell."""
        interval = bootstrap_interval(self.returns)
        return {
            "friction": self.friction,
            "mean_return": float(np.mean(self.returns)),
            "std_return": float(np.std(self.returns, ddof=1)) if len(self.episodes) > 1 else None,
            "iqm_return": interquartile_mean(self.returns),
            "iqm_interval": None if interval is None else list(interval),
            "mean_length": float(np.mean([episode.length for episode in self.episodes])),
            "mean_distance": self.mean_distance,
            "episodes": [
                {"return" if name == "total_reward" else name: value for name, value in episode._asdict().items()}
                for episode in self.episodes
            ],
        }


def evaluate(
    agent: TrainedAgent,
    frictions: Sequence[float | None],
    episodes: int,
    seed: int,
    deterministic: bool = True,
    most_steps: int | None = None,
) -> list[Result]:
    """Play episodes at each friction, and tell the progress on stderr.

    :param frictions: None: the environment's own ground
    :param seed: of the first episode; the next ones count up, and each friction sees the same
    :param most_steps: after which an episode is cut, with a warning; None: never
    """
    results = []
    for friction in frictions:
        with agent.make_env(friction) as env:
            friction = getattr(env.unwrapped, "ground_friction", friction)
            where = agent.settings.env if friction is None else f"friction {friction:.4g}"
            played = []
            for number in tqdm(range(seed, seed + episodes), where, unit=" episodes", disable=None):
                end = _last_moment(agent.play(env, number, deterministic), most_steps)
                played.append(Episode(number, end.total_reward, end.step, end.distance, end.terminated))
        results.append(Result(friction, tuple(played)))
        if not sys.stderr.isatty():
            mean = np.mean(results[-1].returns)
            print(f"{where}: mean return {mean:.1f} over {episodes} episodes", file=sys.stderr, flush=True)
    return results


def _last_moment(moments: Iterator[Moment], most_steps: int | None) -> Moment:
    """The moment in which an episode ends, or is cut."""
    most = None if most_steps is None else most_steps + 1  # the first is the start
    (end,) = deque(itertools.islice(moments, most), maxlen=1)
    if not (end.terminated or end.truncated):
        warnings.warn(
            f"an episode was cut after {end.step:,} steps: it had not ended (--episode-steps allows more)", stacklevel=3
        )
    return end


def table(results: Sequence[Result], more: Mapping[str, Sequence[str]] | None = None) -> str:
    """The results as text: a line of headings and one line each; ``-`` where there is nothing to tell.

    :param more: further columns by their headings
    """
    further = more or {}
    cells = zip(map(_row, results), *further.values(), strict=True)
    rows = [(*COLUMNS, *further), *((*row, *more_cells) for row, *more_cells in cells)]
    return aligned(rows, n_left=0)


def _row(result: Result) -> tuple[str, ...]:
    figures = result.as_dict()
    interval = figures["iqm_interval"]
    return (
        "-" if result.friction is None else f"{result.friction:.4g}",
        str(len(result.episodes)),
        f"{figures['mean_return']:.1f}",
        _number(figures["std_return"]),
        _number(figures["iqm_return"]),
        "-" if interval is None else f"[{interval[0]:.1f}, {interval[1]:.1f}]",
        _number(figures["mean_length"]),
        _number(figures["mean_distance"], " m"),
    )


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{round(value, 1) + 0.0:.1f}{unit}"  # + 0.0: no negative zero


def run_record(agent: TrainedAgent, results: Sequence[Result], deterministic: bool) -> dict[str, Any]:
    """Everything that the table says, and each episode, as plain values."""
    return {
        "origin": MARK,
        "run": {
            "folder": str(agent.folder.path),
            **{name: getattr(agent.settings, name) for name in ("algo", "protocol", "env", "seed")},
            "steps_trained": agent.steps_trained,
        },
        "deterministic": deterministic,
        "results": [result.as_dict() for result in results],
    }


def write_json(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write the records of evaluations to a file that is whole or not there: one by itself, several in a list.

    :raises OSError: if the file can't be written
    """
    content = records[0] if len(records) == 1 else list(records)
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")
