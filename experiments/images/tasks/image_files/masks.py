"""Files that lie beside the pictures and belong to them, such as masks: they tell what a picture shows."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from experiments.images.tasks.image_files.walk import ImageFile, same_name

MASK_SHARE = 0.5
"""Share of a class's pictures: if so many have a mask in the same class, that is a warning."""

_WORDS = "masks?|seg|segm|segmentations?|gt|ground[ _-]?truth|labels?|annotations?|annot|trimaps?"
_ANY = re.compile(_WORDS, re.IGNORECASE)
_NAME = re.compile(
    rf"(?P<before>({_WORDS})[ _.-])?(?P<stem>.+?)(?P<after>[ _.-]({_WORDS})([ _-]?\d+)?)?", re.IGNORECASE
)
_FOLDER = re.compile(rf"(.*[ _.-])?({_WORDS})", re.IGNORECASE)


def mask_warning(files: Sequence[ImageFile]) -> str:
    """What to do about the masks among the images of classes; "" where there are none to speak of."""
    by_class: dict[str, list[ImageFile]] = defaultdict(list)
    for file in files:
        by_class[file.class_name].append(file)
    marks: Counter[str] = Counter()
    for of_class in by_class.values():
        named = [_stem_and_mark(file) for file in of_class]
        pictures = {stem for stem, mark in named if not mark}
        masks = [(stem, mark) for stem, mark in named if mark and stem in pictures]
        if masks and len({stem for stem, _ in masks}) >= MASK_SHARE * len(pictures):
            marks.update(mark for _, mark in masks)
    if not marks:
        return ""
    called = ", ".join(repr(mark) for mark, _ in marks.most_common(3))
    return (
        f"{marks.total():,} of {len(files):,} images are named as companions of others in their class ({called}), as"
        " masks are, and are read like these: move them out of the class folders if they are."
    )


def _stem_and_mark(file: ImageFile) -> tuple[str, str]:
    """The name of the picture that a file is or belongs to, and what marks it as belonging to one; "" for a picture."""
    *above, name = same_name(file.path).split("/")
    folders = above[above.index(file.class_name) + 1 :]
    name = os.path.splitext(name)[0]
    if not _ANY.search("/".join((*folders, name))):  # of most files, and quickly
        return name.lower(), ""
    parts = _NAME.fullmatch(name)
    stem, mark = (parts["stem"], parts["before"] or parts["after"]) if parts else (name, None)
    folder = next((f"{name}/" for name in folders if _FOLDER.fullmatch(name)), "")
    return stem.lower(), re.sub(r"[ _-]?\d+$", "", mark.lower()) if mark else folder
