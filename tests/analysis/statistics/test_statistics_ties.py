"""The best of several, and what cannot be told apart from it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.statistics.ties import best_of

NAN = float("nan")


def test_against_paired_t_tests_and_holm() -> None:
    score_AS = np.random.default_rng(3).normal([[0.5], [0.52], [0.56], [0.561], [0.3]], 0.02, (5, 6))
    best = best_of(score_AS)
    index = int(score_AS.mean(axis=1).argmax())
    assert best.index == index
    others = [i for i in range(5) if i != index]
    p = [stats.ttest_rel(score_AS[i], score_AS[index]).pvalue for i in others]
    expected = multipletests(p, method="holm")[1]
    np.testing.assert_allclose(best.p_A[others], expected)
    assert np.isnan(best.p_A[index])
    assert [i for i in range(5) if best.tied(0.05)[i]] == [i for i, p in zip(others, expected, strict=True) if p > 0.05]


def test_smaller_is_better() -> None:
    score_AS = np.array([[1.0, 1.1, 1.2], [0.5, 0.6, 0.71], [0.5, 0.61, 0.72]])
    assert best_of(score_AS, smaller_is_better=True).index == 1
    np.testing.assert_allclose(best_of(score_AS, smaller_is_better=True).p_A, best_of(-score_AS).p_A)


def test_zero_variance() -> None:
    best = best_of([[0.5, 0.6, 0.7], [0.5, 0.6, 0.7], [0.4, 0.5, 0.6]])
    assert best.index == 0
    np.testing.assert_allclose(best.p_A[1:], [1.0, 0.0], atol=1e-12)
    assert best.tied(0.05).tolist() == [False, True, False]


def test_one_lucky_seed_is_not_the_best() -> None:
    best = best_of([[0.9, NAN, NAN], [0.5, 0.6, 0.7], [NAN, NAN, NAN]])
    assert best.index == 1
    assert np.isnan(best.p_A).all()
    assert best.tied(0.05).tolist() == [True, False, True]  # nobody can tell


def test_seeds_in_common_count() -> None:
    """Pairs are of seeds that both have, whatever else one of them has."""
    best = best_of([[0.5, 0.62, 0.7, NAN], [0.4, 0.5, 0.61, 0.1], [0.1, NAN, NAN, 0.2]])
    p = stats.ttest_rel([0.4, 0.5, 0.61], [0.5, 0.62, 0.7]).pvalue
    assert best.p_A[1] == pytest.approx(p)  # the third was not tested, and does not count
    assert np.isnan(best.p_A[2])


@pytest.mark.parametrize("score_AS", [np.full((2, 3), NAN), np.empty((2, 0))])
def test_no_score(score_AS: np.ndarray) -> None:
    assert best_of(score_AS).index is None
    assert best_of(score_AS).tied(0.05).all()


def test_one_seed_each() -> None:
    best = best_of([[0.5], [0.6]])
    assert (best.index, best.tied(0.05).tolist()) == (1, [True, False])


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=2, max_size=6), st.integers(0, 100))
def test_the_order_has_no_say(rows: list[list[float]], seed: int) -> None:
    score_AS = np.array(rows) + np.random.default_rng(seed).normal(0, 0.1, (len(rows), 3))
    order = np.random.default_rng(seed).permutation(len(rows))
    best, moved = best_of(score_AS), best_of(score_AS[order])
    assert order[moved.index] == best.index
    np.testing.assert_allclose(moved.p_A, best.p_A[order], rtol=1e-6)
