"""Scores that count each class the same are those of scikit-learn, and of cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from ledger.class_scores import auroc, balanced_accuracy, is_uneven, macro_f1

LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=50)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of classes that are missing
@given(LABELS)
def test_balanced_accuracy_and_macro_f1_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    label_N, predicted_N = (np.array(each, np.int16) for each in zip(*pairs, strict=True))
    assert balanced_accuracy(label_N, predicted_N) == pytest.approx(balanced_accuracy_score(label_N, predicted_N))
    assert macro_f1(label_N, predicted_N) == pytest.approx(f1_score(label_N, predicted_N, average="macro"))


@given(st.integers(2, 5), st.integers(0, 2**31), st.integers(1, 20))
def test_auroc_is_that_of_scikit_learn(num_classes: int, seed: int, num_levels: int) -> None:
    """Few levels: many images have the same probability."""
    draw = np.random.default_rng(seed)
    label_N = draw.permutation(np.concatenate([np.arange(num_classes), draw.integers(0, num_classes, 30)]))
    weight_NK = draw.integers(1, num_levels + 1, (len(label_N), num_classes)).astype(float)
    probability_NK = weight_NK / weight_NK.sum(1, keepdims=True)
    each = [roc_auc_score(label_N == k, probability_NK[:, k]) for k in range(num_classes)]
    assert auroc(label_N, probability_NK) == pytest.approx(np.mean(each))
    if num_classes > 2:
        of_all = roc_auc_score(label_N, probability_NK, multi_class="ovr", average="macro")
        assert auroc(label_N, probability_NK) == pytest.approx(of_all)


def test_always_naming_the_commonest_class_is_worth_nothing() -> None:
    label_N, predicted_N = np.array([0] * 97 + [1] * 3), np.zeros(100, np.int64)
    assert balanced_accuracy(label_N, predicted_N) == 0.5
    assert macro_f1(label_N, predicted_N) == pytest.approx(97 / 197)  # precision 0.97, recall 1; and 0
    assert auroc(label_N, np.tile([0.97, 0.03], (100, 1))) == 0.5


def test_classes_without_images_do_not_count_and_one_class_has_no_curve() -> None:
    label_N, probability_NK = np.array([0, 0, 2]), np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    assert balanced_accuracy(label_N, np.array([0, 1, 2])) == 0.75
    assert auroc(label_N, probability_NK) == 1
    assert auroc(np.array([1, 1]), probability_NK[:2]) is None


def test_uneven_classes() -> None:
    assert is_uneven([97, 3]) and is_uneven([3, 0, 2]) and is_uneven([15, 10])
    assert not is_uneven([14, 10]) and not is_uneven([10, 0]) and not is_uneven([]) and not is_uneven([0, 0])
