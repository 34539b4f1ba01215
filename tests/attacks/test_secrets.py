"""Nothing that says who you are, or that opens your accounts, is in any file that a sweep, a run or a report writes."""

import gzip
import re
import socket
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.runs import run as runs
from experiments.runs import training
from experiments.sweep.executors import local
from experiments.terminal.cli import main
from ledger.private_text import from_here, without_folders
from tests.support.image_folders import make_parts
from tests.support.tiny_study import HereAndNow, write_sweep

pytestmark = pytest.mark.long

KEY = "0123456789abcdef" * 2 + "c0ffee00"
USER = "markeduser"


class Executor(HereAndNow):
    """Makes the runs in this process; the second one fails with an error that names files."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __enter__(self) -> "Executor":
        return self

    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True)
class Marked:
    """The home of somebody with secrets, where a study was carried out."""

    home: Path
    marks: dict[str, bytes]

    @property
    def written(self) -> Iterator[Path]:
        """Files that the program wrote."""
        for folder in ("work/runs", "work/reports", "cache"):
            found = [path for path in (self.home / folder).rglob("*") if path.is_file()]
            assert found, folder
            yield from found


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Marked:
    home = tmp_path_factory.mktemp("homes") / f"{USER} of a house"
    work = home / "work"
    work.mkdir(parents=True)
    make_parts(home / "pictures")
    (home / "netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    made: list[int] = []

    def train_or_fail(*arguments: Any) -> str:
        made.append(1)
        if len(made) == 2:
            raise RuntimeError(f"{work}/kernel.cu: {Path.cwd()}/x and /opt/{USER}/y.so: no such thing")
        return str(training.train(*arguments))

    num_threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        environment = {
            "HOME": home, "USER": USER, "LOGNAME": USER, "USERNAME": USER, "WANDB_API_KEY": KEY,
            "NETRC": home / "netrc", "WANDB_MODE": "offline", "STN_BENCH_CACHE": home / "cache",
            "STN_BENCH_SECRET": KEY,
        }  # fmt: skip
        for name, value in environment.items():
            patch.setenv(name, str(value))
        patch.setattr(local, "LocalExecutor", Executor)
        patch.setattr(runs, "train", train_or_fail)
        protocol = {
            "image_px": 20, "train_images": 0, "val_images": 4, "test_images": 0, "epochs": 1, "batch_size": 8,
            "precision": "fp32", "device": "cpu", "robustness": "none",
        }  # fmt: skip
        search = {"trials": 1, "space": {"optim.lr": {"value": 0.1}}}
        variants = [{"variant": name, "baseline": "cnn"} for name in ("cnn", "stn_affine")]
        file = write_sweep(work, variants=variants, protocol=protocol, search=search, final_seeds=1)
        assert main(["sweep", "--sweep", str(file), "--data", str(home / "pictures"), "--budget", "smoke"]) == 0
    torch.set_num_threads(num_threads)
    marks = {"key": KEY, "user": USER, "home": str(home), "folder": str(home.parent), "host": socket.gethostname()}
    return Marked(home, {name: mark.encode() for name, mark in marks.items() if len(mark) > 3})


def unpacked(content: bytes) -> Iterator[bytes]:
    """The bytes, and whatever is packed in them: zlib in PNG and PDF, gzip."""
    yield content
    for found in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", content):
        try:
            yield zlib.decompressobj(wbits=47).decompress(content[found.start() :], 2**20)
        except zlib.error:
            continue


def test_unpacking_finds_what_is_packed() -> None:
    for packed in (zlib.compress(b"secret"), gzip.compress(b"secret")):
        assert any(b"secret" in content for content in unpacked(b"x\x9cnoise" + packed + b"more"))


def test_no_file_says_who_or_opens_anything(marked: Marked) -> None:
    kinds = set()
    for path in marked.written:
        kinds.add(path.suffix)
        for content in unpacked(path.read_bytes()):
            for name, mark in marked.marks.items():
                for spelled in (mark, mark.decode().encode("utf-16-le")):
                    assert spelled not in content, f"{name} in {path.relative_to(marked.home)}"
        assert not any(mark.decode() in str(path.relative_to(marked.home)) for mark in marked.marks.values())
    assert {".json", ".log", ".wandb", ".safetensors", ".png", ".pdf", ".html", ".csv", ".npy"} <= kinds


def test_an_error_keeps_what_is_no_folder(marked: Marked) -> None:
    records = [path.read_text() for path in marked.written if path.name == "run.json"]
    errors = [record for record in records if '"failed"' in record]
    assert len(errors) == 1
    assert '"error": "RuntimeError: .../kernel.cu: .../x and .../y.so: no such thing"' in errors[0]


def test_folders_are_left_out_of_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/my self")
    assert without_folders(f"at {tmp_path}/a/b.py:3, '/home/my self/c d' and /usr/lib/x.so") == (
        "at .../a/b.py:3, '.../c d' and .../x.so"
    )
    for text in ("1/2 of 3 images/s", "out of memory", "a/b and https://x.org/y", "shape (3/4)"):
        assert without_folders(text) == text
    assert from_here(str(tmp_path / "a/sweep.yaml")) == "a/sweep.yaml"
    assert from_here("/nowhere/else/sweep.yaml") == "sweep.yaml"
    assert from_here("../sweep.yaml") == "../sweep.yaml"
