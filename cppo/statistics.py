"""Statistics of few and noisy runs: means, interquartile means, their intervals, how often one method beats another.

What is drawn anew in a bootstrap is always a whole run (or a whole episode, in an evaluation), never one of its
phases: the phases of a run are the work of one network and not independent. As advised by Agarwal et al., "Deep
Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021, whose library rliable draws the same way
when each task is a stratum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES, RESAMPLES_OF_CURVES = 5000, 1000
BOOTSTRAP_SEED = 0


class Estimate(NamedTuple):
    """A statistic with its 95 % confidence interval.

    :param value: of the runs themselves
    :param low: lower end of the interval; None where a single run has no spread
    :param high: upper end, likewise
    """

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return f"{self.value:.1f}" if self.low is None else f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


def interquartile_mean(values: np.ndarray) -> float:
    """Mean without the lowest and the highest quarter; each quarter is rounded down to whole values.

    :param values: at least one
    """
    return float(stats.trim_mean(values, 0.25, axis=None))


def bootstrap_interval(values: np.ndarray) -> tuple[float, float] | None:
    """95 % percentile-bootstrap confidence interval of the interquartile mean; the same values give the same one.

    :param values: the returns of episodes
    :return: lower and upper end; None with a single value, which has no spread
    """
    if len(values) < 2:
        return None
    _, low, high = estimate_iqm([np.asarray(values)[:, None]])
    assert low is not None and high is not None
    return low, high


def estimate_mean(values: np.ndarray) -> Estimate:
    """Mean of independent values with the interval of Student's t.

    :param values: at least one
    """
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Estimate(mean, None, None)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * stats.sem(values))
    return Estimate(mean, mean - half, mean + half)


def estimate_iqm(strata: Sequence[np.ndarray], resamples: int = RESAMPLES) -> Estimate:
    """Interquartile mean over all scores of all runs, with a stratified percentile bootstrap over the runs.

    :param strata: for each stratum an array (runs, scores); runs are drawn anew within their stratum
    """
    value = interquartile_mean(np.concatenate([scores.ravel() for scores in strata]))
    if min(len(scores) for scores in strata) < 2:
        return Estimate(value, None, None)
    drawn = np.concatenate([draw.reshape(resamples, -1) for draw in _draws(strata, resamples)], axis=1)
    return _estimate(value, stats.trim_mean(drawn, 0.25, axis=1))


def estimate_curve(runs: np.ndarray, resamples: int = RESAMPLES_OF_CURVES) -> list[Estimate | None]:
    """Interquartile mean of each point of a curve, each with its own bootstrap interval over the runs.

    :param runs: an array (runs, points); NaN where a run has no value
    :return: None at points where no run has a value
    """
    points: list[Estimate | None] = [None] * runs.shape[1]
    patterns, pattern_of = np.unique(~np.isnan(runs), axis=1, return_inverse=True)
    for number in range(patterns.shape[1]):
        (where,) = np.nonzero(pattern_of.ravel() == number)
        present = runs[patterns[:, number]][:, where]
        if len(present) == 0:
            continue
        values = stats.trim_mean(present, 0.25, axis=0)
        if len(present) == 1:
            estimates = [Estimate(float(value), None, None) for value in values]
        else:
            drawn = stats.trim_mean(next(_draws([present], resamples)), 0.25, axis=1)
            estimates = [_estimate(float(value), column) for value, column in zip(values, drawn.T, strict=True)]
        for point, estimate in zip(where, estimates, strict=True):
            points[point] = estimate
    return points


def estimate_superiority(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Estimate:
    """Probability that a run of ours scores higher than one of theirs: the share of all pairs, a tie counts half.

    This is the Mann-Whitney U statistic divided by the number of pairs, averaged over strata.

    :param ours: for each stratum the score of each run
    :param theirs: likewise, in the same strata
    """
    value = float(np.mean([_share_won(x[None], y[None])[0] for x, y in zip(ours, theirs, strict=True)]))
    if min(len(scores) for scores in (*ours, *theirs)) < 2:
        return Estimate(value, None, None)
    draws = list(_draws([*ours, *theirs], RESAMPLES))
    won = [_share_won(x, y) for x, y in zip(draws[: len(ours)], draws[len(ours) :], strict=True)]
    return _estimate(value, np.mean(won, axis=0))


def _draws(strata: Sequence[np.ndarray], resamples: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    for scores in strata:
        yield scores[generator.integers(len(scores), size=(resamples, len(scores)))]


def _share_won(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    difference = ours[:, :, None] - theirs[:, None, :]
    return np.mean((difference > 0) + 0.5 * (difference == 0), axis=(1, 2))


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))
