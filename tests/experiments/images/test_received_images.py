"""Images that come from another machine: found by their content, whoever made them; kept once they were checked."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.images.tasks.cache import Decoded, cached, content_hash, held, received
from experiments.images.tasks.reading import Reading
from ledger.errors import UserError
from tests.experiments.images.test_tasks import (
    CLASSES,
    build_never,
    build_some,
    every_damage,
    same,
    silent,
    some_images,
    tear_pixels,
)
from tests.support.command_line import PATIENCE_S, wait_for
from tests.support.project import ROOT

IMAGES = Decoded(CLASSES, some_images(7, 0), some_images(5, 1), "")
WANTED = content_hash(*IMAGES[:3])


def fetch_some() -> Decoded:
    return IMAGES


def fetch_never() -> Decoded:
    raise AssertionError("fetched although they are here")


def are_those(found: Decoded | None) -> bool:
    assert found is not None
    assert found.classes == CLASSES and found.content_hash == WANTED
    return same(found.train, IMAGES.train) and same(found.test, IMAGES.test)


def test_images_are_found_by_content_whatever_made_them(tmp_path: Path) -> None:
    assert held(WANTED, tmp_path / "nowhere") is None
    cached("other", 1, tmp_path, lambda _: (CLASSES, some_images(7, 2), some_images(5, 1), Reading()), silent)
    assert held(WANTED, tmp_path) is None
    cached("folder", {"a": 1}, tmp_path, build_some, silent)
    (tmp_path / "precision.json").write_text("{}")
    assert are_those(held(WANTED, tmp_path))
    assert held("0" * 64, tmp_path) is None


@every_damage
def test_torn_ones_are_passed_over(damage: Callable[[Path], object], tmp_path: Path) -> None:
    cached("x", 1, tmp_path, build_some, silent)
    (entry,) = tmp_path.iterdir()
    damage(entry)
    assert held(WANTED, tmp_path) is None
    for name in ("a", "z"):  # whichever comes first
        cached(name, 1, tmp_path, build_some, silent)
    assert are_those(held(WANTED, tmp_path))


def test_an_entry_that_is_still_being_made_is_none(tmp_path: Path) -> None:
    cached("x", 1, tmp_path, build_some, silent)
    (entry,) = tmp_path.iterdir()
    (tmp_path / ".building-x").mkdir()
    for hidden in (".building-x-1", ".building-x/entry"):
        entry.rename(tmp_path / hidden)
        assert held(WANTED, tmp_path) is None
        (tmp_path / hidden).rename(entry)
    assert are_those(held(WANTED, tmp_path))


def test_what_was_received_is_kept(tmp_path: Path) -> None:
    cache = tmp_path / "deep/cache"
    assert are_those(received(WANTED, cache, fetch_some))
    assert are_those(received(WANTED, cache, fetch_never))
    assert are_those(held(WANTED, cache))
    (entry,) = cache.iterdir()
    assert entry.name.startswith("received-")
    tear_pixels(entry)
    assert are_those(received(WANTED, cache, fetch_some))
    assert list(cache.iterdir()) == [entry]


def test_what_a_machine_made_itself_is_not_fetched(tmp_path: Path) -> None:
    cached("folder", {"a": 1}, tmp_path, build_some, silent)
    assert are_those(received(WANTED, tmp_path, fetch_never))
    assert not list(tmp_path.glob("received-*"))


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(IMAGES._replace(train=some_images(7, 2)), id="another image"),
        pytest.param(IMAGES._replace(classes=CLASSES[::-1]), id="another order of classes"),
        pytest.param(IMAGES._replace(train=IMAGES.test, test=IMAGES.train), id="parts swapped"),
        pytest.param(IMAGES._replace(train=some_images(7, 2), content_hash=WANTED), id="they say that they are those"),
    ],
)
def test_other_images_than_those_are_refused(images: Decoded, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the images that arrived are not those that were sent") as refused:
        received(WANTED, tmp_path, lambda: images)
    assert not isinstance(refused.value, UserError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [UserError("no"), OSError("the network"), KeyboardInterrupt()])
def test_what_fetching_raises_comes_through_and_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    def fetch() -> Decoded:
        raise error

    with pytest.raises(type(error)) as raised:
        received(WANTED, tmp_path, fetch)
    assert raised.value is error
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written .*; set STN_BENCH_CACHE to another folder$"):
        received(WANTED, tmp_path / "file", fetch_never)


ONE_OF_MANY = """
import os, sys, time
from pathlib import Path
from experiments.images.tasks.cache import received
from tests.experiments.images.test_received_images import WANTED, are_those, fetch_some
cache, begun = Path(sys.argv[1]), Path(sys.argv[2])
def fetch():
    (begun / str(os.getpid())).touch()
    deadline = time.monotonic() + 120
    while not (begun / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return fetch_some()
print("ready", flush=True)
sys.stdin.readline()
assert are_those(received(WANTED, cache, fetch))
"""


def test_of_two_processes_that_want_them_one_fetches(tmp_path: Path) -> None:
    cache, begun = tmp_path / "cache", tmp_path / "begun"
    begun.mkdir()
    root = ROOT
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_MANY, cache, begun], cwd=root, text=True,
            env=os.environ | {"PYTHONPATH": str(root)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        for process in processes:
            assert process.stdout is not None and process.stdin is not None
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("\n")
            process.stdin.flush()
        wait_for(lambda: list(begun.iterdir()))
        time.sleep(0.3)  # for the other one to do what it must not
        assert [process.poll() for process in processes] == [None, None]
        (fetching,) = begun.iterdir()
        assert int(fetching.name) in [process.pid for process in processes]
        (begun / "go").touch()
        assert [process.wait(PATIENCE_S) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert {path.name for path in begun.iterdir()} == {fetching.name, "go"}
    (entry,) = cache.iterdir()
    assert entry.name.startswith("received-")
    cached("received", WANTED, cache, build_never, silent)


def test_an_entry_of_other_images_is_refused(tmp_path: Path) -> None:
    cached("received", WANTED, tmp_path, lambda _: (CLASSES, some_images(7, 2), some_images(5, 1), Reading()), silent)
    with pytest.raises(
        UserError, match=r"^cache .*: an entry received-\.\.\. has other images than those sent; delete it$"
    ):
        received(WANTED, tmp_path, fetch_never)
