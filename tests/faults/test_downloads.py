"""Downloads that go wrong in every way a server can make them, and processes that want, or build, the same images."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from experiments.images.tasks import cifar10, downloads, load_task
from experiments.images.tasks.cache import Parts, cached
from experiments.images.tasks.downloads import DownloadError
from ledger.errors import UserError
from tests.experiments.images.test_tasks import build_never, build_some, silent
from tests.support.download_server import Request, forget_proxies, serve, serve_with
from tests.support.forged_data_sets import cifar10_archive, take_for_official
from tests.support.project import ROOT


@pytest.fixture(scope="module")
def archive() -> bytes:
    return cifar10_archive()


@pytest.fixture(autouse=True)
def forged(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    take_for_official(archive, monkeypatch)
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.4)
    forget_proxies(monkeypatch)


def start(request: Request, length: int | None) -> None:
    request.send_response(200)
    if length is not None:
        request.send_header("Content-Length", str(length))
    request.end_headers()


def endless(request: Request, archive: bytes) -> None:
    """As long as anybody listens, and no longer than a test would wait."""
    start(request, None)
    for _ in range(2_000):
        request.wfile.write(archive[: 2**16].ljust(2**16))


def promise_of_a_terabyte(request: Request, archive: bytes) -> None:
    start(request, 2**40)
    request.wfile.write(archive)


def stall(request: Request, archive: bytes) -> None:
    start(request, len(archive))
    request.wfile.write(archive[:1000])
    time.sleep(2)


def drip(request: Request, archive: bytes) -> None:
    start(request, len(archive))
    for byte in archive[:200]:
        request.wfile.write(bytes([byte]))
        time.sleep(0.01)


def reset(request: Request, archive: bytes) -> None:
    start(request, len(archive))
    request.wfile.write(archive[:1000])
    no_time = struct.pack("ii", 1, 0)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_time)  # to close is to reset
    request.connection.close()


def cut_chunk(request: Request, archive: bytes) -> None:
    request.protocol_version = "HTTP/1.1"
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    request.wfile.write(b"1000\r\n" + archive[:1000])
    request.close_connection = True


def to_a_page(request: Request, archive: bytes) -> None:
    if request.path == "/login":
        start(request, None)
        request.wfile.write(b"<html>Please log in</html>")
    else:
        request.send_response(302)
        request.send_header("Location", "/login")
        request.end_headers()


def in_a_circle(request: Request, archive: bytes) -> None:
    request.send_response(302)
    request.send_header("Location", request.path)
    request.end_headers()


def to_a_file(request: Request, archive: bytes) -> None:
    request.send_response(302)
    request.send_header("Location", "file:///etc/hostname")
    request.end_headers()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (endless, "larger than the"),
        (promise_of_a_terabyte, "larger than the"),
        (stall, "timed out"),
        (drip, "slower than 1,024 bytes/s"),
        (reset, "reset"),
        (cut_chunk, "IncompleteRead"),
        (to_a_page, "checksum differs"),
        (in_a_circle, "infinite loop"),
        (to_a_file, "not allowed"),
    ],
)
def test_a_fault_is_told_in_a_line_and_the_next_attempt_succeeds(
    fault: Callable[[Request, bytes], None],
    expected: str,
    archive: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cifar10, "ARCHIVE_BYTES", len(archive))
    fetch, sizes = downloads.fetch, list[int]()

    def measured(url: str, path: Path, **options: Any) -> None:
        try:
            fetch(url, path, **options)
        finally:
            sizes.append(path.stat().st_size if path.exists() else 0)

    monkeypatch.setattr(cifar10, "fetch", measured)
    with serve_with(lambda request: fault(request, archive)) as (url, _):
        monkeypatch.setattr(CIFAR10, "url", url)
        started = time.monotonic()
        with pytest.raises(DownloadError) as error:
            load_task("cifar10", image_px=32, cache=tmp_path, say=lambda line: None)
    assert expected in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(f"cifar10: cannot be downloaded from {url}: ")
    assert time.monotonic() - started < 20
    assert len(sizes) == 1 and sizes[0] <= len(archive)  # however much the server has to give
    assert list(tmp_path.iterdir()) == []
    with serve(200, archive) as (url, _):
        monkeypatch.setattr(CIFAR10, "url", url)
        assert len(load_task("cifar10", image_px=32, cache=tmp_path, say=lambda line: None).train) == 7


CHILD = """
import sys
from pathlib import Path
import numpy as np
from experiments.images.tasks import Images
from experiments.images.tasks.cache import cached
from experiments.images.tasks.downloads import fetch
from experiments.images.tasks.reading import Reading

def build(scratch):
    fetch(sys.argv[1], scratch / "data", max_bytes=10**6, say=print)
    pixels = np.frombuffer((scratch / "data").read_bytes(), np.uint8).reshape(-1, 8, 8, 3)
    images = Images(pixels, np.zeros(len(pixels), np.int64), np.zeros((len(pixels), 2, 3), np.float32))
    return ("a",), images, images, Reading()

decoded = cached("x", 1, Path(sys.argv[2]), build, lambda line: print(line, flush=True))
print(decoded.content_hash, len(decoded.train))
"""
WAITS = "x: another process is making these images; waiting for it\n"


@contextlib.contextmanager
def children(url: str, cache: Path, num: int) -> Iterator[list["subprocess.Popen[str]"]]:
    command = [sys.executable, "-c", CHILD, url, str(cache)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(num)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def out(process: "subprocess.Popen[str]") -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def test_of_four_processes_one_downloads_and_the_others_wait(
    whole: bool, tmp_path: Path, record_figures: Callable[..., None]
) -> None:
    num, body, go = 16 if whole else 4, bytes(8 * 8 * 3 * 50), threading.Event()

    def answer(request: Request) -> None:
        assert go.wait(60)
        start(request, len(body))
        request.wfile.write(body)

    with serve_with(answer) as (url, asked), children(url, tmp_path / "cache", num) as processes:
        heard: list[str] = []

        def hear(process: "subprocess.Popen[str]") -> None:
            heard.append(out(process).readline())

        readers = [threading.Thread(target=hear, args=(process,), daemon=True) for process in processes]
        for reader in readers:
            reader.start()
        end = time.monotonic() + 60
        while len(heard) < num - 1 and time.monotonic() < end:
            time.sleep(0.02)
        assert heard == [WAITS] * (num - 1)  # all but one, which downloads
        go.set()
        for process, reader in zip(processes, readers, strict=True):
            assert process.wait(60) == 0
            reader.join(10)
        answers = {*heard, *(out(process).read() for process in processes)} - {WAITS, ""}
        assert len(asked) == 1
        assert len(answers) == 1 and answers.pop().endswith(" 50\n")
    (entry,) = (tmp_path / "cache").iterdir()
    assert entry.name.startswith("x-")
    record_figures("downloads_at_once", processes=num, downloads=len(asked))


def test_a_killed_builder_does_not_block_the_next(tmp_path: Path) -> None:
    body, never = bytes(8 * 8 * 3 * 50), threading.Event()
    tries: list[int] = []

    def answer(request: Request) -> None:
        tries.append(1)
        start(request, len(body))
        request.wfile.write(body[:100])
        if len(tries) == 1:
            never.wait(60)
        request.wfile.write(body[100:])

    cache = tmp_path / "cache"
    with serve_with(answer) as (url, _), children(url, cache, 1) as (first,):
        end = time.monotonic() + 60
        while not tries and time.monotonic() < end:
            time.sleep(0.02)
        with children(url, cache, 1) as (second,):
            assert out(second).readline() == WAITS
            (half,) = cache.glob(".building-*")
            first.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            assert out(second).readline().endswith(" 50\n")
            assert time.monotonic() - killed < 10
        never.set()
        assert not half.exists()
        assert [path.name.split("-")[0] for path in cache.iterdir()] == ["x"]


def test_a_failed_builder_lets_the_next_one_try(tmp_path: Path) -> None:
    building, fail = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def build_nothing(scratch: Path) -> Parts:
        building.set()
        assert fail.wait(30)
        raise UserError("no images")

    def first() -> None:
        try:
            cached("x", 1, tmp_path, build_nothing, silent)
        except UserError as error:
            errors.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    assert building.wait(30)
    cached("x", 2, tmp_path, build_some, silent)  # other images wait for nobody
    cached("x", 1, tmp_path, build_some, lambda line: fail.set())
    thread.join(30)
    assert len(errors) == 1 and fail.is_set()
    assert len(list(tmp_path.iterdir())) == 2


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, as those of pytest may not be."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """As somebody whom permissions bind."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


def test_a_read_only_cache_serves_what_it_holds() -> None:
    with open_folder() as cache:
        expected = cached("x", 1, cache, build_some, silent)
        for path in (*cache.rglob("*"), cache):
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = sorted(cache.rglob("*"))
        with without_rights():
            found = cached("x", 1, cache, build_never, silent)
            with pytest.raises(UserError) as error:
                cached("x", 2, cache, build_never, silent)
        assert found.content_hash == expected.content_hash
        assert np.array_equal(found.train.pixels_NHWC, expected.train.pixels_NHWC)
        assert str(error.value).startswith(f"cache {str(cache)!r}: cannot be written (Permission denied); set ")
        assert sorted(cache.rglob("*")) == before
