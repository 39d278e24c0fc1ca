"""Compares methods by their learning curves, their returns at the end of each phase, and aggregates of those."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cppo.report.explanation import explain
from cppo.report.insides import inside_columns
from cppo.report.records import RETURN, Record, methods, task
from cppo.report.trained_agent import MOST_PHASES, phase_steps
from cppo.statistics import FEW, Estimate, estimate_curve, estimate_iqm, estimate_superiority

LAST_PART = 1 / 3
"""The share of all steps at the end over which returns are averaged."""
MOST_BINS, MOST_BINS_OF_INSIDES = 240, 80


class Phase(NamedTuple):
    """A phase of the training.

    :param number: from 0
    :param start: the step after which it is due
    :param end: its last step
    :param frictions: the ground frictions the runs met in it, each once; empty without slippery ground
    """

    number: int
    start: int
    end: int
    frictions: list[float]


@dataclass
class Method:
    """The runs of a method, and statistics over them.

    :param name: the algorithm and the settings in which its variants differ
    :param curves: return by run and bin of steps; NaN where no episode ended
    :param curve: their interquartile mean
    :param phase_ends: return at the end of a phase by run and phase; NaN where the run hasn't finished it
    :param phases: their interquartile mean by phase
    :param all_phases: the same over all runs and phases; of the runs that have finished them all
    :param last_part: return over the last third by run; NaN where the run hasn't finished
    :param last: its interquartile mean
    :param insides: curves of plasticity and continual backpropagation, by measure and layer
    """

    name: str
    records: list[Record]
    curves: np.ndarray
    curve: list[Estimate | None]
    phase_ends: np.ndarray
    phases: list[Estimate | None]
    all_phases: Estimate | None
    last_part: np.ndarray
    last: Estimate | None
    insides: dict[tuple[str, str], list[Estimate | None]]

    @property
    def label(self) -> str:
        """The name with the number of runs, and a warning if they are few."""
        return f"{self.name} (n={len(self.records)}{', too few' * (1 < len(self.records) < FEW)})"


@dataclass
class Comparison:
    """All that a report tells.

    :param task: the settings in which all runs agree
    :param steps: the middle of each bin of the curves
    :param methods: in the order in which they were given
    :param superiority: of the first method over the second, by the return over the last third
    :param unfinished: what a reader has to know of single runs
    :param explanation: how the figures come about
    """

    task: dict[str, Any]
    phases: list[Phase]
    steps: np.ndarray
    steps_of_insides: np.ndarray
    methods: list[Method]
    superiority: dict[tuple[str, str], Estimate]
    unfinished: list[str]
    explanation: list[str]


def compare(records: Sequence[Record]) -> Comparison:
    """Compare runs of one task, at least one, by method.

    :raises ValueError: for more phases than can be shown
    """
    phases = _phases(records)
    rollout = max((record.settings.n_steps or 1) * record.settings.n_envs for record in records)
    edges, edges_of_insides = (_edges(phases, rollout, most) for most in (MOST_BINS, MOST_BINS_OF_INSIDES))
    strata = _Strata(records)
    found = [_method(name, runs, phases, edges, edges_of_insides, strata) for name, runs in methods(records).items()]
    scores = {method.name: strata.split(method.records, method.last_part) for method in found}
    scored = [name for name, parts in scores.items() if all(len(part) for part in parts)]
    superiority = {
        (ours, theirs): estimate_superiority(scores[ours], scores[theirs])
        for ours, theirs in itertools.permutations(scored, 2)
    }
    middles, middles_of_insides = ((e[1:] + e[:-1]) / 2 for e in (edges, edges_of_insides))
    return Comparison(
        task(records[0].settings),
        phases,
        middles,
        middles_of_insides,
        found,
        superiority,
        [_unfinished(record) for record in records if record.total_steps < phases[-1].end],
        explain([len(method.records) for method in found], round(edges[1] - edges[0]), max(1, len(strata.keys))),
    )


class _Strata:
    """Groups runs for the bootstrap: by their frictions, if each method has finished two runs of each sequence."""

    def __init__(self, records: Sequence[Record]) -> None:
        keys = sorted({self._key(record) for record in records})
        counts = [
            sum(self._key(record) == key and record.total_steps >= record.settings.total_timesteps for record in runs)
            for runs in methods(records).values()
            for key in keys
        ]
        self.keys = keys if min(counts) >= 2 else []

    @staticmethod
    def _key(record: Record) -> str:
        return repr(record.settings.schedule_seed)

    def split(self, records: Sequence[Record], scores: np.ndarray) -> list[np.ndarray]:
        """The scores of the runs that have all of theirs, by stratum."""
        whole = np.isfinite(scores).reshape(len(scores), -1).all(axis=1)
        if not self.keys:
            return [scores[whole]]
        keys = np.array([self._key(record) for record in records])
        return [scores[whole & (keys == key)] for key in self.keys]

    def estimate(self, records: Sequence[Record], scores: np.ndarray) -> Estimate | None:
        """Interquartile mean over the runs that have all scores; None if none has."""
        split = [part for part in self.split(records, scores.reshape(len(scores), -1)) if len(part)]
        return estimate_iqm(split) if split else None


def _phases(records: Sequence[Record]) -> list[Phase]:
    settings = records[0].settings
    length = settings.change_every or settings.total_timesteps
    due = -(-settings.total_timesteps // length)
    if due > MOST_PHASES:
        raise ValueError(f"these runs have {due:,} phases; a report shows at most {MOST_PHASES:,}")
    phases = []
    for number in range(due):
        met = {record.friction(number) for record in records if number in record.phases}
        phases.append(Phase(number, *phase_steps(records[0].settings, number), sorted(f for f in met if f is not None)))
    return phases


def _edges(phases: Sequence[Phase], rollout: int, most: int) -> np.ndarray:
    """Bins of steps that lie within a phase each and are no shorter than a rollout."""
    length = phases[0].end - phases[0].start
    per_phase = max(1, min(most // len(phases), length // rollout))
    inner = [np.linspace(phase.start, phase.end, per_phase, endpoint=False) for phase in phases]
    return np.append(np.concatenate(inner), phases[-1].end)


def _method(
    name: str,
    records: list[Record],
    phases: Sequence[Phase],
    edges: np.ndarray,
    edges_of_insides: np.ndarray,
    strata: _Strata,
) -> Method:
    curves = np.stack([_binned(r, r.columns[RETURN], r.weights, edges) for r in records])
    phase_ends = np.array([[record.phase_end(phase.number) for phase in phases] for record in records])
    last_part = np.array([_last_part(record) for record in records])
    insides = {
        key: estimate_curve(
            np.stack([_binned(r, r.columns[column], np.ones(len(r.steps)), edges_of_insides) for r in having])
        )
        for key, column in inside_columns(records)
        if (having := [record for record in records if column in record.columns])
    }
    return Method(
        name,
        records,
        curves,
        estimate_curve(curves),
        phase_ends,
        [strata.estimate(records, phase_ends[:, number]) for number in range(len(phases))],
        strata.estimate(records, phase_ends),
        last_part,
        strata.estimate(records, last_part),
        insides,
    )


def _binned(record: Record, values: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Weighted mean of a column's values in each bin of steps; NaN where there are none."""
    bins = np.searchsorted(edges, record.steps, side="left") - 1  # a row tells of the steps up to it
    counted = np.isfinite(values) & (weights > 0) & (bins >= 0) & (bins < len(edges) - 1)
    sums, totals = (
        np.bincount(bins[counted], amounts[counted], minlength=len(edges) - 1)
        for amounts in (values * weights, weights)
    )
    with np.errstate(invalid="ignore"):
        return sums / totals


def _last_part(record: Record) -> float:
    total = record.settings.total_timesteps
    done = record.total_steps >= total
    return record.mean_return(record.steps > total * (1 - LAST_PART)) if done else float("nan")


def _unfinished(record: Record) -> str:
    done, total = record.total_steps, record.settings.total_timesteps
    return f"{record.name} has done {done:,} of {total:,} steps; it counts where it has finished."


def drawn(curve: Sequence[Estimate | None]) -> list[Estimate | None]:
    """The points of a curve that are drawn, with the interval at the same ones: those that have one, if any has.

    Elsewhere a single run has a value; a line through it would leave the band that there isn't.
    """
    if all(point is None or point.low is None for point in curve):
        return list(curve)
    return [None if point is None or point.low is None else point for point in curve]
