"""Which folders are classes, and which are the training and the test part, by their names and by what they hold."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.images.tasks.image_files.walk import Unread, folders_in, is_image, loose_files, same_name
from ledger.errors import UserError
from ledger.plain_text import listed, plain

_PART_WORDS = {
    "train": "train|training|trn|trainval",
    "test": "test|testing|tst",
    "val": "val|valid|validation|dev|eval|evaluation",
}
_KINDS = {kind: re.compile(f"({words})(set|data|images?|imgs?|pics?|split)?") for kind, words in _PART_WORDS.items()}

WAYS_OUT = (
    "rename the two parts to train/ and test/, each with a folder for every class, or name the one folder that holds"
    " the classes; if these are classes, give them other names"
)


@dataclass(frozen=True)
class Layout:
    """How a folder of images is to be read.

    root: the folder whose parts or classes are read. parts: of `train` and `test`, or of "" where there are no parts,
    the folder below it, such as "Training/", or "". why: how that was found. spare: further parts, that are not read.
    others: further folders that are not read. warnings: as of Reading.
    """

    root: Path
    parts: dict[str, str]
    why: str
    spare: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """How messages begin."""
        return f"folder {str(self.root)!r}"


def part_of(name: str) -> str:
    """`train`, `test` or `val` for a folder's name that has a word for this one part, such as `seg_train`; else ""."""
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", same_name(name)))
    kinds = {kind for kind, pattern in _KINDS.items() for word in words if pattern.fullmatch(word.casefold())}
    return kinds.pop() if len(kinds) == 1 else ""


def find_layout(root: Path, unread: Unread) -> Layout:
    """How to read the folder. Raises UserError where its folders look like parts, and are not clearly some."""
    names, entered = folders_in(root, unread), ""
    if len(names) == 1 and not part_of(names[0]) and _holds_folders(root, names[0], unread, 2):
        entered = f"in {names[0]}/, the only folder in it: "
        root = root / names[0]
        names = folders_in(root, unread)
    parts = _Parts(root, names, unread)
    chosen = parts.chosen()
    if chosen is None:
        why = f"{entered}one folder a class, each split 80/20 into training and test by a fixed seed"
        return Layout(root, {"": ""}, why, warnings=_like_parts(list(filter(part_of, names))))
    train, test = map(parts.path, chosen)
    by_names = "" if chosen == ("train", "test") else ", by their names"
    why = f"{entered}training from {train}, test from {test}{by_names}"
    left = [name for name in names if name not in chosen]
    warning = (
        f"There is no test part with classes, so {test} serves as it: scores are those on {test},"
        " and mean less where choices were made on these images before."
    )
    return Layout(
        root,
        {"train": train, "test": test},
        why,
        spare=tuple(filter(part_of, left)),
        others=tuple(name for name in left if not part_of(name)),
        warnings=(warning,) if part_of(chosen[1]) == "val" else (),
    )


def _like_parts(classes: list[str]) -> tuple[str, ...]:
    if not classes:
        return ()
    one = f"The folder {classes[0]!r} is read as a class, although its name is that of a part: if it is one"
    many = f"The folders {listed(map(repr, classes))} are read as classes, although their names are those of parts"
    return (f"{one if len(classes) == 1 else f'{many}: if they are parts'}, {WAYS_OUT.partition(';')[0]}.",)


def _holds_folders(root: Path, name: str, unread: Unread, at_least: int) -> bool:
    """Whether a folder only wraps others: no image lies beside it."""
    return not any(map(is_image, loose_files(root))) and len(folders_in(root / name, unread)) >= at_least


class _Parts:
    """The folders of a root, as parts."""

    def __init__(self, root: Path, names: list[str], unread: Unread) -> None:
        self.root, self.names, self.unread = root, names, unread
        self.where = f"folder {str(root)!r}"

    def path(self, name: str) -> str:
        """The part's folder, with a slash: one in it that is called like it, and is the only one, is entered."""
        inner = folders_in(self.root / name, self.unread)
        if len(inner) == 1 and _holds_folders(self.root / name, inner[0], self.unread, 1):
            same = same_name(inner[0]).casefold() == same_name(name).casefold()
            if same or part_of(inner[0]) == part_of(name):
                return f"{name}/{inner[0]}/"
        return f"{name}/"

    def classes(self, name: str) -> set[str]:
        return {same_name(folder) for folder in folders_in(self.root / self.path(name), self.unread)}

    def of_kind(self, kind: str) -> list[str]:
        """The folders that may be this part; the one that is called just so, if there is one."""
        return [kind] if kind in self.names else [name for name in self.names if part_of(name) == kind]

    def chosen(self) -> tuple[str, str] | None:
        """The names of the training and of the test part; None where the folders are classes."""
        trains, tests, vals = (self.of_kind(kind) for kind in ("train", "test", "val"))
        if not trains or not (tests or vals):
            self._check_lonely()
            return None
        if many := next((names for names in (trains, tests or vals) if len(names) > 1), []):
            if any(self.classes(name) for name in many) or all(map(part_of, self.names)):
                raise UserError(f"{self.where}: {listed(map(repr, many))} look like the same part; {WAYS_OUT}")
            return None
        train, test = trains[0], (tests or vals)[0]
        wanted = self.classes(train)
        if wanted and self.classes(test) == wanted:
            return train, test
        if tests and wanted and not self.classes(test):  # as at Kaggle, whose test images have no labels
            if len(vals) == 1 and self.classes(vals[0]) == wanted:
                return train, vals[0]
            if any(map(is_image, loose_files(self.root / self.path(test)))):
                raise UserError(
                    f"{self.where}: {test!r} has images and no class folders, so they have no labels; name"
                    f" {str(self.root / self.path(train))!r} instead, which is split 80/20"
                )
        if (train, test) == ("train", "test"):
            return train, test  # whatever they lack
        if wanted or self.classes(test) or all(map(part_of, self.names)):
            apart = differences({f"{train}/": wanted, f"{test}/": self.classes(test)})
            have = f"different classes: {apart}" if apart else "no class folders"
            raise UserError(f"{self.where}: {train!r} and {test!r} look like parts, and have {have}; {WAYS_OUT}")
        return None

    def _check_lonely(self) -> None:
        """Raise UserError where there is one part and no other, or parts that nothing can be trained on."""
        for name, missing in (("train", "test"), ("test", "train")):
            if name in self.names:
                raise UserError(f"{self.where}: has no {missing}/ beside {name}/; {WAYS_OUT}")
        classes = {frozenset(self.classes(name)) for name in filter(part_of, self.names)}
        if all(map(part_of, self.names)) and len(classes) == 1 and len(classes.pop()) > 1:
            raise UserError(
                f"{self.where}: has no training and test part, only {listed(map(repr, self.names))}; {WAYS_OUT}"
            )


def differences(classes: Mapping[str, set[str]]) -> str:
    """Which of two parts' classes are only in one of them; "" of one part alone."""
    if len(classes) < 2:
        return ""
    (first, in_first), (second, in_second) = classes.items()
    return "; ".join(
        f"{listed(map(repr, sorted(only)))} only in {plain(part)}"
        for part, only in ((first, in_first - in_second), (second, in_second - in_first))
        if only
    )
