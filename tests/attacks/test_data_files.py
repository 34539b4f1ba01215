"""Archives and pickles that somebody made to do harm: refused in a line, with nothing run and nothing written."""

import gzip
import hashlib
import os
import pickle
import shutil
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import MNIST

from experiments.images.tasks import cifar10, downloads, load_task
from experiments.images.tasks import mnist as mnist_module
from experiments.images.tasks.downloads import DownloadError
from ledger.errors import UserError
from tests.support.download_server import forget_proxies, md5
from tests.support.forged_data_sets import FOLDER, Harm, cifar10_archive, cifar10_files, pack, sha256, take_for_official

NAMES = ("data_batch_1", "test_batch", "batches.meta")


@pytest.fixture(autouse=True)
def forged(monkeypatch: pytest.MonkeyPatch) -> None:
    take_for_official(cifar10_archive(), monkeypatch)
    forget_proxies(monkeypatch)


def load(own: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, task: str = "cifar10") -> Any:
    monkeypatch.setenv(f"STN_BENCH_{task.upper()}", str(own))
    return load_task(task, image_px=32, cache=cache, say=lambda line: None)


def refusal(own: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, task: str = "cifar10") -> str:
    with pytest.raises(UserError) as error:
        load(own, cache, monkeypatch, task)
    assert not isinstance(error.value, DownloadError)
    assert "\n" not in str(error.value) and list(cache.iterdir()) == []
    return str(error.value)


def put_archive(archive: bytes, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cifar-10-python.tar.gz").write_bytes(archive)
    return folder


def put_files(files: dict[str, bytes], folder: Path) -> Path:
    (folder / FOLDER).mkdir(parents=True)
    for name, data in files.items():
        (folder / FOLDER / name).write_bytes(data)
    return folder


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_members_that_lead_out_of_an_archive_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where its checksum is right: of an archive, nothing but the official names is read, and nothing unpacked."""
    outside = tmp_path / "outside"
    harm = [
        (member("../outside"), b"x"),
        (member(str(outside)), b"x"),
        (member(f"{FOLDER}/../../outside"), b"x"),
        (member(f"{FOLDER}/link", tarfile.SYMTYPE, str(tmp_path)), b""),
        (member(f"{FOLDER}/link/outside"), b"x"),
        (member(f"{FOLDER}/hard", tarfile.LNKTYPE, "/etc/passwd"), b""),
        (member(f"{FOLDER}/pipe", tarfile.FIFOTYPE), b""),
        (member(f"{FOLDER}/disk", tarfile.BLKTYPE), b""),
        (member(f"{FOLDER}/data_batch_1", tarfile.SYMTYPE, "/etc/passwd"), b""),
    ]
    archive = pack(cifar10_files(), harm)
    take_for_official(archive, monkeypatch)
    before = sorted(Path("/etc").iterdir())
    task = load(put_archive(archive, tmp_path / "own"), tmp_path / "cache", monkeypatch)
    assert len(task.train) == 7 and len(task.test) == 2
    assert not outside.exists() and sorted(Path("/etc").iterdir()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "own"]
    assert len(list((tmp_path / "own").iterdir())) == 1


def test_a_link_in_the_place_of_a_file_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = cifar10_files()
    del files["test_batch"]
    archive = pack(files, [(member(f"{FOLDER}/test_batch", tarfile.SYMTYPE, "/etc/passwd"), b"")])
    monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", sha256(archive))
    said = refusal(put_archive(archive, tmp_path / "own"), tmp_path / "cache", monkeypatch)
    assert "cifar-10-python.tar.gz has no test_batch" in said


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("packed", [False, True])
def test_code_in_a_pickle_is_never_run(
    name: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops at the checksum; and again, were the checksum forged, at the first name that is no array's."""
    mark, cache = tmp_path / "mark", tmp_path / "cache"
    for protocol in (0, 2, 5):
        files = cifar10_files() | {name: pickle.dumps({"data": Harm(mark)}, protocol)}
        own = tmp_path / f"own-{protocol}"
        if packed:
            archive = pack(files)  # once: it holds the second in which it was made
            put_archive(archive, own)
            said = refusal(own, cache, monkeypatch)
            assert "cifar-10-python.tar.gz: checksum differs" in said
            monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", sha256(archive))
        else:
            put_files(files, own)
        assert f"{name}: checksum differs" in refusal(own, cache, monkeypatch)
        with monkeypatch.context() as patch:
            patch.setitem(cifar10.SHA256, name, sha256(files[name]))
            said = refusal(own, cache, monkeypatch)
        assert f"{name}: cannot be loaded: names posix.mkdir, which is not an array" in said
    assert not mark.exists()
    pickle.loads(files[name])
    assert mark.exists()  # it would have


@pytest.mark.parametrize(
    "names",
    [b"cnumpy\nload\n", b"cnumpy.core.multiarray\nfromfile\n", b"cbuiltins\neval\n", b"cnumpy\nndarray.tofile\n"],
)
def test_a_pickle_may_name_nothing_else_of_numpy(names: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = cifar10_files() | {"batches.meta": b"\x80\x04" + names + b"."}
    monkeypatch.setitem(cifar10.SHA256, "batches.meta", sha256(files["batches.meta"]))
    said = refusal(put_files(files, tmp_path / "own"), tmp_path / "cache", monkeypatch)
    assert "batches.meta: cannot be loaded: names " in said


def test_what_is_read_is_what_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody exchanges the files between the check and the use."""
    mark, cache = tmp_path / "mark", tmp_path / "cache"
    harm = cifar10_files() | dict.fromkeys(NAMES, pickle.dumps(Harm(mark)))
    own = put_files(cifar10_files(), tmp_path / "files")
    check, digest = downloads.check, hashlib.file_digest

    def check_then_exchange(name: str, data: bytes, checksum: str) -> None:
        check(name, data, checksum)
        (own / FOLDER / name).write_bytes(harm[name])

    with monkeypatch.context() as patch:
        patch.setattr(downloads, "check", check_then_exchange)
        assert len(load(own, cache, monkeypatch).train) == 7
    assert (own / FOLDER / "batches.meta").read_bytes() == harm["batches.meta"]

    packed = put_archive(cifar10_archive(), tmp_path / "packed")

    def digest_then_exchange(file: Any, name: str) -> Any:
        found = digest(file, name)
        put_archive(pack(harm), packed)
        return found

    monkeypatch.setattr(hashlib, "file_digest", digest_then_exchange)
    monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", sha256(cifar10_archive()))
    shutil.rmtree(cache)
    assert "checksum differs" in refusal(packed, cache, monkeypatch)
    assert not mark.exists()


def peak_mib(action: Callable[[], object]) -> float:
    """The most that was allocated at once while it ran."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_bombs_are_not_blown_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 64 * 2**20
    files = cifar10_files() | {"data_batch_2": bytes(size)}
    packed = pack(files)  # once: gzip writes the time into it
    own = put_archive(packed, tmp_path / "own")
    cache = tmp_path / "cache"

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("unpacked before it was checked")

    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", never)
        assert "checksum differs" in refusal(own, cache, monkeypatch)
    monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", sha256(packed))
    said: list[str] = []
    assert peak_mib(lambda: said.append(refusal(own, cache, monkeypatch))) < 8
    assert "data_batch_2 is larger than the official file" in said[0]
    plain = put_files(cifar10_files(), tmp_path / "plain")
    with open(plain / FOLDER / "test_batch", "wb") as file:
        file.truncate(2**40)  # a terabyte of nothing
    monkeypatch.setattr(cifar10, "MAX_FILE_BYTES", 2**20)
    assert peak_mib(lambda: said.append(refusal(plain, cache, monkeypatch))) < 8
    assert "test_batch is larger than the official file" in said[1]


def idx(*header: int, data: bytes = b"") -> bytes:
    return struct.pack(f">{len(header)}I", *header) + data


IDX = {
    "train-images-idx3-ubyte": idx(0x803, 2, 28, 28, data=bytes(2 * 784)),
    "train-labels-idx1-ubyte": idx(0x801, 2, data=b"\1\2"),
    "t10k-images-idx3-ubyte": idx(0x803, 1, 28, 28, data=bytes(784)),
    "t10k-labels-idx1-ubyte": idx(0x801, 1, data=b"\3"),
}


def forge_mnist(files: dict[str, bytes], folder: Path, monkeypatch: pytest.MonkeyPatch, packed: bool = False) -> Path:
    """Files that pass for the official ones."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setattr(mnist_module, "UNPACKED_MD5", {name: md5(data) for name, data in files.items()})
    zipped = {f"{name}.gz": gzip.compress(data, 9) for name, data in files.items()}
    monkeypatch.setattr(MNIST, "resources", [(name, md5(data)) for name, data in zipped.items()])
    for name, data in (zipped if packed else files).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(
    "header",
    [
        idx(0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1),
        idx(0x803, 2**31, 28, 28),
        idx(0x803, 0, 0, 0),
        idx(0x803, 2, 28),
        idx(0xD03, 2, 28, 28),
        b"",
    ],
)
def test_absurd_sizes_in_a_header(header: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "train-images-idx3-ubyte"
    data = header + bytes(2 * 784) if header else header
    own = forge_mnist(IDX | {name: data}, tmp_path / "own", monkeypatch)
    said: list[str] = []
    assert peak_mib(lambda: said.append(refusal(own, tmp_path / "cache", monkeypatch, "mnist"))) < 8
    assert f"{name}: " in said[0] and "header" in said[0]


def test_a_packed_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = forge_mnist(IDX | {"t10k-images-idx3-ubyte": bytes(2**26)}, tmp_path / "own", monkeypatch, packed=True)
    monkeypatch.setattr(mnist_module, "MAX_BYTES", 2**20)
    said: list[str] = []
    assert peak_mib(lambda: said.append(refusal(own, tmp_path / "cache", monkeypatch, "mnist"))) < 8
    assert "t10k-images-idx3-ubyte.gz: is cut off, or larger than 1,048,576 bytes when unpacked" in said[0]


def test_pipes_in_the_place_of_files_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = put_files(cifar10_files(), tmp_path / "own")
    (own / FOLDER / "test_batch").unlink()
    os.mkfifo(own / FOLDER / "test_batch")
    other_end = os.open(own / FOLDER / "test_batch", os.O_RDWR | os.O_NONBLOCK)  # whoever waits all the same is let go
    try:
        assert "test_batch is not there" in refusal(own, tmp_path / "cache", monkeypatch)
    finally:
        os.close(other_end)
