"""What is written beside a sweep, on a broken disk: a clear line, old content or new, and nothing half-written."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.reports import write_files
from benchmarks.report_file import check_writable
from experiments.machine import device
from experiments.machine.device import measured_precision
from experiments.terminal.cli import main
from experiments.terminal.commands import wandb_report as command
from ledger.errors import UserError
from ledger.ledger import Ledger
from tests.faults.kills_at_writes import fill_cache, read_cache
from tests.faults.test_disk import FAULTS, ROOM_FOR_DELETING, at, broken
from tests.faults.write_sites import record, watched
from tests.support.project import ROOT
from tests.support.tiny_study import write_sweep

URLS = ("https://wandb.example/workspace", "https://wandb.example/report")


@dataclass(frozen=True)
class Writer:
    """write: what is watched. said: what an error says at least. state: what is on disk, old before and new after."""

    write: Callable[[Path], object]
    said: tuple[str, ...]
    state: Callable[[Path], Any]


def content(pattern: str) -> Callable[[Path], Any]:
    return lambda folder: {path.name: path.read_bytes() for path in folder.rglob(pattern)}


def write_table(folder: Path) -> None:
    write_files(folder, {"ablation.csv": b"new" * 5000}, optional=["gone.csv"])


def write_precision(folder: Path) -> None:
    assert measured_precision(torch.device("cpu"), folder) == "bf16"


def save_to_wandb(folder: Path) -> None:
    class Shown:
        study, project = "study", "project"

    assert command.save(Ledger(folder, read_only=True), Shown(), "me") == URLS  # type: ignore[arg-type]


WRITERS = {
    "table": Writer(write_table, ("cannot be written",), content("ablation.csv")),
    "cache": Writer(fill_cache, ("cannot be written", "STN_BENCH_CACHE"), read_cache),
    "precision": Writer(write_precision, ("cannot be written", "STN_BENCH_CACHE"), content("precision.json")),
    "wandb-report": Writer(save_to_wandb, ("study.json", "cannot be written", *URLS), content("study.json")),
    "bench": Writer(
        lambda folder: check_writable(folder / "bench.json"), ("bench.json cannot be written",), content("b*")
    ),
}


def complaint(writer: Writer, folder: Path) -> str:
    """What it says that it cannot do; "" where it can."""
    try:
        writer.write(folder)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", WRITERS)
def test_each_call_that_writes_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool, record_figures: Callable[..., None], name: str
) -> None:
    if name == "wandb-report":
        pytest.importorskip("wandb_workspaces")
        monkeypatch.setattr("experiments.tracking.report.save", lambda shown, saved: URLS)
        monkeypatch.setattr("dataclasses.replace", lambda shown, **new: shown)
    monkeypatch.setattr(device, "train_rate", lambda kind, precision: {"fp32": 1.0, "bf16": 2.0}[precision])
    writer, num_faults, num_said = WRITERS[name], 0, 0
    (tmp_path / "0").mkdir()
    sites = record(tmp_path / "0", lambda: writer.write(tmp_path / "0"))
    new = writer.state(tmp_path / "0")
    assert sites
    for number, calls in FAULTS.items():
        for site in sites:
            if site.call not in calls or (name == "cache" and number != errno.ENOSPC and not whole):
                continue
            num_faults += 1
            folder = tmp_path / str(num_faults)
            folder.mkdir()
            old = writer.state(folder)
            with watched(folder, broken(number, at(site.number))):
                said = complaint(writer, folder)
            if said:
                num_said += 1
                assert os.strerror(number) in said and str(folder) in said and "\n" not in said, said
                assert all(words in said for words in writer.said), said
            assert writer.state(folder) in (old, new)
            if number in ROOM_FOR_DELETING:
                assert not [path for path in folder.rglob(".*") if not path.name.startswith(".lock")], site
            writer.write(folder)
            assert writer.state(folder) == new
    assert num_said > num_faults / 2
    record_figures(f"disk: {name}", num_sites=len(sites), num_faults=num_faults, num_said=num_said)


@pytest.mark.parametrize("buffered", [True, False])
def test_output_that_nothing_takes(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], buffered: bool
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    write_sweep(here)
    command = ["wandb-sweep", "--budget", "smoke"]
    raw = io.FileIO("/dev/full", "w")
    with io.TextIOWrapper(io.BufferedWriter(raw) if buffered else raw, write_through=not buffered) as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(command) == 2
    said = capsys.readouterr().err
    assert (
        said
        == f"error: standard output: {os.strerror(errno.ENOSPC)}; make room there and give the same command again\n"
    )

    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        assert main(command) == 1
    assert capsys.readouterr().err == ""


def test_errors_that_nobody_can_read_still_have_their_status(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stderr", Full())
    assert main(["status", "--runs", "nowhere"]) == 2


def test_a_full_or_closed_output_gives_the_status_to_the_shell(here: Path, whole: bool) -> None:
    if not whole or not Path("/dev/full").exists():
        pytest.skip("starts processes; `make faults` does it where there is /dev/full")
    write_sweep(here)
    root = ROOT
    base = f"{sys.executable} -m experiments"
    for arguments, status, said in (
        ("wandb-sweep --budget smoke > /dev/full", 2, "error: standard output: No space left on device"),
        ("variants > /dev/full", 2, "error: standard output: No space left on device"),
        ("variants >&-", 0, ""),
        ("variants nosuch 2> /dev/full", 2, ""),
        ("variants nosuch > /dev/full 2>&1", 2, ""),
    ):
        done = subprocess.run(
            f"{base} {arguments}", shell=True, cwd=here, env=os.environ | {"PYTHONPATH": str(root)},
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr.startswith(said), done.stderr.count("\n")) == (status, True, bool(said))
