"""Entries of the cache that somebody made to do harm: built again; and names that would lead out of it."""

import json
import os
import pickle
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.images.tasks import cache as cache_module
from experiments.images.tasks import load_task
from experiments.images.tasks.cache import cached
from experiments.images.tasks.reading import Reading
from ledger.errors import UserError
from tests.experiments.images.test_tasks import build_some, same, silent, some_images
from tests.support.forged_data_sets import Harm

Attack = Callable[[Path, Path], object]
"""What is done to an entry, and to a file that must not come to be."""


def write_npy(path: Path, shape: str, dtype: str = "|u1", data: bytes = b"") -> None:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)


def edit_meta(**changes: Any) -> Attack:
    def edit(entry: Path, mark: Path) -> None:
        meta = json.loads((entry / "meta.json").read_text())
        (entry / "meta.json").write_text(json.dumps(meta | changes))

    return edit


def in_meta(text: str) -> Attack:
    return lambda entry, mark: (entry / "meta.json").write_text(text)


def pixels(shape: str, dtype: str = "|u1") -> Attack:
    return lambda entry, mark: write_npy(entry / "train_pixels.npy", shape, dtype, bytes(7 * 192))


def with_code(entry: Path, mark: Path) -> None:
    np.save(entry / "train_labels.npy", np.array([Harm(mark)] * 7, object), allow_pickle=True)


def only_code(entry: Path, mark: Path) -> None:
    (entry / "test_theta.npy").write_bytes(pickle.dumps(Harm(mark)))


def pipe(name: str) -> Attack:
    def make(entry: Path, mark: Path) -> None:
        (entry / name).unlink()
        os.mkfifo(entry / name)

    return make


def device(entry: Path, mark: Path) -> None:
    (entry / "meta.json").unlink()
    (entry / "meta.json").symlink_to("/dev/zero")


def huge_meta(entry: Path, mark: Path) -> None:
    os.truncate(entry / "meta.json", 2**40)


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(attack, id=name)
        for name, attack in {
            "pickle in an array": with_code,
            "pickle for an array": only_code,
            "pipe for meta.json": pipe("meta.json"),
            "pipe for an array": pipe("test_pixels.npy"),
            "device": device,
            "a terabyte of meta.json": huge_meta,
            "a list": in_meta("[1]"),
            "a number": in_meta("7"),
            "deep": in_meta("[" * 100_000),
            "no number": in_meta('{"format": NaN}'),
            "text for classes": edit_meta(classes="cat"),
            "numbers for classes": edit_meta(classes=[1, 2, 3]),
            "an object for classes": edit_meta(classes={"cat": 1, "dog": 2, "emu": 3}),
            "text for the format": edit_meta(format="1"),
            "no hash": edit_meta(content_hash=None),
            "a path for a hash": edit_meta(content_hash="../../x"),
            "no reading": edit_meta(reading=None),
            "a number for facts": edit_meta(reading={"facts": 7, "warnings": [], "to_rgb": {}}),
            "facts of three": edit_meta(reading={"facts": [["a", "b", "c"]], "warnings": [], "to_rgb": {}}),
            "numbers for warnings": edit_meta(reading={"facts": [], "warnings": [7], "to_rgb": {}}),
            "no bits": edit_meta(reading={"facts": [], "warnings": [], "to_rgb": {"grey_bits": 0}}),
            "half a bit": edit_meta(reading={"facts": [], "warnings": [], "to_rgb": {"grey_bits": 9.5}}),
            "no ground": edit_meta(reading={"facts": [], "warnings": [], "to_rgb": {"ground": "/dev/zero"}}),
            "a list for a ground": edit_meta(reading={"facts": [], "warnings": [], "to_rgb": {"ground": []}}),
            "all of memory": pixels("(1000000000000000, 8, 8, 3)"),
            "overflow": pixels("(4611686018427387904, 8, 8, 3)"),
            "negative": pixels("(-7, 8, 8, 3)"),
            "one dimension": pixels("(1344,)"),
            "200 dimensions": pixels(f"({'1, ' * 200})"),
            "objects": pixels("(7, 8, 8, 3)", "|O"),
            "code for a shape": pixels("__import__('os').abort()"),
        }.items()
    ],
)
def test_a_cache_entry_made_to_do_harm_is_built_again(attack: Attack, tmp_path: Path) -> None:
    cache, mark = tmp_path / "cache", tmp_path / "mark"
    cached("x", 1, cache, build_some, silent)
    (entry,) = cache.iterdir()
    attack(entry, mark)
    lines: list[str] = []
    loads = threading.Thread(target=lambda: cached("x", 1, cache, build_some, lines.append), daemon=True)
    loads.start()
    loads.join(30)
    assert not loads.is_alive()  # a pipe would be waited for
    assert len(lines) == 1 and "\n" not in lines[0] and "cannot be read" in lines[0]
    assert not mark.exists()
    assert same(cached("x", 1, cache, build_some, silent).train, some_images(7, 0))


@pytest.mark.parametrize(
    "spec",
    [
        "../../x",
        "/etc",
        "cifar10:../../x",
        "sprites:/../x",
        "folder:../../../../../../nowhere",
        "folder:\0",
        "folder:~nobody-of-this-name/x",
        f"folder:{'x' * 5000}",
        "folder:/dev/null",
        "folder:/proc/self/mem",
        ".building-x",
    ],
)
def test_no_name_leads_out_of_the_cache(spec: str, tmp_path: Path) -> None:
    cache = tmp_path / "a/b/cache"
    cache.mkdir(parents=True)
    with pytest.raises(UserError) as error:
        load_task(spec, image_px=32, cache=cache, say=silent)
    assert "\n" not in str(error.value) and "\0" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a/b", cache]


def test_the_largest_meta_json_is_read(tmp_path: Path) -> None:
    """The limit is far above what a task of a hundred thousand classes needs."""
    names = tuple(f"a class with a name of some length, number {i}" for i in range(100_000))
    cached("x", 1, tmp_path, lambda _: (names, some_images(7, 0), some_images(5, 1), Reading()), silent)
    (entry,) = tmp_path.iterdir()
    assert (entry / "meta.json").stat().st_size < cache_module.MAX_META_BYTES
