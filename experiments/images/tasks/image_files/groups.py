"""Which images of a folder belong together, as those of one patient or specimen do: by folder, by table, by name."""

import csv
import io
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.images.tasks.image_files.layout import Layout
from experiments.images.tasks.image_files.walk import ImageFile, same_name
from ledger.errors import UserError, nearest
from ledger.plain_text import listed

FORMS = "folder, folder:LEVEL, csv:FILE:COLUMN or name:PATTERN"
NUM_NAMED = 3
"""Files that a message names."""
MAX_BYTES = 64 * 2**20
"""Of a table."""


class Groups(NamedTuple):
    """how: what they go by, in words. of: the group of each image, by its path; empty where nothing was said."""

    how: str = ""
    of: Mapping[str, str] = {}


Files = Mapping[str, Sequence[ImageFile]]
"""By part, as Layout.parts has them."""


def find_groups(given: str, layout: Layout, parts: Files) -> Groups:
    """The group of every image; groups of one name are one, whatever their class. given: as FORMS says.

    Raises UserError for other forms, and for images that it gives no group.
    """
    kind, colon, argument = given.partition(":")
    if kind not in _FINDERS or not (argument or (kind == "folder" and not colon)):
        raise _error(given, f"is not of the form {FORMS}; {nearest(kind, _FINDERS)}")
    return _FINDERS[kind](argument, layout, parts)


def _error(given: str, what: str) -> UserError:
    return UserError(f"group: '{given}' {what}")  # no repr: a pattern's backslashes stay single


def _grouped(
    given: str, how: str, what: str, found: Mapping[str, str], seen: Callable[[str], str] = same_name
) -> Groups:
    """The groups, where every image has one. what: what an image lacks that has none. seen: what is seen of a path."""
    if lacking := [path for path, group in found.items() if not group]:
        num = f"{len(lacking):,} of {len(found):,}" if len(lacking) < len(found) else f"all {len(found):,}"
        raise _error(given, f"gives no group to {num} images, which lack {what}: {_first([*map(seen, lacking)])}")
    return Groups(how, found)


def _name(path: str) -> str:
    """What patterns are matched against: the file's name with its ending, without folders."""
    return os.path.basename(same_name(path))


def _first(paths: Sequence[str]) -> str:
    return listed(map(repr, paths), NUM_NAMED)


def _by_folder(level: str, layout: Layout, parts: Files) -> Groups:
    given = f"folder:{level}" if level else "folder"
    if level and not re.fullmatch("[1-9][0-9]?", level):
        raise _error(given, "names no level: 1 is the folder below the class, 2 the one below that")
    depth = int(level or 1)
    found = {}
    for part, files in parts.items():
        above = layout.parts[part].count("/") + 1  # the part's folders, and the class
        for file in files:
            folders = same_name(file.path).split("/")[above:-1]
            found[file.path] = "/".join(folders[:depth]) if len(folders) >= depth else ""
    how = "the folder below the class" if depth == 1 else f"the {depth} folders below the class"
    return _grouped(given, how, "a folder below the class" + f" at level {depth}" * (depth > 1), found)


def _by_name(pattern: str, layout: Layout, parts: Files) -> Groups:
    given = f"name:{pattern}"
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise _error(given, f"is no regular expression: {error}") from None
    if compiled.groups != 1:
        raise _error(given, f"needs one pair of brackets, around what names the group; it has {compiled.groups}")
    found = {}
    for files in parts.values():
        for file in files:
            match = compiled.search(_name(file.path))
            found[file.path] = (match[1] or "") if match else ""
    lacks = "a name (with its ending, without folders) that it matches"
    return _grouped(given, f"the pattern '{pattern}' in file names", lacks, found, _name)


def _by_table(argument: str, layout: Layout, parts: Files) -> Groups:
    name, _, column = argument.rpartition(":")
    given = f"csv:{argument}"
    if not name or not column:
        raise _error(given, "is not of the form csv:FILE:COLUMN")
    header, rows = _read_table(given, Path(os.path.expanduser(name)))
    if column not in header:
        raise _error(given, f"names no column of the file; {nearest(column, header)}")
    place = _Places([file for files in parts.values() for file in files])
    found = dict.fromkeys(place.paths, "")
    absent = []
    for row in rows:
        named, group = row[0].strip(), row[header.index(column)].strip()
        path = place.of(given, named)
        if path is None:
            if not (named and os.path.lexists(layout.root / named)):  # what lies there and is not read needs no group
                absent.append(named)
        elif found[path] not in ("", group):
            raise _error(given, f"has {named!r} twice, in groups {found[path]!r} and {group!r}")
        else:
            found[path] = group
    if absent:
        raise _error(
            given,
            f"names {len(absent):,} of {len(rows):,} files that are not there, first {_first(absent)}; its first"
            f" column, {header[0]!r}, is to name them as they lie in {str(layout.root)!r}, or without folders",
        )
    return _grouped(
        given, f"column {column!r} of {os.path.basename(name)}", f"a value of {column!r} in the table", found
    )


_FINDERS: Mapping[str, Callable[[str, Layout, Files], Groups]] = {
    "folder": _by_folder,
    "csv": _by_table,
    "name": _by_name,
}


class _Places:
    """The images of a folder, to be found by their paths, or by their names alone where these are unique."""

    def __init__(self, files: Sequence[ImageFile]) -> None:
        self.paths = [file.path for file in files]
        self.by_path = {same_name(path): path for path in self.paths}
        self.num_of = Counter(map(os.path.basename, self.by_path))
        self.by_name = {os.path.basename(name): path for name, path in self.by_path.items()}

    def of(self, given: str, named: str) -> str | None:
        named = same_name(named.removeprefix("./"))
        if named in self.by_path:
            return self.by_path[named]
        if (num := self.num_of[named]) > 1:
            raise _error(given, f"names {named!r}, and there are {num:,} images of that name; write their folders too")
        return self.by_name.get(named)


def _read_table(given: str, path: Path) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the rows, which have as many fields; empty lines are left out."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _error(given, f"is larger than {MAX_BYTES // 2**20} MiB")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise _error(given, f"cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, ValueError):
        raise _error(given, "is not text in UTF-8") from None
    separator = max(",;\t", key=text.partition("\n")[0].count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator) if any(row)]
    except csv.Error as error:
        raise _error(given, f"is no table: {error}") from None
    if len(rows) < 2:
        raise _error(given, "has no rows below the names of its columns")
    header = [name.strip() for name in rows[0]]
    if odd := next((row for row in rows if len(row) != len(header)), None):
        raise _error(given, f"has a row of {len(odd)} fields, {_first(odd)}, and {len(header)} columns")
    return header, rows[1:]


def group_remarks(groups: Groups, parts: Files) -> Iterator[tuple[str, str] | str]:
    """Facts and warnings, as `of_files` has them. parts: `train` and `test`.

    They name no group and no file: it may be called like a person, and the texts go wherever a report goes.
    """
    train, test = (Counter(groups.of[file.path] for file in parts[part]) for part in ("train", "test"))
    sizes = train + test
    largest = max(sizes.values())
    yield (
        "Groups",
        f"{len(sizes):,} by {groups.how}, the largest of {largest:,} of {sizes.total():,} images; {len(train):,} in"
        f" training and validation, {len(test):,} in test. They stay whole, so parts are about as large as planned",
    )
    if mixed := sum(len(names) > 1 for names in _classes_of(groups, parts).values()):
        have = "group has" if mixed == 1 else "groups have"
        yield (
            f"{mixed:,} of {len(sizes):,} {have} images of several classes. One specimen is seldom of two: if such"
            " images do not belong together, group them by more of their names, or by their folders."
        )
    if largest == 1:
        yield f"Every image is a group of its own (by {groups.how}): nothing is kept together."
    if both := [group for group in test if group in train]:
        are = "group lies" if len(both) == 1 else "groups lie"
        yield (
            f"{len(both):,} {are} in training and in test: {sum(test[group] for group in both):,} of {test.total():,}"
            " test images have others of their group in training, and a score on these may show memory. Move each group"
            " to one side, or put all images into one folder a class, which is split by groups."
        )


def group_example(groups: Groups, parts: Files) -> str:
    """Files of the largest group, and of one of several classes, in words. For a terminal: files may name people."""
    classes_of = _classes_of(groups, parts)
    sizes = Counter(groups.of.values())
    (largest, _), *_ = sizes.most_common(1)
    paths = sorted(path for path, group in groups.of.items() if group == largest)
    text = f"in the largest {_first(paths[:2])}"
    mixed = next((classes_of[group] for group, _ in sizes.most_common() if len(classes_of[group]) > 1), {})
    return f"{text}; in one of several classes {_first([*mixed.values()][:2])}" if mixed else text


def _classes_of(groups: Groups, parts: Files) -> Mapping[str, Mapping[str, str]]:
    """By group the classes of its images, each with an image's path."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for file in sorted((file for files in parts.values() for file in files), key=lambda file: file.path):
        found[groups.of[file.path]].setdefault(file.class_name, file.path)
    return found
