"""Explains in words, at the end of a report, how its figures were computed."""

from collections.abc import Sequence

from cppo.statistics import RESAMPLES, RESAMPLES_OF_CURVES

ENOUGH_RUNS = 10


def explain(runs_of_methods: Sequence[int], bin_steps: int, n_strata: int) -> list[str]:
    """Sentences on what was averaged over what.

    :param bin_steps: length of a bin of the learning curve in steps
    :param n_strata: sequences of frictions within which runs are drawn; 1: none
    """
    within = f" within each of the {n_strata} sequences of frictions" if n_strata > 1 else ""
    sentences = [
        "Returns are those of the training episodes, with actions drawn as in training. Every episode counts once, in "
        "the phase it was played in.",
        f"Learning curve: by run the mean of the episodes that ended in {bin_steps:,} steps, then the interquartile "
        "mean over the runs.",
        "End of a phase: by run the mean of all episodes that ended in the last tenth of the phase's steps, in the "
        "last rollout at least. Last third: likewise, of all episodes in the last third of all steps.",
        "Interquartile mean: without the lowest and the highest quarter of the values, each rounded down to whole "
        "values; of fewer than four values it is the mean. Over the ends of all phases the values are those of all "
        "runs and phases.",
        f"Intervals: 95 % percentile bootstrap; whole runs are drawn anew, separately for each method{within}, "
        f"{RESAMPLES:,} times (curves: {RESAMPLES_OF_CURVES:,} times, each point by itself).",
        "Which method beats which: the share of all pairs of runs in which the first scores higher, ties counted half.",
    ]
    if min(runs_of_methods) < ENOUGH_RUNS:
        sentences.append(
            "With few runs such intervals are too narrow: of 1000 samples from a normal distribution, the 95 % "
            "interval held the true value in 51 % with 2 runs, 74 % with 3, 89 % with 5, 94 % with 10 and with 20."
        )
    return sentences
