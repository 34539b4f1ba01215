"""What an answer without a look is worth: always naming the commonest class."""

from collections.abc import Iterator

from analysis.formats import one_line
from analysis.records import Study


def chance(study: Study) -> float:
    """Share of the training images that are of the commonest class; of equal classes where they were not counted."""
    num = study.images.num_train if study.images else ()
    return max(num) / sum(num) if sum(num) else 1 / max(study.num_classes, 1)


def majority(study: Study) -> tuple[str, float] | None:
    """The class that most test images are of, and their share; None where they were not counted."""
    num = study.images.num_test if study.images else ()
    return (study.classes[num.index(max(num))], max(num) / sum(num)) if sum(num) else None


def chance_line(study: Study) -> tuple[str, float] | None:
    """What figures of accuracies show beside them, in words, and its share; None where the classes are not known."""
    if found := majority(study):
        return "always the commonest class", found[1]
    return ("a guess among equal classes", 1 / study.num_classes) if study.num_classes else None


def majority_note(study: Study) -> Iterator[str]:
    """The commonest class in words; nothing where images were not counted."""
    if found := majority(study):
        right = f"is right on {100 * found[1]:.1f} % of the test images"
        yield f"Always naming the commonest class, {one_line(found[0])}, {right}."
