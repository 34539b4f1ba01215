"""Means, paired differences and their ratios against SciPy and worked examples."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics import mean_interval, paired_difference
from analysis.statistics.ratio import paired_ratio

NAN = math.nan


def test_worked_example() -> None:
    # 0.50, 0.52, 0.54: mean 0.52, s = 0.02, t(2) = 4.302653, half width 4.302653 * 0.02 / sqrt(3)
    mean, half_width, num = mean_interval([0.50, 0.52, 0.54])
    assert mean == pytest.approx(0.52)
    assert half_width == pytest.approx(0.0496826, rel=1e-5)
    assert num == 3


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 8, 30])
def test_mean_interval_is_scipys(num_seeds: int) -> None:
    score_XS = np.random.default_rng(num_seeds).normal(0.6, 0.02, size=(4, 3, num_seeds))
    estimate = mean_interval(score_XS)
    assert estimate.mean_X.shape == estimate.half_width_X.shape == estimate.num_X.shape == (4, 3)
    low, high = stats.t.interval(
        0.95, num_seeds - 1, loc=score_XS.mean(axis=-1), scale=stats.sem(score_XS, axis=-1)
    )  # fmt: skip
    np.testing.assert_allclose(estimate.mean_X - estimate.half_width_X, low, rtol=1e-12)
    np.testing.assert_allclose(estimate.mean_X + estimate.half_width_X, high, rtol=1e-12)


def test_paired_difference_is_scipys() -> None:
    rng = np.random.default_rng(0)
    baseline_S, score_S = rng.normal(0.6, 0.02, 7), rng.normal(0.61, 0.02, 7)
    mean, half_width, num = paired_difference(score_S, baseline_S)
    interval = stats.ttest_rel(score_S, baseline_S).confidence_interval(0.95)
    assert (mean - half_width, mean + half_width) == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert num == 7


def test_pairing_removes_what_seeds_share() -> None:
    seed_S = np.array([0.1, 0.5, 0.9, 0.3])
    mean, half_width, _ = paired_difference(seed_S + np.array([0.010, 0.011, 0.009, 0.010]), seed_S)
    assert mean == pytest.approx(0.01)
    assert half_width < 0.002 < mean_interval(seed_S).half_width_X


def test_absent_seeds_are_left_out() -> None:
    np.testing.assert_allclose(mean_interval([0.5, NAN, 0.6, NAN, 0.7])[:2], mean_interval([0.5, 0.6, 0.7])[:2])
    mean, half_width, num = paired_difference([0.5, 0.6, NAN, 0.9], [0.4, NAN, 0.3, 0.7])
    assert mean == pytest.approx(0.15)
    assert num == 2
    assert half_width == pytest.approx(stats.t.ppf(0.975, 1) * 0.05)


@pytest.mark.filterwarnings("error")
def test_too_few_seeds_have_no_interval() -> None:
    one, none = mean_interval([[0.5, NAN]]), mean_interval([[NAN, NAN]])
    assert (one.mean_X[0], one.num_X[0], none.num_X[0]) == (0.5, 1, 0)
    assert np.isnan([one.half_width_X[0], none.mean_X[0], none.half_width_X[0]]).all()
    assert mean_interval(np.empty((3, 0))).num_X.tolist() == [0, 0, 0]


def test_equal_scores_have_an_interval_of_no_width() -> None:
    mean, half_width, _ = paired_difference([0.5, 0.25, 0.75], [0.5, 0.25, 0.75])
    assert mean == 0
    assert half_width == 0


@pytest.mark.parametrize(("num_seeds", "share"), [(3, 0.4), (5, -0.3), (8, 1.2), (12, 0.0)])
def test_a_ratio_is_within_the_interval_where_the_paired_t_test_cannot_tell(num_seeds: int, share: float) -> None:
    rng = np.random.default_rng(num_seeds)
    gap_S = rng.normal(0.12, 0.015, num_seeds)
    gain_S = share * gap_S + rng.normal(0, 0.01, num_seeds)
    ratio, low, high, num = paired_ratio(gain_S, gap_S)
    assert ratio == pytest.approx(gain_S.mean() / gap_S.mean())
    assert num == num_seeds
    grid_G = np.linspace(low - 1, high + 1, 4001)
    p_G = stats.ttest_1samp(gain_S - grid_G[:, None] * gap_S, 0, axis=-1).pvalue
    held_G = grid_G[p_G > 0.05]
    step = grid_G[1] - grid_G[0]
    assert held_G[0] == pytest.approx(low, abs=step)
    assert held_G[-1] == pytest.approx(high, abs=step)
    assert len(held_G) == pytest.approx((high - low) / step, abs=1.1)  # one piece
    assert low < ratio < high


def test_the_ratio_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    num_studies, share = 4000, 0.4
    gap_XS = rng.normal(0.1, 0.03, (num_studies, 5))
    gain_XS = share * 0.1 + 0.5 * (gap_XS - 0.1) + rng.normal(0, 0.02, gap_XS.shape)
    ratio = paired_ratio(gain_XS, gap_XS)
    assert ratio.low_X.shape == (num_studies,)
    has_X = ~np.isnan(ratio.low_X)
    assert has_X.mean() > 0.97  # the promise is for all studies, so nearly all must have an interval
    covered = ((ratio.low_X <= share) & (share <= ratio.high_X))[has_X].mean()
    assert covered == pytest.approx(0.95, abs=0.012)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "gap_S",
    [
        [0.01, -0.01, 0.02],  # not significantly above zero
        [-0.10, -0.11, -0.12],  # significantly below
        [0.1, NAN, NAN],  # one pair
        [NAN, NAN, NAN],
        [0.0, 0.0, 0.0],
    ],
)
def test_no_ratio_without_a_denominator(gap_S: list[float]) -> None:
    ratio = paired_ratio([0.05, 0.06, 0.04], gap_S)
    assert np.isnan(ratio[:3]).all()
    assert ratio.num_X == np.isfinite(gap_S).sum()


def test_the_denominators_test_is_the_t_test() -> None:
    gap_XS = np.random.default_rng(2).normal(0.05, 0.04, (300, 4))
    pvalue_X = stats.ttest_1samp(gap_XS, 0, axis=-1).pvalue
    expected_X = (pvalue_X < 0.05) & (gap_XS.mean(axis=-1) > 0)
    assert 50 < expected_X.sum() < 250
    has_X = ~np.isnan(paired_ratio(np.ones_like(gap_XS), gap_XS).low_X)
    np.testing.assert_array_equal(has_X, expected_X)


def test_seeds_that_one_lacks_are_no_pair() -> None:
    gain, gap = [0.05, 0.06, NAN, 0.04, 0.07], [0.11, NAN, 0.12, 0.10, 0.13]
    ratio = paired_ratio(gain, gap)
    assert ratio.num_X == 3
    np.testing.assert_allclose(ratio[:3], paired_ratio([0.05, 0.04, 0.07], [0.11, 0.10, 0.13])[:3])


def test_a_ratio_that_every_seed_shares_is_exact() -> None:
    np.testing.assert_allclose(paired_ratio([0.05, 0.06, 0.07], [0.10, 0.12, 0.14])[:3], 0.5, rtol=1e-12)
