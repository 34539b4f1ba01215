"""The user's own images: `folder:PATH`, one folder a class, decoded once into the cache."""

import hashlib
import os
import stat
import time
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments.cores import num_cores
from experiments.errors import UserError, nearest
from experiments.heartbeat import beat
from experiments.tasks import TASKS, Images, Say, Task
from experiments.tasks.cache import cached

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
"""What is decoded, whatever a file is called: of others, Pillow would hand PostScript to Ghostscript, which runs it."""
TEST_SHARE = 0.2
"""Of each class, where the folder has no parts of its own."""
SPLIT_SEED = 0
MIN_IMAGES_TO_SPLIT = 5
"""In a class; with fewer, a fifth is not one image."""
MAX_IMAGE_PIXELS = 89_478_485
"""Pillow's own limit. A larger image is refused before it is decoded."""

MAX_DEPTH = 100
"""Of folders in a class."""
MAX_VISITS = 20
"""Of one folder, by different links, in a class: links to each other lead through a few folders in endless ways."""

MAX_NAMED = 8
"""Images that a message names beside the first."""

_BLOCK = 64
_SMALL_BYTES = 32 * 1024
_SAY_EVERY_S = 5.0


class ImageFile(NamedTuple):
    """One image of the folder.

    path: relative to the folder, with slashes. stamp: size in bytes, time of the last change of the content and of the
    file in ns; the same stamp means the same content. is_outside: whether a link leads out of the folder to it.
    """

    path: str
    class_name: str
    stamp: tuple[int, int, int]
    is_outside: bool


@TASKS.register("folder")
def folder(argument: str, *, image_px: int, cache: Path, say: Say) -> Task:
    """Your own images, as folder:PATH: train/ and test/ with a folder for each class, or just class folders.

    Arguments as of BuildTask.

    A folder of classes is split 80/20 in every class by a fixed seed: the same files always land in the same part.
    Poses are the identity. The label is the folder's own name.
    """
    if not argument:
        raise UserError("task 'folder': needs a path, as in folder:PATH")
    if "\0" in argument:
        raise UserError(f"task {f'folder:{argument}'!r}: no path has a zero byte")
    root = Path(os.path.expanduser(argument))
    name = os.path.basename(os.path.realpath(root))
    label = "".join("?" if _is_control(letter) else letter for letter in name) or "folder"
    parts, num_ignored = _scan(root)
    digest = hashlib.sha256()
    for part, files in parts.items():
        for file in files:
            digest.update(os.fsencode(f"{part}\0{file.path}\0{file.stamp}\n"))

    def build(_scratch: Path) -> tuple[tuple[str, ...], Images, Images]:
        if num_ignored:
            say(f"folder {label}: ignoring {num_ignored:,} files that are not images in a class folder")
        files = parts["train"] + parts["test"]
        if num_outside := sum(file.is_outside for file in files):
            say(f"folder {label}: {num_outside:,} of {len(files):,} images are links to files outside it")
        classes = tuple(sorted({file.class_name for file in parts["train"]}))
        train, test = _decode_parts(
            root, [parts["train"], parts["test"]], classes, image_px, lambda line: say(f"folder {label}: {line}")
        )
        return classes, train, test

    source = {"files": digest.hexdigest(), "image_px": image_px}
    decoded = cached("folder", source, cache, build, say)
    return Task("folder", label, decoded.classes, decoded.train, decoded.test, decoded.content_hash)


def fit_square(image: Image.Image, image_px: int) -> Image.Image:
    """Centre crop to a square, resized to `image_px` with antialiasing; an image of that size is returned untouched."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if side == image_px:
        return image if image.size == (side, side) else image.crop(box)
    return image.resize((image_px, image_px), Image.Resampling.BICUBIC, box)


def _scan(root: Path) -> tuple[dict[str, list[ImageFile]], int]:
    """The files of `train` and `test`, sorted by path, and how many others were left out. Reads no image."""
    where = f"folder {str(root)!r}"
    try:
        if not root.is_dir():
            raise UserError(f"{where}: {'is not a folder' if root.exists() else 'does not exist'}{_nearest_path(root)}")
        names = {entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")}
        if not os.listdir(root):
            raise UserError(f"{where}: is empty")
        if len(names & {"train", "test"}) == 1:
            missing = ({"train", "test"} - names).pop()
            raise UserError(f"{where}: has no {missing}/ beside {(names & {'train', 'test'}).pop()}/")
        if "train" in names:
            scans = {part: _scan_classes(root, f"{part}/") for part in ("train", "test")}
            parts = {part: files for part, (files, _) in scans.items()}
            num_ignored = sum(ignored for _, ignored in scans.values())
            _check_classes({part: _class_names(root / part) for part in parts}, parts, where)
        else:
            files, num_ignored = _scan_classes(root, "")
            _check_classes({"": _class_names(root)}, {"": files}, where)
            parts = _split(files, where)
    except OSError as error:
        link = " (a link to nothing)" if error.filename and os.path.islink(error.filename) else ""
        raise UserError(f"{where}: cannot be read: {error.filename!r}{link}: {error.strerror}") from error
    return parts, num_ignored


def _nearest_path(root: Path) -> str:
    """The hint that ends an error about a path; nothing where the folder above it is missing too."""
    try:
        beside = [entry.name for entry in os.scandir(root.parent) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return ""
    hint = nearest(root.name, beside)
    return f"; {hint}" if hint.startswith("did you mean") else ""


def _class_names(part: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(part) if entry.is_dir() and not entry.name.startswith("."))


def _scan_classes(root: Path, part: str) -> tuple[list[ImageFile], int]:
    """The images of a part's classes, and how many files are none. part: `train/`, or "" for the folder itself."""
    files: list[ImageFile] = []
    inside = os.path.join(os.path.realpath(root), "")
    num_ignored = sum(entry.is_file() and not entry.name.startswith(".") for entry in os.scandir(root / part))
    for name in _class_names(root / part):
        for path, status, real in _walk(root / part / name, f"{part}{name}/", (), Counter()):
            if os.path.splitext(path)[1].lower() in EXTENSIONS:
                stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                files.append(ImageFile(path, name, stamp, is_outside=not real.startswith(inside)))
            else:
                num_ignored += 1
    return sorted(files), num_ignored


def _walk(
    directory: Path, prefix: str, above: tuple[tuple[int, int], ...], visits: Counter[tuple[int, int]]
) -> Iterator[tuple[str, os.stat_result, str]]:
    """Every plain file below a folder that is not hidden, and where it really is. Links are followed, not in circles.

    above: device and inode of the folders that lead here. visits: how often each was walked so far.
    Raises OSError for a link to nothing, UserError for folders without end.
    """
    status = directory.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    visits[here] += 1
    if len(above) > MAX_DEPTH or visits[here] > MAX_VISITS:
        raise UserError(f"folder {prefix!r}: links or folders in it lead on without end; make it simpler")
    real = os.path.realpath(directory)
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", (*above, here), visits)
                continue
            file = entry.stat()  # a link to nothing is an error that names it
            if stat.S_ISREG(file.st_mode):  # whoever opens a pipe waits for its other end
                yield f"{prefix}{entry.name}", file, os.path.realpath(entry.path) if entry.is_symlink() else f"{real}/"


def _check_classes(names: dict[str, list[str]], parts: dict[str, list[ImageFile]], where: str) -> None:
    """Raise UserError unless every part has images of every class, and of two classes at least."""
    if not any(parts.values()):
        raise UserError(f"{where}: has no images in class folders ({', '.join(sorted(EXTENSIONS))})")
    if "train" in names and names["train"] != names["test"]:
        differences = [
            f"{', '.join(map(repr, sorted(only)))} only in {part}/"
            for part, other in (("train", "test"), ("test", "train"))
            if (only := set(names[part]) - set(names[other]))
        ]
        raise UserError(f"{where}: train/ and test/ have different classes: {'; '.join(differences)}")
    for part, files in parts.items():
        inside = f" in {part}/" if part else ""
        with_images = {file.class_name for file in files}
        for name in names[part]:
            if name not in with_images:
                raise UserError(f"{where}: class {name!r} has no images{inside}")
            if any(map(_is_control, name)):
                raise UserError(f"{where}: class {name!r} has a name that is not valid text; rename its folder")
        if len(with_images) < 2:
            raise UserError(f"{where}: has only one class{inside}, {names[part][0]!r}; at least two are needed")


def _is_control(letter: str) -> bool:
    """Whether a letter of a file's name is none: bytes that are no text, controls, line ends, changes of direction."""
    if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp"):
        return True
    return unicodedata.bidirectional(letter) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def _split(files: Sequence[ImageFile], where: str) -> dict[str, list[ImageFile]]:
    """Every class 80/20, in the order of a seeded hash of the path: a new file hardly moves the others."""
    parts: dict[str, list[ImageFile]] = {"train": [], "test": []}
    for name, num_images in sorted(Counter(file.class_name for file in files).items()):
        if num_images < MIN_IMAGES_TO_SPLIT:
            raise UserError(
                f"{where}: class {name!r} has {num_images} images, too few to split 80/20;"
                f" give it at least {MIN_IMAGES_TO_SPLIT}, or make train/ and test/ folders"
            )
        shuffled = sorted(
            (file for file in files if file.class_name == name),
            key=lambda file: hashlib.sha256(os.fsencode(f"{SPLIT_SEED}\0{file.path}")).digest(),
        )
        num_test = round(TEST_SHARE * num_images)
        parts["test"] += shuffled[:num_test]
        parts["train"] += shuffled[num_test:]
    return {part: sorted(chosen) for part, chosen in parts.items()}


def _decode_parts(
    root: Path, parts: Sequence[Sequence[ImageFile]], classes: Sequence[str], image_px: int, say: Say
) -> list[Images]:
    """Decode every file of the parts on a pool of threads. Raises UserError if one cannot be read, after all others."""
    files = [file for part in parts for file in part]
    size = (len(files), image_px, image_px, 3)
    try:
        pixels_NHWC = np.empty(size, np.uint8)
    except MemoryError as error:
        raise UserError(
            f"folder {str(root)!r}: {len(files):,} images of {image_px} px need {np.prod(size) / 2**30:,.0f} GiB"
            " of memory; use fewer images or a smaller image_px"
        ) from error
    say(f"decoding {len(files):,} images, once")
    broken: list[tuple[str, str]] = []

    def decode_block(start: int) -> int:
        for i in range(start, min(start + _BLOCK, len(files))):
            try:
                pixels_NHWC[i] = decode(root / files[i].path, image_px)
            except Exception as error:  # Pillow raises a dozen kinds for files that are damaged
                broken.append((files[i].path, reason(error)))
        return min(start + _BLOCK, len(files))

    last_said = time.monotonic()
    # small images spend their time in Python, where threads only wait for each other
    mean_bytes = sum(file.stamp[0] for file in files) / len(files)
    num_threads = num_cores() if mean_bytes > _SMALL_BYTES else 1
    with warnings.catch_warnings(), ThreadPoolExecutor(num_threads) as pool:
        warnings.simplefilter("ignore")  # what Pillow wonders about either stops `decode` or does not matter
        try:
            for num_done in pool.map(decode_block, range(0, len(files), _BLOCK)):
                beat()
                if time.monotonic() - last_said > _SAY_EVERY_S:
                    last_said = time.monotonic()
                    say(f"{num_done:,} of {len(files):,} images decoded")
        except BaseException:  # an interrupt must not wait for the images that are left
            pool.shutdown(cancel_futures=True)
            raise
    if broken:
        (path, why), *others = sorted(broken)
        named = ", ".join(repr(other) for other, _ in others[:MAX_NAMED]) + ", ..." * (len(others) > MAX_NAMED)
        raise UserError(
            f"folder {str(root)!r}: {len(broken):,} of {len(files):,} images cannot be read, first {path!r}: {why}"
            + (f"; then {named}" if others else "")
        )

    label = {name: i for i, name in enumerate(classes)}
    images, start = [], 0
    for part in parts:
        labels_N = np.array([label[file.class_name] for file in part], np.int64)
        theta_N23 = np.tile(np.eye(2, 3, dtype=np.float32), (len(part), 1, 1))
        images.append(Images(pixels_NHWC[start : start + len(part)], labels_N, theta_N23))
        start += len(part)
    return images


def decode(path: Path, image_px: int) -> npt.NDArray[np.uint8]:
    """One image as RGB, (image_px, image_px, 3): first frame, turned upright by its EXIF tag, over white."""
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_IMAGE_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        # a JPEG much larger than needed is decoded at a fraction of its size, still at least twice the side wanted
        image.draft(None, (2 * image_px, 2 * image_px))
        image.load()
        with suppress(Exception):  # where its tags are damaged, an image is taken as it lies
            ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(fit_square(_rgb(image), image_px))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow would clip them to 8
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("grey values of more than 16 bits are not supported")
        return Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("grey values in floating point are not supported")
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB")
    return image.convert("RGB")


def reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not an image ({', '.join(FORMATS)})"  # Pillow's own message is the path again
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
