"""CIFAR-10 from a forged archive on a server of this machine."""

import io
import socket
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

from experiments.images.tasks import cifar10 as cifar10_module
from experiments.images.tasks import downloads, load_task
from experiments.images.tasks.downloads import DownloadError
from ledger.errors import UserError
from tests.support.download_server import failed_download, forget_proxies, serve
from tests.support.forged_data_sets import CLASSES, cifar10_archive, pixels_of, take_for_official


@pytest.fixture(scope="module")
def archive() -> bytes:
    return cifar10_archive()


@pytest.fixture(autouse=True)
def forged(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forged archive is taken for the official one; no download leaves this machine."""
    take_for_official(archive, monkeypatch)
    forget_proxies(monkeypatch)


def load(cache: Path, image_px: int = 32, lines: list[str] | None = None) -> Any:
    return load_task("cifar10", image_px=image_px, cache=cache, say=(lines if lines is not None else []).append)


def failure(cache: Path) -> str:
    message = failed_download(load, cache)
    assert CIFAR10.url in message
    return message


def assert_whole(task: Any) -> None:
    assert (task.name, task.label, task.classes) == ("cifar10", "CIFAR-10", tuple(CLASSES))
    assert np.array_equal(task.train.pixels_NHWC, np.concatenate([pixels_of(1, 4), pixels_of(2, 3)]))
    assert np.array_equal(task.test.pixels_NHWC, pixels_of(3, 2))
    assert task.train.labels_N.tolist() == [0, 1, 2, 0, 0, 1, 2]
    assert task.test.labels_N.tolist() == [0, 1]
    assert np.array_equal(task.test.theta_N23, np.tile(np.eye(2, 3), (2, 1, 1)))


def test_the_names_of_the_files_are_torchvision_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list] + [CIFAR10.meta["filename"]]
    assert list(cifar10_module.SHA256) == names
    assert all(len(checksum) == 64 for checksum in (cifar10_module.ARCHIVE_SHA256, *cifar10_module.SHA256.values()))


def test_downloaded_once(archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, lines = tmp_path / "cache", list[str]()
    with serve(200, archive) as (url, asked):
        monkeypatch.setattr(CIFAR10, "url", url)
        task = load(cache, lines=lines)
    assert_whole(task)
    assert asked
    assert lines == [f"cifar10: downloading from {url}, once"]
    assert task.reading.facts == (("Source", "CIFAR-10 as published, by the checksums of its files: 32 x 32 px"),)
    assert load(cache, lines=lines).reading == task.reading
    (entry,) = cache.iterdir()  # neither the archive nor what was in it is left
    assert entry.name.startswith("cifar10-")
    assert not list(entry.rglob("*batch*"))
    again = load(cache, lines=lines)  # the server is gone
    assert_whole(again)
    assert again.content_hash == task.content_hash
    assert len(lines) == 1


def test_another_size(archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/cifar-10-python.tar.gz").write_bytes(archive)
    train = load(tmp_path, image_px=16).train
    expected = Image.fromarray(pixels_of(1, 4)[2]).resize((16, 16), Image.Resampling.BICUBIC)
    assert train.pixels_NHWC.shape == (7, 16, 16, 3)
    assert np.array_equal(train.pixels_NHWC[2], np.asarray(expected))


def test_wrong_checksum(archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(200, archive[:-1] + b"x") as (url, _):
        monkeypatch.setattr(CIFAR10, "url", url)
        assert "checksum differs" in failure(tmp_path / "cache")


def test_cut_off(archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(200, archive[:100], len(archive)) as (url, _):
        monkeypatch.setattr(CIFAR10, "url", url)
        assert f"cut after 100 of {len(archive):,} bytes" in failure(tmp_path / "cache")


@pytest.mark.parametrize("status", [403, 404, 503])
def test_refused_by_the_server(status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(status, b"no") as (url, _):
        monkeypatch.setattr(CIFAR10, "url", url)
        assert str(status) in failure(tmp_path / "cache")


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{taken.getsockname()[1]}/x.tar.gz")
        assert "refused" in failure(tmp_path / "cache")


def test_a_black_hole_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, never answers
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{silent.getsockname()[1]}/x.tar.gz")
        assert "timed out" in failure(tmp_path / "cache")


def test_a_full_disk_is_not_the_networks_fault(archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads, "open", full, raising=False)
    with serve(200, archive) as (url, _):
        monkeypatch.setattr(CIFAR10, "url", url)
        with pytest.raises(UserError, match="No space left on device") as error:
            load(tmp_path / "cache")
    assert not isinstance(error.value, DownloadError)
    assert list((tmp_path / "cache").iterdir()) == []


def unpack(archive: bytes, folder: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def test_own_files_are_taken(archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = unpack(archive, tmp_path / "unpacked")
    monkeypatch.setenv("STN_BENCH_CIFAR10", str(own))
    assert_whole(load(tmp_path / "a"))
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "cifar-10-python.tar.gz").write_bytes(archive)
    monkeypatch.setenv("STN_BENCH_CIFAR10", str(packed))
    assert_whole(load(tmp_path / "b"))
    assert [path.name for path in packed.iterdir()] == ["cifar-10-python.tar.gz"]
    monkeypatch.delenv("STN_BENCH_CIFAR10")
    unpack(archive, tmp_path / "c/downloads")
    assert_whole(load(tmp_path / "c"))


def test_own_files_that_are_damaged(archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = unpack(archive, tmp_path / "own")
    (own / "cifar-10-batches-py/test_batch").write_bytes(b"x")
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "cifar-10-python.tar.gz").write_bytes(archive[:-1])
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, expected in (
        (own, "test_batch: checksum differs"),
        (packed, "checksum differs"),
        (empty, "has neither"),
    ):
        monkeypatch.setenv("STN_BENCH_CIFAR10", str(folder))
        with pytest.raises(UserError) as error:
            load(tmp_path / "cache")
        assert expected in str(error.value)
        assert str(folder) in str(error.value)
        assert not isinstance(error.value, DownloadError)
        assert list((tmp_path / "cache").iterdir()) == []


def test_damaged_files_in_the_cache_are_passed_over(
    archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/cifar-10-python.tar.gz").write_bytes(archive[:-1])
    lines: list[str] = []
    with serve(200, archive) as (url, _):
        monkeypatch.setattr(CIFAR10, "url", url)
        assert_whole(load(tmp_path, lines=lines))
    assert "ignoring damaged files" in lines[0]
    assert "downloading" in lines[1]
