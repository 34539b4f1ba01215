"""MNIST through torchvision, from forged files on a server of this machine."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from torchvision.datasets import MNIST

from experiments.images.tasks import load_task
from experiments.images.tasks import mnist as mnist_module
from experiments.images.tasks.cache import cached
from experiments.images.tasks.downloads import DownloadError
from experiments.images.tasks.reading import Reading
from experiments.study.plan import make_plan
from experiments.study.study import load_study
from ledger.errors import UserError
from tests.support.download_server import failed_download, forget_proxies, md5, serve
from tests.support.tiny_study import write_sweep

PARTS = {"train": (1, [5, 0, 4, 1, 9]), "t10k": (2, [7, 2])}
OFFICIAL_MD5 = dict(mnist_module.UNPACKED_MD5)


def pixels_of(seed: int, num_images: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (num_images, 28, 28), np.uint8)


@pytest.fixture(scope="module")
def unpacked() -> dict[str, bytes]:
    """The four files in the official format, by name: big-endian magic number and sizes, then bytes."""
    files: dict[str, bytes] = {}
    for part, (seed, labels) in PARTS.items():
        num_images = len(labels)
        images = struct.pack(">4I", 0x803, num_images, 28, 28) + pixels_of(seed, num_images).tobytes()
        files |= {
            f"{part}-images-idx3-ubyte": images,
            f"{part}-labels-idx1-ubyte": struct.pack(">2I", 0x801, num_images) + bytes(labels),
        }
    return files


@pytest.fixture(scope="module")
def packed(unpacked: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(data) for name, data in unpacked.items()}


@pytest.fixture(autouse=True)
def forged(unpacked: dict[str, bytes], packed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision and the task take the forged files for the official ones; no download leaves this machine."""
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(MNIST, "resources", [(name, md5(data)) for name, data in packed.items()])
    monkeypatch.setattr(mnist_module, "UNPACKED_MD5", {name: md5(data) for name, data in unpacked.items()})
    monkeypatch.delenv("STN_BENCH_MNIST", raising=False)
    forget_proxies(monkeypatch)


def load(cache: Path, image_px: int = 28, lines: list[str] | None = None) -> Any:
    return load_task("mnist", image_px=image_px, cache=cache, say=(lines if lines is not None else []).append)


def put(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def failure(cache: Path) -> str:
    message = failed_download(load, cache)
    assert message.startswith(f"mnist: cannot be downloaded from {MNIST.mirrors[0]}: ")
    return message


def assert_whole(task: Any) -> None:
    assert (task.name, task.label, task.classes) == ("mnist", "MNIST", tuple("0123456789"))
    for part, (seed, labels) in zip((task.train, task.test), PARTS.values(), strict=True):
        num_images = len(labels)
        assert part.pixels_NHWC.shape == (num_images, 28, 28, 1)
        assert np.array_equal(part.pixels_NHWC[..., 0], pixels_of(seed, num_images))
        assert part.labels_N.tolist() == labels
        assert np.array_equal(part.theta_N23, np.tile(np.eye(2, 3), (num_images, 1, 1)))


def test_the_names_of_the_files_are_torchvision_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert [name for name, _ in MNIST.resources] == [f"{name}.gz" for name in OFFICIAL_MD5]
    assert all(len(checksum) == 32 for checksum in OFFICIAL_MD5.values())


def test_downloaded_once(packed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, lines = tmp_path / "cache", list[str]()
    with serve(200, packed) as (url, asked):
        monkeypatch.setattr(MNIST, "mirrors", [url])
        task = load(cache, lines=lines)
    assert_whole(task)
    assert set(asked) == set(packed)
    assert lines == [f"mnist: downloading from {url}, once"]
    (entry,) = cache.iterdir()  # no official file is left
    assert entry.name.startswith("mnist-") and not list(entry.rglob("*ubyte*"))
    again = load(cache, lines=lines)  # the server is gone
    assert_whole(again)
    assert again.content_hash == task.content_hash
    assert len(lines) == 1


def test_the_second_mirror_helps_out(packed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(503, b"no") as (broken, refused), serve(200, packed) as (url, _):
        monkeypatch.setattr(MNIST, "mirrors", [broken, url])
        assert_whole(load(tmp_path))
    assert refused


def test_another_size(packed: dict[str, bytes], tmp_path: Path) -> None:
    put(packed, tmp_path / "downloads")
    train = load(tmp_path, image_px=42).train
    grey = Image.fromarray(pixels_of(1, 5)[2]).resize((42, 42), Image.Resampling.BICUBIC)
    assert train.pixels_NHWC.shape == (5, 42, 42, 1)
    assert np.array_equal(train.pixels_NHWC[2], np.asarray(grey)[..., None])


def test_digits_in_three_channels_that_an_earlier_version_kept_are_not_taken(
    packed: dict[str, bytes], tmp_path: Path
) -> None:
    put(packed, tmp_path / "downloads")
    task = load(tmp_path)
    spread = [replace(part, pixels_NHWC=part.pixels_NHWC.repeat(3, axis=-1)) for part in (task.train, task.test)]
    cache, source = tmp_path / "old", {"files": mnist_module.UNPACKED_MD5, "image_px": 28}
    put(packed, cache / "downloads")
    old = cached("mnist", source, cache, lambda scratch: (task.classes, *spread, Reading()), print)
    assert old.content_hash != task.content_hash
    assert_whole(load(cache))
    assert load(cache).record()["channels"] == 1


@pytest.mark.parametrize(
    ("status", "body", "expected"), [(404, b"no", "404"), (200, b"<html>Please log in</html>", "checksum differs")]
)
def test_something_else_instead_of_the_files(
    status: int, body: bytes, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(status, body) as (url, _):
        monkeypatch.setattr(MNIST, "mirrors", [url, url])
        assert expected in failure(tmp_path / "cache")


def test_a_study_of_it_falls_back_to_sprites_and_names_it(tmp_path: Path, cache: Path) -> None:
    study, lines = (
        load_study(
            write_sweep(tmp_path, task="mnist", variants=[{"variant": "cnn", "baseline": "cnn"}], search={"trials": 1}),
            "smoke",
        ),
        list[str](),
    )
    plan = make_plan(study, label="Digits", cache=cache, say=lines.append)
    assert plan.task.label == "sprites" and plan.source.task == "sprites"
    assert lines[1].startswith("mnist: cannot be downloaded")
    assert lines[2] == (
        "MNIST cannot be had here, so this study runs on the built-in task `sprites` instead, and says so."
    )


@pytest.mark.parametrize("below", ["", "MNIST/raw"])
@pytest.mark.parametrize("kind", ["packed", "unpacked"])
def test_own_files_are_taken(
    kind: str, below: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = request.getfixturevalue(kind)
    folder = put(files, tmp_path / "own" / below)
    monkeypatch.setenv("STN_BENCH_MNIST", str(tmp_path / "own"))
    assert_whole(load(tmp_path / "cache"))
    assert {path.name for path in folder.iterdir()} == set(files)
    monkeypatch.delenv("STN_BENCH_MNIST")
    put(files, tmp_path / "other/downloads" / below)
    assert_whole(load(tmp_path / "other"))


def test_own_files_that_are_damaged(
    packed: dict[str, bytes], unpacked: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "t10k-labels-idx1-ubyte"
    folders = {
        put(packed | {f"{name}.gz": packed[f"{name}.gz"][:-1]}, tmp_path / "a"): f"{name}.gz: checksum differs",
        put(unpacked | {name: b"x" * 10}, tmp_path / "b"): f"{name}: checksum differs",
        put({n: data for n, data in unpacked.items() if n != name}, tmp_path / "c"): f"neither {name} nor {name}.gz",
        put({}, tmp_path / "d"): "has neither MNIST/raw/ nor train-images-idx3-ubyte.gz",
    }
    for folder, expected in folders.items():
        monkeypatch.setenv("STN_BENCH_MNIST", str(folder))
        with pytest.raises(UserError) as error:
            load(tmp_path / "cache")
        assert str(error.value).startswith(f"STN_BENCH_MNIST={str(folder)!r}: ") and expected in str(error.value)
        assert not isinstance(error.value, DownloadError)
        assert list((tmp_path / "cache").iterdir()) == []


def test_damaged_files_in_the_cache_are_passed_over(
    packed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(packed | {"train-images-idx3-ubyte.gz": b"x"}, tmp_path / "downloads")
    lines: list[str] = []
    with serve(200, packed) as (url, _):
        monkeypatch.setattr(MNIST, "mirrors", [url])
        assert_whole(load(tmp_path, lines=lines))
    assert "mnist: ignoring damaged files" in lines[0] and "downloading" in lines[1]
