"""The user's own images: `folder:PATH`, one folder a class, decoded once into the cache."""

import hashlib
import os
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from experiments.images.tasks.cache import Parts, cached
from experiments.images.tasks.image_files.decoding import DEEP_BITS, Picture, decode, reason
from experiments.images.tasks.image_files.facts import OR_RENAME, best_ground, kinds_text, of_files, of_pictures
from experiments.images.tasks.image_files.groups import Groups, find_groups, group_example, group_remarks
from experiments.images.tasks.image_files.layout import Layout, differences, find_layout
from experiments.images.tasks.image_files.walk import (
    EXTENSIONS,
    ImageFile,
    Unread,
    extension,
    folders_in,
    images_of,
    in_order,
    loose_files,
    may_be_image,
    same_name,
)
from experiments.images.tasks.progress import Progress
from experiments.images.tasks.reading import USUAL, Reading, ToRgb
from experiments.images.tasks.task import TASKS, Images, Say, Task
from experiments.images.whole_groups import choose_groups
from experiments.machine.cores import num_cores
from ledger.config import Fit
from ledger.errors import UserError, nearest
from ledger.plain_text import listed, plain

TEST_SHARE = 0.2
"""Share of each class that is for testing, where the folder has no parts of its own."""
SPLIT_SEED = 0
MIN_IMAGES_TO_SPLIT = 5
"""Least number in a class; with fewer, a fifth is not one image."""

DECODING = 5
"""Counted up when other pixels, or words on them, come of the same files: part of what is asked of the cache."""
_ARCHIVE = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|gz|bz2|xz|zst|7z|rar)$", re.IGNORECASE)
_BLOCK = 64
_SMALL_BYTES = 32 * 1024


@TASKS.register("folder")
def folder(argument: str, *, image_px: int, fit: Fit, cache: Path, say: Say, group: str = "") -> Task:
    """Your own images, as folder:PATH: train/ and test/ with a folder for each class, or just class folders.

    Arguments as of BuildTask.

    Parts may be called otherwise, such as seg_train/ and Testing/, where it is clear which they are. A folder of
    classes is split 80/20 in every class by a fixed seed: the same files always land in the same part, and groups of
    images, if there are any, in one part. Values of 16 bits, and those in floating point, have one scale for all
    images, by the brightest of them, and transparent parts one ground. Where all images are grey they have one channel;
    grey ones among others are RGB. Poses are the identity. The label is the folder's own name.
    """
    if not argument:
        raise UserError("task 'folder': needs a path, as in folder:PATH")
    if "\0" in argument:
        raise UserError(f"task {f'folder:{argument}'!r}: no path has a zero byte")
    root = Path(os.path.expanduser(argument))
    name = os.path.basename(os.path.realpath(root))
    label = "".join("?" if _is_control(letter) else letter for letter in name) or "folder"
    layout, parts, by_name, groups = _scan(root, group)
    digest = hashlib.sha256()
    for part, files in parts.items():
        for file in files:
            digest.update(os.fsencode(f"{part}\0{same_name(file.path)}\0{file.stamp}\n"))

    def build(_scratch: Path) -> Parts:
        return _decode_parts(layout, parts, group_N, image_px, fit, lambda line: say(f"folder {label}: {line}"))

    source: dict[str, Any] = {"files": digest.hexdigest(), "image_px": image_px, "fit": fit, "decoding": DECODING}
    group_N = None
    if groups.of:
        number: dict[str, int] = {}
        group_N = [number.setdefault(groups.of[file.path], len(number)) for file in parts["train"]]
        source["groups"] = group_N
    decoded = cached("folder", source, cache, build, say)
    by_pixels = decoded.reading
    facts, warnings = (*by_name.facts, *by_pixels.facts), (*by_name.warnings, *by_pixels.warnings)
    example = group_example(groups, parts) if groups.of else ""
    reading = Reading(facts, warnings, by_pixels.to_rgb)
    return Task("folder", label, *decoded._replace(reading=reading), group_example=example)


def training_files(argument: str, group: str) -> list[Path]:
    """The files of a task's training images, in their order. Arguments as of `folder`. Raises UserError."""
    layout, parts, *_ = _scan(Path(os.path.expanduser(argument)), group)
    return [layout.root / file.path for file in parts["train"]]


def _scan(given: Path, group: str = "") -> tuple[Layout, dict[str, list[ImageFile]], Reading, Groups]:
    """What the folder has, as its names tell, and the files of `train` and `test`, sorted by path. Opens no image."""
    where = f"folder {str(given)!r}"
    try:
        if not given.is_dir():
            raise UserError(f"{where}: {_why_not_a_folder(given)}")
        if not os.listdir(given):
            raise UserError(f"{where}: is empty")
        unread = Unread()
        layout = find_layout(given, unread)
        where = layout.where
        class_of = _classes(layout, unread)
        parts = {part: images_of(layout.root, path, class_of[part], unread) for part, path in layout.parts.items()}
        _check_images(layout, class_of, parts, unread)
        groups = find_groups(group, layout, parts) if group else Groups()
        if "" in parts:
            parts = _split_groups(parts[""], groups, where) if groups.of else _split(parts[""], where)
        more = group_remarks(groups, parts) if groups.of else ()
        return layout, parts, of_files(layout, parts, unread, more), groups
    except OSError as error:
        link = " (a link to nothing)" if error.filename and os.path.islink(error.filename) else ""
        raise UserError(f"{where}: cannot be read: {error.filename!r}{link}: {error.strerror}") from error


def _why_not_a_folder(given: Path) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(given)):  # a path has lost one of the two slashes
        return "is an address: download its images, unpack them, and name their folder"
    if given.is_file() and _ARCHIVE.search(given.name):
        return "is an archive: unpack it, and name the folder that comes of it"
    return f"{'is not a folder' if given.exists() else 'does not exist'}{_nearest_path(given)}"


def _nearest_path(root: Path) -> str:
    """The hint that ends an error about a path; nothing where the folder above it is missing too."""
    try:
        beside = [entry.name for entry in os.scandir(root.parent) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return ""
    hint = nearest(root.name, beside)
    return f"; {hint}" if hint.startswith("did you mean") else ""


def _classes(layout: Layout, unread: Unread) -> dict[str, dict[str, str]]:
    """For each part, the class of each folder: its name, spelled in one way on all systems.

    Raises UserError where the parts have different ones, or one twice.
    """
    class_of = {
        part: {name: same_name(name) for name in folders_in(layout.root / path, unread)}
        for part, path in layout.parts.items()
    }
    for part, path in layout.parts.items():
        twice = [name for name, num in Counter(class_of[part].values()).items() if num > 1]
        if twice:
            raise UserError(
                f"{layout.where}: class {twice[0]!r} has two folders{_inside(path)}, whose names look alike and are"
                " spelled with different Unicode characters (NFC and NFD); put all images into one of them"
            )
    if only := differences({path: set(class_of[part].values()) for part, path in layout.parts.items()}):
        train, test = map(plain, layout.parts.values())
        raise UserError(f"{layout.where}: {train} and {test} have different classes: {only}")
    return class_of


def _check_images(
    layout: Layout, class_of: Mapping[str, Mapping[str, str]], parts: Mapping[str, list[ImageFile]], unread: Unread
) -> None:
    """Raise UserError unless every part has images of every class, and of two classes at least."""
    where = layout.where
    if not any(parts.values()):
        extensions = ", ".join(sorted(EXTENSIONS))
        raise UserError(f"{where}: has no images in class folders ({extensions}){_instead(layout, unread)}")
    for part, files in parts.items():
        inside = _inside(layout.parts[part])
        with_images = {file.class_name for file in files}
        names = list(class_of[part].values())
        for name in names:
            if name not in with_images:
                images, _ = unread.sorted_out(layout.root)
                left = Counter({kind: num for (of, kind), num in unread.num.items() if of == name})
                has = f"; it has {kinds_text(images.get(name, left))}" if left else ""
                how = f": convert these to PNG or JPEG{OR_RENAME}" if name in images else ""
                raise UserError(f"{where}: class {name!r} has no images{inside}{has}{how}")
            if any(map(_is_control, name)):
                raise UserError(f"{where}: class {name!r} has a name that is not valid text; rename its folder")
        if len(with_images) < 2:
            raise UserError(f"{where}: has only one class{inside}, {names[0]!r}; at least two are needed")


def _instead(layout: Layout, unread: Unread) -> str:
    """What a folder without any image in a class folder has in place of them, and what to do."""
    images, _ = unread.sorted_out(layout.root)
    if images:
        return f"; it has {kinds_text(sum(images.values(), Counter()))}: convert these to PNG or JPEG{OR_RENAME}"
    folders = [layout.root / path for path in layout.parts.values()]
    loose = Counter(
        extension(name) for folder in folders for name in loose_files(folder) if may_be_image(folder / name)
    )
    if loose:
        return f"; it has {kinds_text(loose)} outside such folders: make a folder for each class and move them there"
    return ""


def _inside(path: str) -> str:
    return f" in {plain(path)}" if path else ""


def _is_control(letter: str) -> bool:
    """Whether a letter of a file's name is not text: stray bytes, controls, line ends, changes of direction."""
    if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp"):
        return True
    return unicodedata.bidirectional(letter) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def _split(files: Sequence[ImageFile], where: str) -> dict[str, list[ImageFile]]:
    """Every class 80/20, in the order of a seeded hash of the path: a new file hardly moves the others."""

    parts: dict[str, list[ImageFile]] = {"train": [], "test": []}
    for of_class in _by_class(files, where).values():
        shuffled = sorted(of_class, key=lambda file: _seeded_hash(file.path))
        num_test = round(TEST_SHARE * len(of_class))
        parts["test"] += shuffled[:num_test]
        parts["train"] += shuffled[num_test:]
    return {part: in_order(chosen) for part, chosen in parts.items()}


def _by_class(files: Sequence[ImageFile], where: str) -> dict[str, list[ImageFile]]:
    """In the order of names. Raises UserError for a class that is too small to be split."""
    by_class: dict[str, list[ImageFile]] = defaultdict(list)
    for file in files:
        by_class[file.class_name].append(file)
    for name, of_class in sorted(by_class.items()):
        if len(of_class) < MIN_IMAGES_TO_SPLIT:
            raise UserError(
                f"{where}: class {name!r} has {len(of_class)} images, too few to split 80/20;"
                f" give it at least {MIN_IMAGES_TO_SPLIT}, or make train/ and test/ folders"
            )
    return dict(sorted(by_class.items()))


def _seeded_hash(name: str) -> bytes:
    return hashlib.sha256(os.fsencode(f"{SPLIT_SEED}\0{same_name(name)}")).digest()


def _split_groups(files: Sequence[ImageFile], groups: Groups, where: str) -> dict[str, list[ImageFile]]:
    """About 80/20 in every class, each group on one side. Raises UserError where a class would be on one side only."""
    classes = {name: label for label, name in enumerate(_by_class(files, where))}
    names = sorted({groups.of[file.path] for file in files}, key=_seeded_hash)
    number = {name: i for i, name in enumerate(names)}
    is_test_N = choose_groups(
        [classes[file.class_name] for file in files],
        [number[groups.of[file.path]] for file in files],
        range(len(names)),
        round(TEST_SHARE * len(files)),
    )
    parts = {
        part: [file for file, is_test in zip(files, is_test_N, strict=True) if is_test == (part == "test")]
        for part in ("train", "test")
    }
    tested = {file.class_name for file in parts["test"]}
    if lost := [name for name in classes if name not in tested]:  # none is lost to training
        own = sorted({groups.of[file.path] for file in files if file.class_name == lost[0]})
        few = f"is in {'one group' if len(own) == 1 else f'{len(own)} groups'} only, {listed(map(repr, own), 3)}"
        raise UserError(
            f"{where}: class {lost[0]!r} {few} (by {groups.how}), and cannot be trained on and tested with no group on"
            " both sides; add groups to it, leave it out, or group in another way"
        )
    return parts


def _decode_parts(
    layout: Layout,
    parts: Mapping[str, list[ImageFile]],
    group_N: Sequence[int] | None,
    image_px: int,
    fit: Fit,
    say: Say,
) -> Parts:
    """Decode every file of the parts. group_N: of the images of `train`.

    Raises UserError if a file cannot be read, after all others.
    """
    files = [*parts["train"], *parts["test"]]
    size = (len(files), image_px, image_px, 3)
    try:
        pixels_NHWC = np.empty(size, np.uint8)
    except MemoryError as error:
        raise UserError(
            f"{layout.where}: {len(files):,} images of {image_px} px need {np.prod(size) / 2**30:,.0f} GiB"
            " of memory; use fewer images or a smaller image_px"
        ) from error
    say(f"decoding {len(files):,} images, once")
    decoded: dict[int, Picture] = {}
    broken: list[tuple[str, str]] = []
    to_rgb = USUAL

    def decode_one(i: int) -> None:
        try:
            pixels_NHWC[i], decoded[i] = decode(layout.root / files[i].path, image_px, to_rgb, fit)
        except Exception as error:  # Pillow raises a dozen kinds for files that are damaged
            broken.append((files[i].path, reason(error)))

    # small images spend their time in Python, where threads only wait for each other
    mean_bytes = sum(file.stamp[0] for file in files) / len(files)
    num_threads = num_cores() if mean_bytes > _SMALL_BYTES else 1
    _for_each(range(len(files)), decode_one, num_threads, say)
    if not broken:
        to_rgb = _way_for_all(list(decoded.values()))
        is_other_scale, is_other_ground = to_rgb.grey_bits != USUAL.grey_bits, to_rgb.ground != USUAL.ground
        again = [
            i
            for i, picture in sorted(decoded.items())
            if (is_other_scale and picture.deep_bits) or (is_other_ground and picture.alpha) or picture.floats
        ]
        _for_each(again, decode_one, num_threads, say)
    if broken:
        (path, why), *others = sorted(broken)
        raise UserError(
            f"{layout.where}: {len(broken):,} of {len(files):,} images cannot be read, first {path!r}: {why}"
            + (f"; then {listed(repr(other) for other, _ in others)}" if others else "")
        )

    pictures = [decoded[i] for i in range(len(files))]
    if all(picture.is_grey for picture in pictures):
        pixels_NHWC = np.ascontiguousarray(pixels_NHWC[..., :1])
    names = [file.class_name for file in files]
    classes = sorted(set(names))
    label_of = {name: label for label, name in enumerate(classes)}
    labels, num_train = [label_of[name] for name in names], len(parts["train"])
    train = Images.upright(pixels_NHWC[:num_train], labels[:num_train], group_N)
    test = Images.upright(pixels_NHWC[num_train:], labels[num_train:])
    return tuple(classes), train, test, of_pictures(pictures, names, image_px, to_rgb, fit)


def _way_for_all(pictures: Sequence[Picture]) -> ToRgb:
    """How all of them become RGB, by what the first look told of each."""
    deepest = max(picture.deep_bits for picture in pictures)
    bits = min(max(8, deepest), DEEP_BITS) if deepest else DEEP_BITS
    return ToRgb(bits, best_ground(pictures), _float_range([picture.floats for picture in pictures if picture.floats]))


def _float_range(spans: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """One scale for all images in floating point: 0 to 1 where that has them all, else from their lowest value on."""
    if not spans:
        return None
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high if high > low else low + 1)


def _for_each(indices: Sequence[int], do: Callable[[int], None], num_threads: int, say: Say) -> None:
    """Do it for all of them on a pool of threads, and say how far that is."""

    def do_block(start: int) -> int:
        for i in indices[start : start + _BLOCK]:
            do(i)
        return min(start + _BLOCK, len(indices))

    progress = Progress(say)
    with warnings.catch_warnings(), ThreadPoolExecutor(num_threads) as pool:
        warnings.simplefilter("ignore")  # what Pillow wonders about either stops `decode` or does not matter
        try:
            for num_done in pool.map(do_block, range(0, len(indices), _BLOCK)):
                progress(f"{num_done:,} of {len(indices):,} images decoded")
        except BaseException:  # an interrupt must not wait for the images that are left
            pool.shutdown(cancel_futures=True)
            raise
