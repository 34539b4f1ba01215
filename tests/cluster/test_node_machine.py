"""What a machine must have to be a node, and what it keeps for itself between runs."""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments.images.tasks import load_task
from experiments.images.tasks.cache import Decoded
from experiments.runs.run import Job
from experiments.sweep.executors import node
from experiments.sweep.executors.node import SCRATCH, Misfit, check_room, check_versions
from ledger.ledger import Unwritable
from tests.support.stopped_runs import job_of


@pytest.fixture
def job(cache: Path) -> Job:
    task = load_task("sprites", image_px=32, cache=cache, say=lambda line: None)
    job = job_of(cache, Path("/no/such/ledger"))
    return replace(job, source=replace(job.source, content_hash=task.content_hash))


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a node's runs lie; nobody has looked there yet."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    node._ledger.cache_clear()
    yield folder
    node._ledger.cache_clear()


def fetch_never() -> Decoded:
    raise AssertionError("fetched for a machine that does not fit")


def test_other_versions_are_named_on_both_sides(monkeypatch: pytest.MonkeyPatch, job: Job) -> None:
    found = node.versions()
    assert set(found) == {"Python", "torch", "torchvision", "numpy"}
    assert found["Python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert found["torch"] == torch.__version__.split("+")[0]
    check_versions(found)
    wanted = found | {"torch": "1.13.1", "numpy": "1.0"}
    with pytest.raises(Misfit) as misfit:
        next(node.make_run_on_node(job, wanted, fetch_never, (), 900.0))
    assert str(misfit.value) == (
        f"has torch {found['torch']}, numpy {found['numpy']}, and the sweep's machine torch 1.13.1, numpy 1.0; "
        "install the same on both"
    )


def test_a_library_counts_for_runs_that_need_it(job: Job) -> None:
    wanted = node.versions("timm") | {"timm": "0.0.1", "torch": "0.0.1"}
    for variant, named in (("cnn", "torch"), ("cnn@timm:resnet18", "torch|timm")):
        with pytest.raises(Misfit) as misfit:
            next(
                node.make_run_on_node(
                    replace(job, run=replace(job.run, variant=variant)), wanted, fetch_never, (), 900.0
                )
            )
        assert re.findall("(torch|timm) 0.0.1", str(misfit.value)) == named.split("|")


def test_a_build_for_a_gpu_is_the_same_version(monkeypatch: pytest.MonkeyPatch) -> None:
    found = node.versions()

    def version(name: str) -> str:
        if name == "torchvision":
            raise importlib.metadata.PackageNotFoundError
        return found[name] + "+cu130"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert node.versions() == found | {"torchvision": "missing"}


def test_room_for_the_images_is_seen_to(cache: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20 if folder.exists() else 1 / 0))
    check_room(2**40, job.source.content_hash)  # which are here
    elsewhere = tmp_path / "not/yet"
    monkeypatch.setenv("STN_BENCH_CACHE", str(elsewhere))
    check_room(2**20, job.source.content_hash)
    with pytest.raises(Misfit) as misfit:
        check_room(2000 * 2**20, job.source.content_hash)
    assert str(misfit.value) == (
        f"has no room for the images: 2,000 MiB, and 1 MiB are free for {elsewhere}; make room, or set STN_BENCH_CACHE "
        "to another disk where Ray is started there"
    )
    assert not elsewhere.exists()


def test_a_machine_that_cannot_keep_the_images_is_a_misfit(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("STN_BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        Misfit, match=r"^cannot keep the images: cache .* cannot be written .*; set STN_BENCH_CACHE to another folder"
    ):
        next(node.make_run_on_node(job, node.versions(), fetch_never, (), 900.0))


def test_what_killed_processes_left_is_removed(scratch: Path, dead_pid: int) -> None:
    ours = f"{SCRATCH}-{platform.node()}"
    # Who has that number on another host may be alive.
    others = {f"{ours}.{os.getpid()}.a", f"{ours}.1.a", f"{ours}.x.a", f"{SCRATCH}-elsewhere.{dead_pid}.a", "other.1.a"}
    for name in (*others, f"{ours}.{dead_pid}.a"):
        (scratch / name / "running").mkdir(parents=True)
    own = node._ledger().root
    assert own == node._ledger().root and own.name.startswith(f"{ours}.{os.getpid()}.")
    assert {path.name for path in scratch.iterdir()} - {own.name} == others


class Remembered:
    """In the place of LocalExecutor: what it was made with, and whether it was left."""

    def __init__(self, *made_with: object) -> None:
        self.made_with, self.left = made_with, False

    def __exit__(self, *_: object) -> None:
        self.left = True


def test_another_gpu_has_another_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "LocalExecutor", Remembered)
    monkeypatch.setattr(node, "_workers", {})
    first: Any = node._executor("cuda", 900.0, "0")
    assert first.made_with == ("cuda", 1, 900.0)
    is_kept = node._executor("cuda", 900.0, "0") is first
    assert is_kept and not first.left
    for other in (("cuda", 900.0, "1"), ("cuda", 10.0, "1"), ("cpu", 10.0, None)):
        second: Any = node._executor(*other)
        assert second is not first and first.left and not second.left
        first = second


def test_a_gpu_that_only_ray_sees_is_none(job: Job) -> None:
    if torch.cuda.is_available():
        pytest.skip("PyTorch sees a GPU here")
    on_a_gpu = replace(job, run=replace(job.run, protocol=replace(job.run.protocol, device="cuda")))
    with pytest.raises(Misfit, match=r"^has a GPU for Ray, and none for PyTorch; see to its driver"):
        next(node.make_run_on_node(on_a_gpu, node.versions(), fetch_never, (), 900.0))


def test_a_disk_that_takes_nothing_is_the_machines_fault(
    job: Job, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(scratch / "gone"))
    with pytest.raises(Misfit, match=r"^cannot keep runs until they are sent: .*No such file or directory.*gone"):
        next(node.make_run_on_node(job, node.versions(), fetch_never, (), 900.0))


def test_a_disk_that_fills_up_during_a_run_is_the_machines_fault(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    full: Future[str] = Future()
    full.set_exception(Unwritable("runs: the ledger cannot be written (No space left on device)"))
    monkeypatch.setattr(node, "_executor", lambda *_: SimpleNamespace(submit=lambda job: full))
    with pytest.raises(Misfit, match=r"^cannot keep runs until they are sent: .*\(No space left on device\)$"):
        list(node.make_run_on_node(job, node.versions(), fetch_never, (), 900.0))
