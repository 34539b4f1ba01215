"""Scores that count each class the same, however many images it has. N images, K classes."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

UNEVEN = 1.5
"""Images of the largest class over those of the smallest; from there on accuracy says little of the small ones."""

Labels = npt.NDArray[np.integer]


def is_uneven(num_of_class: Iterable[int]) -> bool:
    """Whether some classes have far more images than others; those without any do not count."""
    present = [num for num in num_of_class if num]
    return bool(present) and max(present) >= UNEVEN * min(present)


def balanced_accuracy(label_N: Labels, predicted_N: Labels) -> float:
    """Mean over the classes that images are of: the share of them that is right."""
    num_K, hits_K, _ = _counts(label_N, predicted_N)
    return float((hits_K / np.maximum(num_K, 1)).sum() / (num_K > 0).sum())


def macro_f1(label_N: Labels, predicted_N: Labels) -> float:
    """Mean over the classes that images are of, or are taken for: the harmonic mean of precision and recall."""
    num_K, hits_K, said_K = _counts(label_N, predicted_N)
    either_K = num_K + said_K
    return float((2 * hits_K / np.maximum(either_K, 1)).sum() / (either_K > 0).sum())


def _counts(label_N: Labels, predicted_N: Labels) -> tuple[Labels, Labels, Labels]:
    """Images of each class, those of them that are right, and images that are taken for it, (K,) each."""
    num_classes = int(max(label_N.max(), predicted_N.max())) + 1
    counted = (label_N, label_N[label_N == predicted_N], predicted_N)
    num_K, hits_K, said_K = (np.bincount(each, minlength=num_classes) for each in counted)
    return num_K, hits_K, said_K


def auroc(label_N: Labels, probability_NK: npt.NDArray[np.floating]) -> float | None:
    """Mean over the classes: how often an image of it has a larger probability of it than one of the others has.

    Equal probabilities count half. Only classes that some images are of, and some are not; None where there are none.
    """
    areas = []
    for label, probability_N in enumerate(probability_NK.T):
        is_of_N = label_N == label
        num, others = int(is_of_N.sum()), int((~is_of_N).sum())
        if num and others:
            _, place_N, num_V = np.unique(probability_N, return_inverse=True, return_counts=True)
            rank_V = num_V.cumsum() - (num_V - 1) / 2  # of equal values, their mean
            areas.append((rank_V[place_N[is_of_N]].sum() - num * (num + 1) / 2) / (num * others))
    return float(np.mean(areas)) if areas else None
