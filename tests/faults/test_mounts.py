"""Mounts, folders and users that answer as few do: nothing is refused, and nothing fails, for what cannot be known."""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis.reports import write_files
from experiments.study.disk_space import DiskNeed, check_room, free_space
from ledger.errors import UserError
from ledger.files import flush_folder, write_atomically
from ledger.private_text import without_folders
from tests.support.command_line import stamps
from tests.support.project import ROOT
from tests.support.tiny_study import NUM_RUNS, STUDY, write_sweep

pytestmark = pytest.mark.long


def refusing(number: int) -> Callable[[int], None]:
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    return fsync


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_folder_that_cannot_be_flushed_at_all_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(number))
    flush_folder(tmp_path)
    with pytest.raises(OSError, match="file"):  # of a file it is one
        write_atomically(tmp_path / "file", b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_folder_that_did_not_get_to_the_disk_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(number))
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        flush_folder(tmp_path)


def test_where_no_room_is_reported_it_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need = DiskNeed(10**9, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=0, used=0, free=0))
    check_room(need, tmp_path / "runs", tmp_path / "reports")
    assert free_space(tmp_path) is None
    assert need.text(tmp_path) == "Up to 1.0 GB of disk will be written; how much is free cannot be known."
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=1, used=1, free=0))
    with pytest.raises(UserError):
        check_room(need, tmp_path / "runs", tmp_path / "reports")


def test_an_error_is_kept_where_there_is_no_folder_and_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    text = f"{tmp_path}/kernel.cu: no such thing"
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert without_folders(text) == ".../kernel.cu: no such thing"
    monkeypatch.setattr(Path, "home", nobody)
    assert without_folders(text) == ".../kernel.cu: no such thing"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/root/x/a.py and /root", ".../x/a.py and ..."),
        ("at '/root': no", "at '...': no"),
        ("in /root.", "in ...."),
        ("/rootless: no", "/rootless: no"),
        ("/root-2 /root.old /root_", "/root-2 /root.old /root_"),
    ],
)
def test_only_whole_names_are_left_out(text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    assert without_folders(text) == said


def test_only_drafts_of_this_writer_go(tmp_path: Path) -> None:
    dead = 2**22 + 1  # above all processes' numbers
    theirs = {f".notes.{dead}", ".notes.20240101", f".a.csv.old.{dead}", f".a.{dead}"}
    for name in (*theirs, f".a.csv.{dead}", f".gone.csv.{dead}"):
        (tmp_path / name).touch()
    write_files(tmp_path, {"a.csv": b"1"}, optional=iter(["gone.csv"]))
    assert {path.name for path in tmp_path.iterdir()} == {*theirs, "a.csv"}


def mounted(script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A sweep in the folder, among mounts of its own that the script makes. Skips the test where that cannot be."""
    inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*inside, script], cwd=folder, capture_output=True).returncode:
        pytest.skip("mounts of its own cannot be made here")
    sweep = f'{script} && exec "$0" -m experiments sweep --budget smoke --jobs 1 --runs "$RUNS" --reports "$REPORTS"'
    places = {"RUNS": f"{folder.parent}/a 'ledger'", "REPORTS": f'{folder.parent}/its "tables"'}
    return subprocess.run(
        [*inside, sweep, sys.executable], cwd=folder, env=os.environ | places, capture_output=True, text=True
    )


@pytest.mark.parametrize("size", ["ro", "rw,size=64k"])
def test_a_sweep_needs_no_shared_memory(size: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write_sweep(here)
    ended = mounted(f"mount -t tmpfs -o {size} tmpfs /dev/shm", here)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(os.listdir(here.parent / "a 'ledger'/runs")) == NUM_RUNS


def test_a_checkout_may_be_read_only(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And lie, like its ledger, in a folder whose name has spaces and quotes."""
    checkout = here.parent / 'the "checkout\'s" own'
    for part in ("ledger", "stn", "baselines", "experiments", "analysis"):
        shutil.copytree(ROOT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
    write_sweep(checkout)
    before = stamps(checkout)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    ended = mounted("mount --bind . . && mount -o remount,bind,ro . && cd . && ! touch file 2>&-", checkout)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(os.listdir(here.parent / "a 'ledger'/runs")) == NUM_RUNS
    assert (here.parent / f'its "tables"/{STUDY}/report.html').exists()
    assert stamps(checkout) == before
