"""Decoded images on disk: a task is built once, later runs map it in milliseconds.

`<cache>/<task>-<id>/` holds three arrays for each part, the groups if there are any, and `meta.json`. The id follows
from what the images were made from, never from where that lies. An entry appears whole, by one rename, or not at all.
Of the processes that want the same entry one builds it, under a lock that dies with its process, and the others wait.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from experiments.images.tasks.reading import USUAL, Reading, ToRgb
from experiments.images.tasks.task import Images, Say, Task
from experiments.machine.heartbeat import beat
from experiments.machine.home import user_path
from ledger.config import canonical
from ledger.errors import UserError
from ledger.files import flush_folder

CACHE_FORMAT = 2
"""Version of an entry's layout and of how images are decoded; entries of another version are never opened."""

MAX_META_BYTES = 2**24
"""A larger meta.json is not one of ours: ours has the names of the classes and some lines."""

_BUILDING = ".building-"
_STALE_S = 24 * 3600
_PARTS = ("train", "test")
_GROUPS = "train_groups.npy"
"""Of entries whose images have groups, beside the others."""
_ARRAYS = {"pixels": ("pixels_NHWC", "u1"), "labels": ("labels_N", "<i8"), "theta": ("theta_N23", "<f4")}
"""Name in the files, field and type of what a part consists of."""


class Decoded(NamedTuple):
    """What an entry holds: class names in label order, the two parts, the hash over all of them, and their reading."""

    classes: tuple[str, ...]
    train: Images
    test: Images
    content_hash: str
    reading: Reading = Reading()


Parts = tuple[tuple[str, ...], Images, Images, Reading]
Build = Callable[[Path], Parts]
"""Makes the class names, the two parts and their reading; the argument is an empty folder that is removed then."""


def cache_folder() -> Path:
    """Where decoded images are kept: $STN_BENCH_CACHE, else stn-bench in $XDG_CACHE_HOME or ~/.cache.

    Raises UserError where there is no home folder.
    """
    if own := os.environ.get("STN_BENCH_CACHE"):
        return user_path(own, "STN_BENCH_CACHE")
    if base := os.environ.get("XDG_CACHE_HOME"):
        return user_path(base, "XDG_CACHE_HOME") / "stn-bench"
    try:
        return Path.home() / ".cache/stn-bench"
    except RuntimeError:
        raise UserError("no home folder: set STN_BENCH_CACHE to a folder for decoded images") from None


def content_hash(classes: tuple[str, ...], train: Images, test: Images, *, to_rgb: ToRgb = USUAL) -> str:
    """64 hex digits over the shapes, pixels, labels, poses and class names of both parts, and groups if there are any.

    Also over how they became RGB if that is not the usual way: a run knows one way, so two folders that come to the
    same pixels in different ways must not share it.
    """
    digest = hashlib.sha256(canonical(list(classes)).encode())
    for name, value in to_rgb.record().items():
        digest.update(canonical([name, value]).encode())
    for part in (train, test):
        for field, dtype in _ARRAYS.values():
            array = getattr(part, field)
            digest.update(canonical([dtype, array.shape]).encode())
            digest.update(np.ascontiguousarray(array, dtype).data)
    if train.group_N is not None:
        digest.update(canonical(["groups", train.group_N.shape]).encode())
        digest.update(np.ascontiguousarray(train.group_N, "<i8").data)
    return digest.hexdigest()


def cached(name: str, source: Any, cache: Path, build: Build, say: Say) -> Decoded:
    """The images made from `source`: mapped from the cache, or built and put there first.

    name: of the task. source: JSON value that tells one source of images from another.
    Pixels are mapped read-only. An entry that cannot be read is said aloud and built again. That another process is
    building the entry is said, and waited for.
    Raises UserError if the cache cannot be written, and whatever `build` raises; neither leaves anything behind.
    """
    entry = cache / f"{name}-{hashlib.sha256(canonical([CACHE_FORMAT, source]).encode()).hexdigest()[:16]}"
    if os.path.lexists(entry):
        try:
            return _read(entry)
        except Exception as error:  # whatever is wrong inside, the remedy is the same
            why = " ".join(f"{type(error).__name__}: {error}".split())
            say(f"cache entry {entry.name} cannot be read ({why}): building it again")
    with _lock(entry, f"{name}: another process is making these images; waiting for it", say):
        with suppress(Exception):  # torn, or still not there
            return _read(entry)
        return _build(entry, build)


def decoded(task: Task) -> Decoded:
    """A task's images as an entry holds them."""
    return Decoded(task.classes, task.train, task.test, task.content_hash, task.reading)


def held(wanted: str, cache: Path) -> Decoded | None:
    """The images with that content hash, if any entry has them."""
    for meta in cache.glob("[!.]*/meta.json"):
        with suppress(Exception):  # torn, or of another version
            if (images := _read(meta.parent)).content_hash == wanted:
                return images
    return None


def received(wanted: str, cache: Path, fetch: Callable[[], Decoded]) -> Decoded:
    """The images with that content hash: those that are held, else fetched and kept.

    For machines that cannot make them. Of the processes here that want the same ones, one fetches.
    Raises UserError if the cache cannot be written, or its entry has other images; ValueError for fetched ones that are
    not those; and what `fetch` raises.
    """

    def build(scratch: Path) -> Parts:
        classes, train, test, _, reading = fetch()
        if content_hash(classes, train, test, to_rgb=reading.to_rgb) != wanted:
            raise ValueError("the images that arrived are not those that were sent")
        return classes, train, test, reading

    images = held(wanted, cache) or cached("received", wanted, cache, build, lambda line: None)
    if images.content_hash != wanted:
        raise UserError(f"cache {str(cache)!r}: an entry received-... has other images than those sent; delete it")
    return images


@contextmanager
def _lock(entry: Path, waiting: str, say: Say) -> Iterator[None]:
    """Hold the entry, for building it. waiting: what to say if another process holds it."""
    from filelock import FileLock, Timeout  # what only trains does without

    with _writing(entry.parent):
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(entry.with_name(f".lock-{entry.name}"), fallback_to_soft=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(waiting)
            while not lock.is_locked:
                beat()  # a worker that waits is not hung
                with suppress(Timeout):
                    lock.acquire(timeout=1)
    try:
        yield
    finally:
        with suppress(OSError):  # while it is held: a process that waits for it finds the entry, or opens a new one
            os.unlink(lock.lock_file)
        lock.release()


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    """Raises UserError where the cache cannot be written."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise UserError(
            f"cache {str(cache)!r}: cannot be written ({why}); set STN_BENCH_CACHE to another folder"
        ) from error


def _build(entry: Path, build: Build) -> Decoded:
    """Build an entry and put it into its place; the lock is held."""
    with _writing(entry.parent):
        _remove_stale(entry)
        building = tempfile.TemporaryDirectory(
            prefix=f"{_BUILDING}{entry.name}-", dir=entry.parent, ignore_cleanup_errors=True
        )
    with building:
        scratch, folder = Path(building.name, "scratch"), Path(building.name, "entry")
        with _writing(entry.parent):
            scratch.mkdir()
        classes, train, test, reading = build(scratch)
        made = Decoded(classes, train, test, content_hash(classes, train, test, to_rgb=reading.to_rgb), reading)
        with _writing(entry.parent):
            _write(folder, made)
            return _place(folder, entry)


def _remove_stale(entry: Path) -> None:
    """Remove what killed processes were building: all for this entry, as its lock is held; others after a day."""
    for folder in entry.parent.glob(f"{_BUILDING}*"):
        with suppress(FileNotFoundError):
            is_of_entry = folder.name.startswith(f"{_BUILDING}{entry.name}-")
            if is_of_entry or time.time() - folder.stat().st_mtime > _STALE_S:
                shutil.rmtree(folder, ignore_errors=True)


def _write(folder: Path, decoded: Decoded) -> None:
    """Write every file, flushed to disk, and see that they can be read back."""
    folder.mkdir()
    for part, images in zip(_PARTS, (decoded.train, decoded.test), strict=True):
        for name, (field, dtype) in _ARRAYS.items():
            with _flushed(folder / f"{part}_{name}.npy") as file:
                np.save(file, np.ascontiguousarray(getattr(images, field), dtype), allow_pickle=False)
    if decoded.train.group_N is not None:
        with _flushed(folder / _GROUPS) as file:
            np.save(file, np.ascontiguousarray(decoded.train.group_N, "<i8"), allow_pickle=False)
    meta = {
        "format": CACHE_FORMAT,
        **({} if decoded.train.group_N is None else {"groups": True}),
        "classes": decoded.classes,
        "content_hash": decoded.content_hash,
        "reading": dataclasses.asdict(decoded.reading),
    }
    with _flushed(folder / "meta.json") as file:
        file.write(json.dumps(meta).encode())
    flush_folder(folder)
    _read(folder)


@contextmanager
def _flushed(path: Path) -> Iterator[BinaryIO]:
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _read(folder: Path) -> Decoded:
    """Open an entry without reading its pixels. Raises any exception at all if it is torn."""
    meta = json.loads(_plain(folder / "meta.json", MAX_META_BYTES).read_text(encoding="utf-8"))
    if meta["format"] != CACHE_FORMAT:
        raise ValueError("meta.json is of another format")
    classes, read_hash = meta["classes"], meta["content_hash"]
    if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise ValueError("meta.json: the classes are not a list of names")
    if not (isinstance(read_hash, str) and re.fullmatch("[0-9a-f]{64}", read_hash)):
        raise ValueError("meta.json: the content hash is not 64 hex digits")
    reading = _reading(meta["reading"])
    train, test = (
        Images(**{field: _load(folder / f"{part}_{name}.npy", dtype) for name, (field, dtype) in _ARRAYS.items()})
        for part in _PARTS
    )
    if meta.get("groups"):
        group_N = _load(folder / _GROUPS, "<i8")
        if group_N.shape != train.labels_N.shape or not set(np.unique(group_N)) <= set(range(len(group_N))):
            raise ValueError("groups do not fit images")
        train = dataclasses.replace(train, group_N=group_N)
    if train.pixels_NHWC.shape[3] != test.pixels_NHWC.shape[3]:
        raise ValueError("one part is grey, and one is not")
    for images in (train, test):
        num_images, height, width, channels = images.pixels_NHWC.shape
        if height != width or channels not in (1, 3) or images.theta_N23.shape != (num_images, 2, 3):
            raise ValueError("arrays have other shapes")
        if images.labels_N.shape != (num_images,) or not set(np.unique(images.labels_N)) <= set(range(len(classes))):
            raise ValueError("labels do not fit images and classes")
    return Decoded(tuple(classes), train, test, read_hash, reading)


def _reading(read: Any) -> Reading:
    facts, warnings = tuple((head, text) for head, text in read["facts"]), read["warnings"]
    if not (isinstance(warnings, list) and all(isinstance(text, str) for text in (*warnings, *sum(facts, ())))):
        raise ValueError("meta.json: the reading is not text")
    return Reading(facts, tuple(warnings), ToRgb.of(dict(read["to_rgb"])))


def _plain(path: Path, max_bytes: int | None = None) -> Path:
    """The path of a plain file: a pipe or a device would be waited for."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or (max_bytes is not None and status.st_size > max_bytes):
        raise ValueError(f"{path.name} is not a plain file of that size")
    return path


def _load(path: Path, dtype: str) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):  # of absurd shapes, which then fit no file
        array = np.load(_plain(path), mmap_mode="r", allow_pickle=False)
    if array.dtype != dtype:
        raise ValueError(f"{path.name} holds {array.dtype}")
    return np.asarray(array)  # a plain array over the same pages: np.memmap would come back from every slice


def _place(folder: Path, entry: Path) -> Decoded:
    """Rename a finished folder to its place and open it; or open what another process put there first, if it is whole.

    Raises OSError where the folder cannot be moved there.
    """
    for attempt in range(3):
        try:
            os.rename(folder, entry)
            flush_folder(entry.parent)
        except OSError:
            if not os.path.lexists(entry):
                raise
        with suppress(Exception):
            return _read(entry)
        with suppress(FileNotFoundError):  # torn: taken away, if another process did not do it
            os.rename(entry, folder.with_name(f"torn-{attempt}"))
    raise OSError(f"{entry.name} cannot be replaced")
