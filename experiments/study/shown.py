"""What was read, for people: the classes and their numbers of images, and what a task's reading tells."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from experiments.images.tasks import Task
from experiments.runs.images import split, stratified
from ledger.class_scores import is_uneven
from ledger.config import Protocol
from ledger.plain_text import listed, plain
from ledger.private_text import without_folders

MAX_CLASSES = 8
"""Of more, the first and the last few are named."""
MAX_NAME = 32
"""Characters of a class's name."""
LARGE_SHARE = 0.2
"""Of the images that were planned; a part that has so many more or fewer is named."""
_UNEVEN = "balanced accuracy, macro F1 and AUROC will stand beside accuracy; "
_WEIGHTS = {
    "none": "class_weights: balanced in the protocol has all classes count the same in training",
    "balanced": "in training all classes count the same (class_weights: balanced)",
}
MAX_TEXT = 2000
"""Characters of a fact or a warning."""


def image_facts(task: Task, protocol: Protocol) -> tuple[tuple[str, str], ...]:
    """Headings and texts: the classes, how far one gets who always answers the largest, and the reading's facts.

    For a terminal: beside groups stand files, which no record names.
    """
    train, test = task.num_by_class
    names = [name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..." for name in map(plain, task.classes)]
    classes = [f"{name} {in_train:,}/{in_test:,}" for name, in_train, in_test in zip(names, train, test, strict=True)]
    if len(classes) > MAX_CLASSES:
        classes = [*classes[: MAX_CLASSES // 2], "...", *classes[-MAX_CLASSES // 2 + 1 :]]
    most = max(test)
    share = f"always answering {names[test.index(most)]!r} would be right for {percent(most, sum(test))} of test images"
    facts = [("Classes", f"{', '.join(classes)} (training/test images)"), ("Largest", share)]
    if is_uneven(test):
        facts.append(("Uneven", _UNEVEN + _WEIGHTS[protocol.class_weights]))
    told = dict(task.reading.facts)
    if task.group_example:
        told["Groups"] += f"; {task.group_example}"
    return (*facts, *((_fit(heading), _fit(text)) for heading, text in told.items()))


def image_warnings(task: Task, protocol: Protocol) -> list[str]:
    """Sentences on what may make an answer another one than it seems. protocol: fitted to the task."""
    return [_fit(text) for text in (*task.reading.warnings, *_of_parts(task, protocol))]


def _of_parts(task: Task, protocol: Protocol) -> Iterator[str]:
    """Which parts groups make far larger or smaller than planned, and which have no image of a class that is rare."""
    num_classes = len(task.classes)
    train_N, test_N = (torch.arange(num_classes).repeat_interleave(torch.tensor(num)) for num in task.num_by_class)
    if task.train.group_N is not None:  # which belong to the images in their own order
        train_N = torch.from_numpy(np.array(task.train.labels_N))
    # Without groups the seed only matters among equally rare classes: which of them go without, but not how many.
    train, val = split(train_N, protocol, 0, task.train.group_N)
    test = stratified(torch.arange(len(test_N)), test_N, protocol.test_images or len(test_N))[0]
    for kind, num, planned in (
        ("training", len(train), protocol.train_images),
        ("validation", len(val), protocol.val_images),
    ):
        if task.train.group_N is not None and abs(num - planned) > LARGE_SHARE * planned > 0:
            yield f"Groups are so large that there are {num:,} {kind} images with the first seed, not {planned:,}."
    parts = (("train", "training", train_N[train]), ("val", "validation", train_N[val]), ("test", "test", test_N[test]))
    for part, kind, labels_N in parts:
        present = set(labels_N.tolist())
        if missing := [repr(name) for i, name in enumerate(task.classes) if present and i not in present]:
            of = f"of class{'es' * (len(missing) > 1)} {listed(missing)}"
            why = f"too rare for so few images: plan more (protocol.{part}_images), or leave such classes out."
            if task.train.group_N is not None:
                why = f"of too few images or groups: plan more (protocol.{part}_images), or leave such classes out."
            yield f"None of the {len(labels_N):,} {kind} images is {of}, {why}"


def images_record(task: Task, protocol: Protocol) -> dict[str, Any]:
    """What study.json says of them: facts and warnings, images of each class in label order."""
    train, test = task.num_by_class
    facts = [[_fit(heading), _fit(text)] for heading, text in task.reading.facts]
    return {"facts": facts, "warnings": image_warnings(task, protocol), "train": list(train), "test": list(test)}


def percent(num: int, of: int) -> str:
    """Such as `97.0 %`."""
    share = 100 * num / of
    return f"{share:.1f} %" if share >= 0.1 or not num else "less than 0.1 %"


def _fit(text: str) -> str:
    """For a terminal, and for a ledger that leaves this machine."""
    return plain(without_folders(text))[:MAX_TEXT]
