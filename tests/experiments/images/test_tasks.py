"""Naming a task, and the cache under every task."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experiments.images.tasks import TASKS, Images, load_task
from experiments.images.tasks.cache import Parts, cache_folder, cached, content_hash
from experiments.images.tasks.reading import Reading
from ledger.errors import UserError
from tests.support.project import ROOT

CLASSES = ("cat", "dog", "émeu")


def some_images(num_images: int, seed: int, image_px: int = 8) -> Images:
    draw = np.random.default_rng(seed)
    return Images(
        pixels_NHWC=draw.integers(0, 256, (num_images, image_px, image_px, 3), np.uint8),
        labels_N=np.arange(num_images, dtype=np.int64) % len(CLASSES),
        theta_N23=draw.random((num_images, 2, 3), np.float32),
    )


def build_some(scratch: Path) -> Parts:
    assert scratch.is_dir()
    return CLASSES, some_images(7, 0), some_images(5, 1), Reading()


def build_never(scratch: Path) -> Parts:
    raise AssertionError("built although it is in the cache")


def silent(line: str) -> None:
    raise AssertionError(f"said {line!r}")


def same(a: Images, b: Images) -> bool:
    pairs = ((a.pixels_NHWC, b.pixels_NHWC), (a.labels_N, b.labels_N), (a.theta_N23, b.theta_N23))
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs)


def test_every_task_is_registered() -> None:
    assert set(TASKS) == {"cifar10", "folder", "mnist", "sprites"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("sprits", "did you mean 'sprites'?"),
        ("Xyz:/there", "known: cifar10, folder, mnist, sprites"),
        ("", "known: cifar10, folder, mnist, sprites"),
        ("folder", "folder:PATH"),
        ("folder:", "folder:PATH"),
        ("sprites:32", "nothing after its name"),
        ("cifar10:32", "nothing after its name"),
        ("mnist:32", "mnist takes nothing after its name"),
    ],
)
def test_a_task_that_cannot_be_named(spec: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_task(spec, image_px=32, cache=tmp_path / "cache", say=silent)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_a_folder_without_its_prefix_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(f"unknown; write folder:{tmp_path}")):
        load_task(str(tmp_path), image_px=32, cache=tmp_path / "cache", say=silent)


@pytest.mark.parametrize("image_px", [-1, 0, 7, 1025])
def test_absurd_image_size(image_px: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"image_px {image_px}: must be between 8 and 1024"):
        load_task("sprites", image_px=image_px, cache=tmp_path)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STN_BENCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / "home/.cache/stn-bench"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/stn-bench"
    monkeypatch.setenv("STN_BENCH_CACHE", "~/own")
    assert cache_folder() == tmp_path / "home/own"


def test_content_hash_sees_every_ingredient() -> None:
    train, test = some_images(7, 0), some_images(5, 1)
    hashes = {content_hash(CLASSES, train, test), content_hash(CLASSES, test, train)}
    hashes.add(content_hash(("cat", "dog", "emu"), train, test))
    for field in ("pixels_NHWC", "labels_N", "theta_N23"):
        for part in range(2):
            images = [some_images(7, 0), some_images(5, 1)]
            array = getattr(images[part], field)
            array.flat[-1] += 1
            hashes.add(content_hash(CLASSES, *images))
    pixels_NHWC = train.pixels_NHWC.reshape(7, 4, 16, 3)  # the same bytes in another shape
    hashes.add(content_hash(CLASSES, Images(pixels_NHWC, train.labels_N, train.theta_N23), test))
    assert len(hashes) == 3 + 6 + 1
    assert all(len(name) == 64 for name in hashes)


def test_content_hash_does_not_see_the_memory_layout() -> None:
    train, test = some_images(7, 0), some_images(5, 1)
    wide = np.zeros((7, 8, 8, 6), np.uint8)
    wide[..., ::2] = train.pixels_NHWC
    strided = Images(wide[..., ::2], train.labels_N.astype(">i8"), np.asfortranarray(train.theta_N23))
    assert content_hash(CLASSES, strided, test) == content_hash(CLASSES, train, test)


def test_built_once_then_mapped(tmp_path: Path) -> None:
    cache = tmp_path / "deep/cache"
    first = cached("folder", {"a": 1}, cache, build_some, silent)
    assert first.classes == CLASSES
    assert same(first.train, some_images(7, 0))
    assert same(first.test, some_images(5, 1))
    assert first.content_hash == content_hash(CLASSES, first.train, first.test)

    second = cached("folder", {"a": 1}, cache, build_never, silent)
    assert second.classes == CLASSES
    assert second.content_hash == first.content_hash
    assert same(second.train, first.train)
    assert same(second.test, first.test)
    for images in (first.train, first.test, second.train, second.test):
        assert not images.pixels_NHWC.flags.writeable
        assert isinstance(images.pixels_NHWC.base, np.memmap)
        assert type(images.pixels_NHWC) is np.ndarray

    (entry,) = cache.iterdir()
    assert entry.name.startswith("folder-")
    assert json.loads((entry / "meta.json").read_text())["content_hash"] == first.content_hash

    with pytest.raises(AssertionError, match="built although"):
        cached("folder", {"a": 2}, cache, build_never, silent)
    assert list(cache.iterdir()) == [entry]


def test_loading_60_000_images_takes_milliseconds(tmp_path: Path) -> None:
    images = Images(
        pixels_NHWC=np.zeros((60_000, 32, 32, 3), np.uint8),
        labels_N=np.zeros(60_000, np.int64),
        theta_N23=np.zeros((60_000, 2, 3), np.float32),
    )
    cached("x", 1, tmp_path, lambda _: (CLASSES, images, some_images(5, 1, 32), Reading()), silent)
    times_s = []
    for _ in range(3):
        start = time.perf_counter()
        cached("x", 1, tmp_path, build_never, silent)
        times_s.append(time.perf_counter() - start)
    assert min(times_s) < 0.1


def tear_pixels(entry: Path) -> None:
    path = entry / "train_pixels.npy"
    os.truncate(path, path.stat().st_size - 1)


def edit_meta(entry: Path, edit: Callable[[str], str]) -> None:
    (entry / "meta.json").write_text(edit((entry / "meta.json").read_text()))


def only_a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("not a folder")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "torn pixels": tear_pixels,
    "empty labels": lambda entry: (entry / "test_labels.npy").write_bytes(b""),
    "no poses": lambda entry: (entry / "train_theta.npy").unlink(),
    "no meta.json": lambda entry: (entry / "meta.json").unlink(),
    "half of meta.json": lambda entry: edit_meta(entry, lambda text: text[: len(text) // 2]),
    "another format": lambda entry: edit_meta(entry, lambda text: json.dumps(json.loads(text) | {"format": 0})),
    "labels beyond the classes": lambda entry: np.save(entry / "train_labels.npy", np.full(7, len(CLASSES))),
    "labels that are fractions": lambda entry: np.save(entry / "train_labels.npy", np.zeros(7)),
    "fewer poses": lambda entry: np.save(entry / "train_theta.npy", np.zeros((6, 2, 3), np.float32)),
    "only a file": only_a_file,
}
every_damage = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)


@every_damage
def test_a_torn_entry_is_built_again(damage: Callable[[Path], object], tmp_path: Path) -> None:
    whole = cached("x", 1, tmp_path, build_some, silent)
    (entry,) = tmp_path.iterdir()
    damage(entry)
    lines: list[str] = []
    again = cached("x", 1, tmp_path, build_some, lines.append)
    assert len(lines) == 1
    assert entry.name in lines[0]
    assert "building it again" in lines[0]
    assert "\n" not in lines[0]
    assert again.content_hash == whole.content_hash
    assert same(again.train, some_images(7, 0))
    assert list(tmp_path.iterdir()) == [entry]
    cached("x", 1, tmp_path, build_never, silent)


@pytest.mark.parametrize("below", ["", "further/down"])
def test_an_unwritable_cache(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as error:
        cached("x", 1, tmp_path / "file" / below, build_never, silent)
    assert "cannot be written" in str(error.value)
    assert "STN_BENCH_CACHE" in str(error.value)
    assert str(tmp_path / "file") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        cached("x", 1, tmp_path, build_some, silent)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [UserError("broken image"), OSError("not about the cache"), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    def build(scratch: Path) -> Parts:
        (scratch / "half").write_text("half")
        raise error

    with pytest.raises(type(error)) as raised:
        cached("x", 1, tmp_path, build, silent)
    assert raised.value is error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names open files through /proc")
def test_every_file_is_on_disk_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def watched_rename(source: Path, target: Path) -> None:
        events.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    cached("x", 1, tmp_path, build_some, silent)
    arrays = {f"{part}_{field}.npy" for part in ("train", "test") for field in ("pixels", "labels", "theta")}
    assert set(events[:8]) == {*arrays, "meta.json", "entry"}
    assert events[8:] == ["rename", tmp_path.name]


def test_what_killed_builds_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, young = tmp_path / ".building-old", tmp_path / ".building-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "pixels").write_text("half")
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    cached("x", 1, tmp_path, build_some, silent)
    assert not old.exists()
    assert young.exists()


KILLED = """
import sys, time
from pathlib import Path
from experiments.images.tasks import cache
from tests.experiments.images.test_tasks import build_some
def place(folder, entry):
    print(sorted(path.name for path in folder.iterdir()), flush=True)
    time.sleep(60)
cache._place = place
cache.cached("x", 1, Path(sys.argv[1]), build_some, print)
"""


def test_a_kill_leaves_no_entry(tmp_path: Path) -> None:
    root = ROOT
    process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "train_pixels.npy" in process.stdout.readline()  # all is written, nothing is in its place
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {".building", ".lock"}
    cached("x", 1, tmp_path, build_some, silent)  # waits for nobody
    (entry,) = tmp_path.iterdir()  # nor is anything left of the killed one
    assert entry.name.startswith("x-")
    cached("x", 1, tmp_path, build_never, silent)


def test_without_a_lock_the_loser_takes_what_the_winner_put_there(tmp_path: Path) -> None:
    def build(scratch: Path) -> Parts:
        cached("x", 1, tmp_path / "other", build_some, silent)  # another process is faster
        (entry,) = (tmp_path / "other").iterdir()
        entry.rename(tmp_path / "cache" / entry.name)
        return CLASSES, some_images(7, 2), some_images(5, 1), Reading()

    decoded = cached("x", 1, tmp_path / "cache", build, silent)
    assert same(decoded.train, some_images(7, 0))
    assert len(list((tmp_path / "cache").iterdir())) == 1
