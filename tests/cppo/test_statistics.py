"""Statistics, by hand."""

import numpy as np
import pytest

from cppo.statistics import (
    Estimate,
    bootstrap_interval,
    estimate_curve,
    estimate_iqm,
    estimate_mean,
    estimate_superiority,
    interquartile_mean,
)


def test_interquartile_mean_leaves_out_a_quarter_at_each_end():
    # a quarter of 8 values is 2: what stays is 3, 4, 5, 6, whatever the extremes are
    assert interquartile_mean(np.array([8, 1, 6, 3, 5, 4, 7, 2])) == 4.5
    assert interquartile_mean(np.array([1e6, -1e6, 6, 3, 5, 4, 7, 2])) == 4.5
    # a quarter of 10 is 2.5, rounded down to 2: (3 + 4 + 5 + 6 + 7 + 8) / 6
    assert interquartile_mean(np.arange(1, 11)) == 5.5
    # a quarter of 3 is less than one value: the mean, (1 + 2 + 6) / 3
    assert interquartile_mean(np.array([1, 2, 6])) == 3


def test_the_interval_of_two_values_spans_them():
    # resamples of {0, 1} have the means 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4: both 2.5 % tails lie at the ends
    assert bootstrap_interval(np.array([0.0, 1.0])) == (0.0, 1.0)


def test_the_interval_is_that_of_the_interquartile_mean_not_of_the_mean():
    # one outlier among 12: a quarter is 3 values, and a resample with more than 3 outliers comes up in under 2 % of
    # cases (binomial(12, 1/12): P(4 or more) = 0.014), so the upper 2.5 % tail never sees it
    assert bootstrap_interval(np.array([5.0] * 11 + [1000.0])) == (5.0, 5.0)


def test_the_interval_is_reproducible_and_narrows_with_more_episodes():
    few = np.random.default_rng(0).normal(100, 10, 10)
    many = np.random.default_rng(0).normal(100, 10, 160)
    narrow, wide = bootstrap_interval(many), bootstrap_interval(few)
    assert wide == bootstrap_interval(few)
    assert wide[0] < interquartile_mean(few) < wide[1]
    # 16 times as many: about a quarter of the width
    assert 0.15 < (narrow[1] - narrow[0]) / (wide[1] - wide[0]) < 0.5


def test_a_single_value_has_no_interval():
    assert bootstrap_interval(np.array([3.0])) is None


def test_the_interval_of_a_mean_is_students():
    # mean 2, standard deviation 1, so 4.3027 / sqrt(3) with Student's t of 2 degrees of freedom
    half = 4.3027 / 3**0.5
    assert estimate_mean(np.array([1.0, 2.0, 3.0])) == pytest.approx((2, 2 - half, 2 + half, 3), rel=1e-4)
    assert estimate_mean(np.array([0.5])) == Estimate(0.5, None, None, 1)


def test_scores_of_all_strata_and_phases_are_averaged_together():
    # 1, 2, 3, 4 | 5, 6, 7, 100: without the lowest and the highest two, (3 + 4 + 5 + 6) / 4
    assert estimate_iqm([np.array([[1, 2], [3, 4]]), np.array([[5, 6], [7, 100]])]).value == 4.5


def test_runs_are_drawn_anew_within_their_stratum_only():
    # Each stratum holds one score twice: whatever is drawn, two are 0 and two are 10
    assert estimate_iqm([np.zeros((2, 1)), np.full((2, 1), 10.0)]) == Estimate(5.0, 5.0, 5.0, 4)
    # in one stratum of the same four scores, all four drawn can be 0 (1 in 16, more than 2.5 %), or 10
    assert estimate_iqm([np.array([[0.0], [0.0], [10.0], [10.0]])]) == Estimate(5.0, 0.0, 10.0, 4)


def test_whole_runs_are_drawn_not_their_phases():
    # Runs that score 0 and 10 in both phases: a draw takes both of a run, so a quarter of the draws are all 0
    runs = np.array([[0.0, 0.0], [10.0, 10.0]])
    assert estimate_iqm([runs]) == Estimate(5.0, 0.0, 10.0, 2)
    # had the phases been independent, as two strata, all four would be 0 in a sixteenth of them: the mean's interval
    # is the same, that of the runs that take turns isn't: whatever run is drawn, it scored 0 and 10
    assert estimate_iqm([np.array([[0.0, 10.0], [10.0, 0.0]])]) == Estimate(5.0, 5.0, 5.0, 2)


def test_the_interval_is_that_of_scipys_bootstrap():
    from scipy import stats

    scores = np.random.default_rng(1).gamma(2.0, 100.0, size=20)
    theirs = stats.bootstrap(
        (scores,), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    ours = estimate_iqm([scores[:, None]], resamples=20_000)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), rel=0.02)


def test_superiority_is_the_share_of_pairs_won():
    # of the pairs (1, 2) (1, 3) (3, 2) (3, 3) the first is lost, the second too, the third won, the last a tie
    ours, theirs = [np.array([1.0, 3.0])], [np.array([2.0, 3.0])]
    assert estimate_superiority(ours, theirs).value == 1.5 / 4
    assert estimate_superiority(theirs, ours).value == 2.5 / 4
    assert estimate_superiority([np.array([5.0, 6.0])], [np.array([1.0, 2.0])]) == Estimate(1.0, 1.0, 1.0, 2)


def test_superiority_is_scipys_u_statistic_over_the_number_of_pairs():
    from scipy import stats

    generator = np.random.default_rng(3)
    x, y = generator.integers(0, 9, 12).astype(float), generator.integers(2, 9, 7).astype(float)
    assert estimate_superiority([x], [y]).value == pytest.approx(stats.mannwhitneyu(x, y).statistic / (12 * 7))


def test_superiority_is_compared_within_strata_and_averaged_over_them():
    # Between the strata every comparison would be decided; within, ours wins all pairs of the one and half of the other
    ours = [np.array([2.0, 2.0]), np.array([100.0, 100.0])]
    theirs = [np.array([1.0, 1.0]), np.array([100.0, 100.0])]
    assert estimate_superiority(ours, theirs) == Estimate(0.75, 0.75, 0.75, 4)


def test_intervals_of_few_runs_carry_a_warning():
    assert str(estimate_iqm([np.full((4, 1), 2.0)])) == "2.0 [2.0, 2.0] (n=4: too few)"
    assert str(estimate_iqm([np.full((5, 1), 2.0)])) == "2.0 [2.0, 2.0] (n=5)"
    assert str(estimate_iqm([np.full((1, 1), 2.0)])) == "2.0 (n=1)"


def test_values_drawn_in_parts_are_those_drawn_at_once(monkeypatch):
    runs = np.random.default_rng(0).normal(size=(6, 9))
    at_once = estimate_curve(runs), estimate_iqm([runs[:4], runs[4:]])
    monkeypatch.setattr("cppo.statistics.NUMBERS_AT_ONCE", 100)
    assert (estimate_curve(runs), estimate_iqm([runs[:4], runs[4:]])) == at_once


def test_one_run_has_an_estimate_without_an_interval():
    assert estimate_iqm([np.array([[2.0, 4.0]])]) == Estimate(3.0, None, None, 1)
    assert estimate_superiority([np.array([1.0])], [np.array([0.0, 2.0])]) == Estimate(0.5, None, None, 1)


def test_each_point_of_a_curve_is_estimated_of_the_runs_that_have_it():
    nan = np.nan
    curve = estimate_curve(np.array([[1.0, 5.0, nan, nan], [3.0, 5.0, 7.0, nan]]))
    assert curve == [Estimate(2.0, 1.0, 3.0, 2), Estimate(5.0, 5.0, 5.0, 2), Estimate(7.0, None, None, 1), None]


def test_a_point_of_a_curve_has_the_interval_of_its_scores():
    scores = np.random.default_rng(4).normal(size=(9, 3))
    points = estimate_curve(scores, resamples=20_000)
    alone = estimate_iqm([scores[:, [1]]], resamples=20_000)
    assert points[1] == pytest.approx(alone, abs=0.03)


def test_estimates_are_those_of_rliable():
    """Values that rliable 1.2.0 gave for these scores, with 20 000 draws: IQM, one and three tasks; then, with 5000,
    its probability of improvement."""
    generator = np.random.default_rng(7)
    ours, theirs, tasks = (
        generator.gamma(shape, 100, size) for shape, size in ((2, (10, 1)), (2.4, (8, 1)), (2, (10, 3)))
    )
    one = estimate_iqm([ours], resamples=20_000)
    assert one == pytest.approx((143.91081105, 90.61275342, 175.29689191, 10), rel=0.02)
    three = estimate_iqm([tasks[:, [task]] for task in range(3)], resamples=20_000)
    assert three == pytest.approx((179.72294207, 135.39117214, 222.11404419, 30), rel=0.02)
    assert estimate_superiority([ours.ravel()], [theirs.ravel()]) == pytest.approx((0.425, 0.15, 0.7375, 8), abs=0.02)
