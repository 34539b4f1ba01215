"""Test images that are training images too, pixel for pixel: a score on them shows memory, not skill."""

import hashlib

import numpy as np
import numpy.typing as npt

from experiments.images.tasks.task import Images, Task
from ledger.study import Overlap


def find_overlap(task: Task) -> Overlap:
    """Compare the decoded images of both parts, before any pose. Of mapped images, few pages are read."""
    # Nearly all images differ in their middle row already, and only the others are compared as a whole.
    of_train, of_test = _middle_rows(task.train), _middle_rows(task.test)
    in_both = set(of_train).intersection(of_test)
    labels: dict[bytes, set[int]] = {}
    for i in (i for i, row in enumerate(of_train) if row in in_both):
        labels.setdefault(_digest(task.train, i), set()).add(int(task.train.labels_N[i]))
    has_other_label = [
        labels[digest] != {int(task.test.labels_N[i])}
        for i, row in enumerate(of_test)
        if row in in_both and (digest := _digest(task.test, i)) in labels and not _is_plain(task.test.pixels_NHWC[i])
    ]
    return Overlap(num_test=len(has_other_label), num_other_label=sum(has_other_label))


def _middle_rows(images: Images) -> list[bytes]:
    return [row_WC.tobytes() for row_WC in images.pixels_NHWC[:, images.pixels_NHWC.shape[1] // 2]]


def _is_plain(pixels_HWC: npt.NDArray[np.uint8]) -> bool:
    return bool((pixels_HWC == pixels_HWC[0, 0]).all())


def _digest(images: Images, i: int) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(images.pixels_NHWC[i]).data).digest()


def overlap_text(task: Task, overlap: Overlap) -> str:
    """Both numbers in a line; "" where there is no overlap."""
    num, num_test = overlap.num_test, len(task.test)
    if not num:
        return ""
    are = "is a training image" if num == 1 else "are training images"
    other = f", {overlap.num_other_label:,} of them with another label there" if overlap.num_other_label else ""
    return (
        f"{task.label}: {num:,} of {num_test:,} test images ({_per_cent(num / num_test)} %) {are} too, pixel for"
        f" pixel{other}: a score on these shows memory, not skill"
    )


def _per_cent(share: float) -> str:
    """Two digits, and never an exponent."""
    return f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}" if share >= 1e-6 else "less than 0.0001"
