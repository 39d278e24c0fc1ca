"""Compares an agent's return on each friction now with that at the end of training on it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from cppo.report.evaluation import Result
from cppo.report.records import Record
from cppo.report.trained_agent import MOST_PHASES, TrainedAgent, friction_schedule
from cppo.statistics import interquartile_mean

FORGOTTEN, UNLEARNED = 0.75, 0.5
WALKS = 5.0
"""Metres an episode; a walker that comes less far earns its return by standing."""
RULE = (
    f"doesn't walk: comes less than {WALKS:g} m an episode (an ant that stands still earns about 520); "
    f"never learned: then and now below {UNLEARNED:g} of the best return at any friction; "
    f"forgot: now below {FORGOTTEN:g} of then; trained last: no training came after it; "
    "then: training episodes, actions drawn, at the end of the last phase of that friction (--stochastic draws now too)"
)


class Retention(NamedTuple):
    """How an agent does on a friction, at the end of training on it and now.

    :param then: return of the training episodes at the end of the last phase of this friction; None if unknown
    :param now: interquartile mean of the return in the evaluation
    :param verdict: ``doesn't walk``, ``never learned``, ``trained last``, ``forgot`` or ``still can``; None if it
        can't be said
    """

    then: float | None
    now: float
    verdict: str | None


def retentions(agent: TrainedAgent, results: Sequence[Result]) -> list[Retention]:
    """Compare each result with what the agent did in training, as far as its run tells."""
    then = returns_then(agent)
    last = agent.last_friction
    retained = []
    pairs = [
        (None if result.friction is None else then.get(result.friction), interquartile_mean(result.returns))
        for result in results
    ]
    best = max(max(now, now if before is None else before) for before, now in pairs)
    for result, (before, now) in zip(results, pairs, strict=True):
        verdict = None if before is None else _verdict(before, now, best, result.friction == last)
        if verdict is not None and result.mean_distance is not None and result.mean_distance < WALKS:
            verdict = "doesn't walk"
        retained.append(Retention(before, now, verdict))
    return retained


def columns(retained: Sequence[Retention]) -> dict[str, list[str]]:
    """The columns that the table of results gets; none if nothing is known."""
    if all(kept.then is None for kept in retained):
        return {}
    return {
        "then": ["-" if kept.then is None else f"{kept.then:.1f}" for kept in retained],
        "verdict": [kept.verdict or "-" for kept in retained],
    }


def returns_then(agent: TrainedAgent) -> dict[float, float]:
    """Return at the end of the last finished phase of each friction that was met in training; empty if unknown."""
    if not agent.settings.is_slippery:
        return {}
    ends = _ends_of_table(agent) if agent.phase_ends is None else agent.phase_ends
    schedule = friction_schedule(agent.settings)
    return {schedule.friction(phase): ends[phase] for phase in sorted(ends) if not math.isnan(ends[phase])}


def _ends_of_table(agent: TrainedAgent) -> dict[int, float]:
    """The same by phase, of a run whose checkpoint doesn't tell; empty if its table tells no returns either."""
    try:
        record = Record.read(agent.folder.path, insides=False)
    except (OSError, ValueError):
        return {}
    phases = sorted(set(record.phases[record.phases >= 0].tolist()))
    return {phase: record.phase_end(phase) for phase in phases[-MOST_PHASES:]}


def _verdict(then: float, now: float, best: float, is_last: bool) -> str | None:
    if best <= 0:
        return None  # shares of a negative return say nothing
    if max(then, now) < UNLEARNED * best:
        return "never learned"
    if is_last:
        return "trained last"
    return "forgot" if now < FORGOTTEN * then else "still can"
