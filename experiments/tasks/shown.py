"""What was read, for people: the classes and their numbers of images, and what a task's reading tells."""

from typing import Any

from experiments.plain_text import plain
from experiments.private_text import without_folders
from experiments.tasks import Task

MAX_CLASSES = 8
"""Of more, the first and the last few are named."""
MAX_NAME = 32
"""Characters of a class's name."""
MAX_TEXT = 2000
"""Characters of a fact or a warning."""


def image_facts(task: Task) -> tuple[tuple[str, str], ...]:
    """Headings and texts: the classes, how far one gets who always answers the largest, and the reading's facts."""
    train, test = task.num_by_class
    names = [name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..." for name in map(plain, task.classes)]
    classes = [f"{name} {ours:,}/{theirs:,}" for name, ours, theirs in zip(names, train, test, strict=True)]
    if len(classes) > MAX_CLASSES:
        classes = [*classes[: MAX_CLASSES // 2], "...", *classes[-MAX_CLASSES // 2 + 1 :]]
    most = max(test)
    share = f"always answering {names[test.index(most)]!r} would be right for {percent(most, sum(test))} of test images"
    facts = (("Classes", f"{', '.join(classes)} (training/test images)"), ("Largest", share))
    return (*facts, *((_fit(heading), _fit(text)) for heading, text in task.reading.facts))


def image_warnings(task: Task) -> list[str]:
    """Sentences on what may make an answer another one than it seems."""
    return [_fit(text) for text in task.reading.warnings]


def images_record(task: Task) -> dict[str, Any]:
    """What study.json says of them: facts and warnings of the reading, images of each class in label order."""
    train, test = task.num_by_class
    facts = [[_fit(heading), _fit(text)] for heading, text in task.reading.facts]
    return {"facts": facts, "warnings": image_warnings(task), "train": list(train), "test": list(test)}


def percent(num: int, of: int) -> str:
    """Such as `97.0 %`."""
    share = 100 * num / of
    return f"{share:.1f} %" if share >= 0.1 or not num else "less than 0.1 %"


def _fit(text: str) -> str:
    """For a terminal, and for a ledger that leaves this machine."""
    return plain(without_folders(text))[:MAX_TEXT]
