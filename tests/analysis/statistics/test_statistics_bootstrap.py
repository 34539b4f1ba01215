"""The bootstrap intervals: against enumerations and other formulas, and how often they cover the truth."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from scipy.special import ndtr

from analysis.statistics import mean_interval, seeds_by_images
from analysis.statistics.bca import bca_interval
from analysis.statistics.improvement import probability_of_improvement
from analysis.statistics.seeds_by_images import seeds_by_images_interval

NAN = math.nan


def test_bca_is_efrons_formula_over_all_resamples() -> None:
    score_S = np.array([0.61, 0.62, 0.60, 0.70, 0.63, 0.62])
    mean_B = np.sort([np.mean(drawn) for drawn in itertools.product(score_S, repeat=len(score_S))])
    below = (mean_B < score_S.mean() - 1e-12).mean() + (abs(mean_B - score_S.mean()) < 1e-12).mean() / 2
    bias = stats.norm.ppf(below)
    away_S = score_S - score_S.mean()
    skew = (away_S**3).sum() / (6 * (away_S**2).sum() ** 1.5)  # Efron 1987, equation 7.3, of a mean
    shifted = [bias + (bias + z) / (1 - skew * (bias + z)) for z in stats.norm.ppf([0.025, 0.975])]
    expected = np.quantile(mean_B, stats.norm.cdf(shifted))
    assert bca_interval(score_S) == pytest.approx(tuple(expected), abs=0.001)  # its width is 0.05
    assert skew > 0.05 and abs(expected - np.quantile(mean_B, [0.025, 0.975])).min() > 0.001


@pytest.mark.filterwarnings("error")
def test_bca_of_rows_that_lack_scores_or_variance() -> None:
    rows = [[0.5, NAN, 0.6, 0.7], [0.5, 0.6, 0.7, NAN], [0.5, 0.5, 0.5, 0.5], [0.5, 0.6, NAN, NAN], [NAN] * 4]
    low_X, high_X = bca_interval(rows)
    assert low_X[0] == low_X[1] < 0.6 < high_X[0] == high_X[1]
    assert low_X[2] == high_X[2] == 0.5
    assert np.isnan([low_X[3:], high_X[3:]]).all()
    assert bca_interval(np.empty((2, 0))).low_X.shape == (2,)


def test_bca_of_a_row_does_not_hang_on_the_others() -> None:
    score_XS = np.random.default_rng(0).normal(0.6, 0.02, (30, 8))
    low_X, high_X = bca_interval(score_XS)
    assert bca_interval(score_XS[7]) == (low_X[7], high_X[7])
    assert bca_interval(score_XS[7][::-1]) == (low_X[7], high_X[7])
    assert bca_interval(score_XS.reshape(5, 6, 8)).low_X.tolist() == low_X.reshape(5, 6).tolist()


def test_how_often_the_intervals_over_seeds_cover() -> None:
    score_XS = np.random.default_rng(1).normal(0.6, 0.02, (3000, 8))
    student = mean_interval(score_XS)
    covered = (abs(student.mean_X - 0.6) <= student.half_width_X).mean()
    assert covered == pytest.approx(0.95, abs=0.012)  # three standard errors
    low_X, high_X = bca_interval(score_XS[:600])
    # DiCiccio and Efron 1996 say: too short by about sqrt((n - 1) / n) and without Student's tails, 0.886 here
    normal = stats.t.cdf(stats.norm.ppf(0.975) * (7 / 8) ** 0.5, 7) * 2 - 1
    assert ((low_X <= 0.6) & (high_X >= 0.6)).mean() == pytest.approx(normal, abs=0.03)


class Truth(NamedTuple):
    """Standard deviations on a probit scale."""

    seeds: float
    images: float


TRUTHS = {
    "seeds": Truth(0.15, 0.02),
    "images": Truth(0.01, 1.0),
    "neither": Truth(0.01, 0.01),
    "both": Truth(0.06, 0.5),
}


def draw_comparisons(
    truth: Truth, num_seeds: int, *, num_images: int, num: int
) -> tuple[list[npt.NDArray[np.int8]], float]:
    """Of two classifiers, each with its own effects of seeds and of images; and the true difference in accuracy."""
    draw = np.random.default_rng([num_seeds, round(100 * truth.images)])
    right = [
        draw.random((num, num_seeds, num_images))
        < ndtr(
            level
            + truth.seeds * draw.normal(size=(num, num_seeds, 1))
            + truth.images * draw.normal(size=(num, 1, num_images))
        )
        for level in (0.4, 0.3)
    ]
    scale = math.hypot(1, *truth)
    return list(right[0].astype(np.int8) - right[1]), float(ndtr(0.4 / scale) - ndtr(0.3 / scale))


@pytest.mark.parametrize("num_seeds", [3, 8])
@pytest.mark.parametrize("name", TRUTHS)
def test_how_often_the_interval_over_seeds_and_images_covers(name: str, num_seeds: int) -> None:
    comparisons, true = draw_comparisons(TRUTHS[name], num_seeds, num_images=200, num=200)
    low_X, high_X = seeds_by_images_interval(comparisons)
    covered = ((low_X <= true) & (true <= high_X)).mean()
    assert 0.90 <= covered <= 0.99  # the standard error is 0.015


def test_students_interval_over_seeds_forgets_the_images() -> None:
    comparisons, true = draw_comparisons(TRUTHS["images"], 8, num_images=200, num=200)
    student = mean_interval([difference_SN.mean(axis=1) for difference_SN in comparisons])
    assert (abs(student.mean_X - true) <= student.half_width_X).mean() < 0.75


def test_seeds_that_agree_leave_the_variance_of_the_images() -> None:
    difference_N = np.random.default_rng(2).choice([-1, 0, 1], 4000, p=[0.1, 0.75, 0.15]).astype(np.int8)
    ends = np.ravel(seeds_by_images_interval([np.tile(difference_N, (5, 1))]))
    half = 1.96 * difference_N.std() / 4000**0.5
    assert ends == pytest.approx([difference_N.mean() - half, difference_N.mean() + half], abs=0.06 * half)


def test_images_that_agree_leave_students_interval() -> None:
    mean_S = np.random.default_rng(6).choice([-1, 0, 1], 60, p=[0.2, 0.4, 0.4])
    (low,), (high,) = seeds_by_images_interval([np.repeat(mean_S[:, None], 50, axis=1).astype(np.int8)])
    mean, half_width, _ = mean_interval(mean_S)
    assert (low, high) == pytest.approx((mean - half_width, mean + half_width), abs=0.1 * float(half_width))


@pytest.mark.filterwarnings("error")
def test_comparisons_without_an_interval() -> None:
    one = np.array([[1, 0, -1, 0]], dtype=np.int8)
    same = np.ones((3, 4), dtype=np.int8)
    low_X, high_X = seeds_by_images_interval([one, same, same[:2], same[:, :4] * 0])
    np.testing.assert_array_equal(low_X, [NAN, 1, NAN, 0])
    np.testing.assert_array_equal(high_X, [NAN, 1, NAN, 0])
    assert seeds_by_images_interval([]).low_X.shape == (0,)
    assert np.ravel(seeds_by_images_interval([np.ones((3, 1), dtype=np.int8)])).tolist() == [1, 1]


def test_a_comparison_does_not_hang_on_the_others() -> None:
    comparisons, _ = draw_comparisons(TRUTHS["both"], 5, num_images=100, num=40)
    low_X, high_X = seeds_by_images_interval([comparisons[0], *comparisons])
    assert (low_X[0], high_X[0]) == (low_X[1], high_X[1])
    assert seeds_by_images_interval(comparisons[3:4]) == (low_X[4], high_X[4])


def test_very_many_predictions_get_fewer_resamples_and_nearly_the_same_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    comparisons, _ = draw_comparisons(TRUTHS["both"], 8, num_images=1000, num=1)
    (low,), (high,) = seeds_by_images_interval(comparisons)
    monkeypatch.setattr(seeds_by_images, "_MANY", 7999)
    (fewer_low,), (fewer_high,) = seeds_by_images_interval(comparisons)
    assert (fewer_low, fewer_high) != (low, high)
    assert (fewer_low, fewer_high) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_improvement_is_mann_whitneys_of_other_seeds() -> None:
    draw = np.random.default_rng(3)
    score_S, baseline_S = draw.normal(0.61, 0.01, 9).round(2), draw.normal(0.6, 0.01, 9).round(2)
    found = probability_of_improvement(score_S, baseline_S)
    wins = [
        1.0 if score > baseline else 0.5 if score == baseline else 0.0
        for (i, score), (j, baseline) in itertools.product(enumerate(score_S), enumerate(baseline_S))
        if i != j
    ]
    assert found == pytest.approx(np.mean(wins))
    own = (score_S > baseline_S).sum() + (score_S == baseline_S).sum() / 2
    whitney = stats.mannwhitneyu(score_S, baseline_S).statistic
    assert found == pytest.approx((whitney - own) / 72)


def test_improvement_with_ties_and_missing_seeds() -> None:
    better, worse, level = [0.7, 0.8, 0.9], [0.1, 0.2, 0.3], [0.5, 0.5, 0.5]
    assert probability_of_improvement(better, worse) == 1
    assert probability_of_improvement(level, level) == 0.5
    assert probability_of_improvement([*better, NAN], [*worse, 1.0]) == 1
    assert np.isnan(probability_of_improvement([0.7, NAN], [0.1, 0.2]))
    assert probability_of_improvement([0.7, 0.8], [0.1, 0.2]) == 1


def test_improvement_is_unbiased() -> None:
    draw = np.random.default_rng(4)
    found = [probability_of_improvement(*draw.normal([[0.8], [0.0]], 1, (2, 12))) for _ in range(200)]
    assert np.mean(found) == pytest.approx(ndtr(0.8 / 2**0.5), abs=0.02)
