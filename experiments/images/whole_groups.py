"""Parts of images that take whole groups, such as all pictures of a patient, and of each class about its share."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt


def choose_groups(
    labels_N: Sequence[int] | npt.NDArray[np.int64],
    group_N: Sequence[int] | npt.NDArray[np.int64],
    order: Iterable[int],
    num: int,
) -> npt.NDArray[np.bool_]:
    """Which images, (N,), are in a part of about `num` that takes whole groups and leaves images of every class.

    order: of the groups' numbers. Each group in turn is taken if that brings the numbers of images of each class nearer
    to their share (squared distances, each over the size of its class); then, for each class that the part still
    lacks, the rarest first, the group that takes these numbers least far away. No group is taken that has all that is
    left of a class.
    """
    classes_of: dict[int, Counter[int]] = defaultdict(Counter)
    for label, group in zip(map(int, labels_N), map(int, group_N), strict=True):
        classes_of[group][label] += 1
    total = Counter(map(int, labels_N))
    has, chosen, order = Counter[int](), set[int](), [group for group in map(int, order) if group in classes_of]

    def further(group: int) -> float:
        """How much further away from their share taking it brings them: exactly rounded, so the same everywhere."""
        terms = (n * ((n + 2 * has[k]) * len(labels_N) - 2 * num * total[k]) for k, n in classes_of[group].items())
        return math.fsum(term / total[k] for term, k in zip(terms, classes_of[group], strict=True))

    def can_be_spared(group: int) -> bool:
        return group not in chosen and all(has[k] + n < total[k] for k, n in classes_of[group].items())

    def take(group: int) -> None:
        chosen.add(group)
        has.update(classes_of[group])

    for group in order:
        if can_be_spared(group) and further(group) < 0:
            take(group)
    for label in sorted(total, key=lambda k: (total[k], k)) if num else ():
        if not has[label]:
            able = [group for group in order if label in classes_of[group] and can_be_spared(group)]
            if able:
                take(min(able, key=further))
    return np.isin(group_N, sorted(chosen))
