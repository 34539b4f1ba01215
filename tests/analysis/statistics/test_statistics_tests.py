"""The tests of claims against worked examples from the literature, other implementations and brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import multitest

from analysis.scores import signed
from analysis.statistics import mean_interval, paired_difference
from analysis.statistics.equivalence import equivalence_p
from analysis.statistics.families import holm
from analysis.statistics.seeds import seeds_needed_for_significance, seeds_to_decide
from analysis.statistics.sign_flip import sign_flip_p, smallest_p

NAN = math.nan
SLEEP = (
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
)
"""Student 1908, hours of sleep with two drugs; R's `sleep`."""

MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
"""Darwin's maize, crossed less self-fertilised, in eighths of an inch; Fisher 1935, The design of experiments."""


def test_students_sleep() -> None:
    # R: t.test(extra ~ group, data = sleep, paired = TRUE): mean 1.58, interval 0.7001142 to 2.4598858
    mean, half_width, num = paired_difference(*SLEEP)
    assert (mean - half_width, mean, mean + half_width) == pytest.approx((0.7001142, 1.58, 2.4598858), abs=1e-7)
    assert num == 10
    # No difference is negative and one is zero: with either sign of it, all or none of the others are flipped
    assert sign_flip_p(np.subtract(*SLEEP)) == 4 / 2**10


def test_fishers_maize() -> None:
    # Fisher, section 21: 863 of the 32,768 assignments of signs sum to at least 314, and as many to at most -314
    assert sign_flip_p(MAIZE) == 2 * 863 / 2**15


def brute_force_p(differences: list[float]) -> float:
    signs = itertools.product((1, -1), repeat=len(differences))
    totals = [abs(math.fsum(s * d for s, d in zip(sign, differences, strict=True))) for sign in signs]
    return sum(total >= abs(math.fsum(differences)) - 1e-9 for total in totals) / len(totals)


@given(st.lists(st.integers(-200, 200), min_size=1, max_size=9))
def test_every_assignment_of_signs_is_tried(counts: list[int]) -> None:
    differences = [count / 10_000 for count in counts]
    assert sign_flip_p(differences) == pytest.approx(brute_force_p(differences), abs=1e-12)


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=8),
    st.floats(0.01, 100),
    st.permutations(range(8)),
)
def test_sign_order_and_unit_do_not_matter(differences: list[float], unit: float, order: list[int]) -> None:
    p = sign_flip_p(differences)
    turned = [-unit * differences[i] for i in order if i < len(differences)]
    assert sign_flip_p(turned) == p
    assert smallest_p(len(differences)) <= p <= 1


def test_the_sign_flip_test_is_scipys() -> None:
    difference_XS = np.random.default_rng(0).normal(0.005, 0.01, (6, 9))
    found = stats.permutation_test(
        (difference_XS,), np.sum, permutation_type="samples", vectorized=True, axis=-1, n_resamples=math.inf
    )
    np.testing.assert_allclose(sign_flip_p(difference_XS), found.pvalue, rtol=1e-12)
    assert sign_flip_p(difference_XS.reshape(2, 3, 9)).shape == (2, 3)


def test_many_pairs_are_drawn_at_random_and_always_alike() -> None:
    differences = np.random.default_rng(1).normal(0.3, 1, 40)
    p = sign_flip_p(differences)
    assert p == sign_flip_p(differences)
    assert p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.01)
    assert sign_flip_p(np.ones(40)) == smallest_p(40) > 0


def test_pairs_that_say_nothing() -> None:
    p_X = sign_flip_p([[0.1, NAN, 0.2, 0.1], [NAN, NAN, NAN, NAN], [0.0] * 4, [0.1, NAN, NAN, NAN]])
    np.testing.assert_array_equal(p_X, [0.25, NAN, 1, 1])
    assert sign_flip_p(np.empty((2, 0))).shape == (2,)


def test_holms_correction() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_an_untestable_claim_stays_in_the_family() -> None:
    np.testing.assert_allclose(holm([0.01, NAN]), [0.02, 1])
    assert holm([]).size == 0
    np.testing.assert_allclose(holm([0.04]), [0.04])


def test_holm_is_statsmodels() -> None:
    for num in (2, 7, 40):
        p_C = np.random.default_rng(num).beta(0.3, 1, num).round(3)  # with ties
        np.testing.assert_allclose(holm(p_C), multitest.multipletests(p_C, method="holm")[1], rtol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_between_the_raw_value_and_bonferronis(p_C: list[float]) -> None:
    found_C = holm(p_C)
    assert (found_C >= np.array(p_C) - 1e-15).all()
    assert (found_C <= np.minimum(np.array(p_C) * len(p_C), 1) + 1e-15).all()
    assert (np.diff(found_C[np.argsort(p_C, kind="stable")]) >= 0).all()


def test_equivalence_of_students_sleep() -> None:
    # By hand: mean 1.58, s / sqrt(10) = 0.3889587, so t = (1.58 - 2.5) / 0.3889587 = -2.365290 with 9 degrees
    assert equivalence_p(np.subtract(*SLEEP), 2.5) == pytest.approx(stats.t.cdf(-2.365290, 9), rel=1e-5)
    assert equivalence_p(np.subtract(*SLEEP), 1.0) > 0.9


def test_equivalence_is_two_one_sided_tests() -> None:
    difference_XS = np.random.default_rng(2).normal(0.002, 0.005, (5, 7))
    above = stats.ttest_1samp(difference_XS, -0.01, axis=-1, alternative="greater").pvalue
    below = stats.ttest_1samp(difference_XS, 0.01, axis=-1, alternative="less").pvalue
    np.testing.assert_allclose(equivalence_p(difference_XS, 0.01), np.maximum(above, below), rtol=1e-9)


@pytest.mark.parametrize(("p", "inside"), [(0.04, True), (0.06, False)])
def test_equivalent_where_the_ninety_per_cent_interval_is_within_the_margin(p: float, inside: bool) -> None:
    differences = np.random.default_rng(3).normal(0, 1, 6)
    margin = abs(differences.mean()) + stats.t.isf(p, 5) * differences.std(ddof=1) / 6**0.5
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.90)
    assert (max(map(abs, interval)) < margin) == inside
    assert (equivalence_p(differences, margin) <= 0.05) == inside


@pytest.mark.filterwarnings("error")
def test_equivalence_without_variance_or_pairs() -> None:
    same = 0.1 + 0.2 - 0.3  # 5.6e-17
    rows = [[0.005, 0.005 + same, 0.005], [0.02, 0.02, 0.02], [0.0] * 3, [0.005, NAN, NAN], [NAN, NAN, NAN]]
    np.testing.assert_array_equal(equivalence_p(rows, 0.01), [0, 1, 0, NAN, NAN])
    assert equivalence_p([0.01, 0.01], 0.01) == 1


def test_an_interaction_is_the_least_squares_coefficient() -> None:
    draw = np.random.default_rng(5)
    both, one, other, neither = draw.normal(0.6, 0.02, (4, 6))
    # accuracy = seed + a * stn + b * policy + c * stn * policy, fitted by least squares
    seeds = np.tile(np.eye(6), (4, 1))
    stn, policy = np.repeat([1, 0, 1, 0], 6), np.repeat([1, 1, 0, 0], 6)
    design = np.column_stack([seeds, stn, policy, stn * policy])
    fitted = np.linalg.lstsq(design, np.concatenate([both, one, other, neither]), rcond=None)[0]
    found = mean_interval(signed((both, one, other, neither)))
    assert found.mean_X == pytest.approx(fitted[-1])
    interval = stats.ttest_rel(both - one, other - neither).confidence_interval()
    assert found.mean_X + found.half_width_X == pytest.approx(interval.high)
    both[2] = NAN
    assert mean_interval(signed((both, one, other, neither))).num_X == 5


@pytest.mark.parametrize(("num_claims", "needed"), [(1, 6), (3, 7), (6, 8), (10, 9), (50, 11)])
def test_seeds_for_significance(num_claims: int, needed: int) -> None:
    assert seeds_needed_for_significance(num_claims, 0.05) == needed
    best_C = np.full(num_claims, sign_flip_p(np.ones(needed)))
    assert (holm(best_C) <= 0.05).all()
    assert (holm(np.full(num_claims, sign_flip_p(np.ones(needed - 1)))) > 0.05).all()


def test_no_seeds_suffice() -> None:
    assert seeds_needed_for_significance(1, 1e-9) is None
    assert seeds_to_decide(0.0101, 0.01, 1, 1e-9, 0.01) is None
    assert seeds_to_decide(0.01, 0.5, 1, 0.05, 0.01) is None  # a hopeless effect
    assert seeds_to_decide(NAN, 0.5, 1, 0.05, 0.01) is None


@pytest.mark.filterwarnings("error")
def test_seeds_to_decide_without_variance() -> None:
    assert seeds_to_decide(0.05, 0, 3, 0.05, 0.01) == seeds_needed_for_significance(3, 0.05)
    assert seeds_to_decide(0, 0, 3, 0.05, 0.01) == 2


@pytest.mark.parametrize(("num_claims", "effect"), [(1, 0.8), (1, 1.3), (3, 1.3), (3, 2.5), (20, 1.3), (20, 2.5)])
def test_seeds_to_decide_a_difference(num_claims: int, effect: float) -> None:
    num = seeds_to_decide(effect, 1, num_claims, 0.05, 0)
    assert num is not None
    draw = np.random.default_rng(6)
    power = {}
    for seeds in (num - 1, num):
        p_X = sign_flip_p(draw.normal(effect, 1, (400, seeds)))
        power[seeds] = (p_X <= 0.05 / num_claims).mean()
    assert power[num] >= 0.8 - 0.05  # two and a half standard errors of 400 draws
    assert power[num - 1] <= 0.8 + 0.05


@pytest.mark.parametrize(("mean", "num_claims"), [(0, 1), (0.004, 1), (0.002, 6)])
def test_seeds_to_decide_an_equivalence(mean: float, num_claims: int) -> None:
    num = seeds_to_decide(mean, 0.006, num_claims, 0.05, 0.01)
    assert num is not None
    draw = np.random.default_rng(7)
    power = {
        seeds: (equivalence_p(draw.normal(mean, 0.006, (400, seeds)), 0.01) <= 0.05 / num_claims).mean()
        for seeds in (num - 1, num)
    }
    assert power[num] >= 0.8 - 0.05
    assert power[num - 1] <= 0.8 + 0.05
