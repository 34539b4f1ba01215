"""`verify` in ledgers that are well: beside a sweep that is at work, and with what systems and killed sweeps leave."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import safetensors.numpy

from experiments.ledger import Ledger
from experiments.ledger import audit as audit_module
from experiments.ledger.audit import audit
from experiments.ledger.run_audit import check_run
from experiments.ledger.sweep_lock import HOLDER
from tests.faults.damage import renew_sums

GOLDEN = Path(__file__).parents[1] / "golden/format-3"
STUDY = "golden-sprites-smoke"
KEY = "a" * 16
CHECKPOINT = f"epoch-00001-{hashlib.sha256(b'checkpoint').hexdigest()}.safetensors"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A ledger that is well, with a run in progress."""
    root = tmp_path / "runs"
    for part in ("runs", "studies"):
        shutil.copytree(GOLDEN / part, root / part)
    for folder in (root / "runs").iterdir():
        if json.loads((folder / "run.json").read_text())["config"]["stage"] == "final":
            safetensors.numpy.save_file({"norm.running_var": np.ones(2, np.float32)}, folder / "weights.safetensors")
        renew_sums(folder)
    (root / "running" / KEY).mkdir(parents=True)
    (root / "running" / KEY / CHECKPOINT).write_bytes(b"checkpoint")
    (root / "running" / f"{KEY}.json").write_text(json.dumps({"pid": os.getpid()}))
    (root / "wandb/logged").mkdir(parents=True)
    (root / "wandb/logged" / KEY).write_text("{}")
    return root


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def take(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def told(root: Path) -> list[str]:
    found = audit(root)
    assert found.findings == []
    return found.notes


def test_the_ledger_is_well(root: Path) -> None:
    assert sorted(told(root)) == [
        f"running/{KEY}.json: the process {os.getpid()} is at work on it",
        f"running/{KEY}: checkpoints of a run that the same `make sweep` goes on with",
        f"wandb/logged/{KEY}: is of a run that the ledger has not; harmless",
    ]


@pytest.mark.parametrize("place", [f"running/{KEY}.json", f"running/{KEY}", f"running/{KEY}/{CHECKPOINT}",
                                   f"wandb/logged/{KEY}", f"studies/{STUDY}"])  # fmt: skip
def test_what_goes_after_its_folder_was_listed_is_passed_over(
    root: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = audit_module._entries

    def list_and_take(folder: Path) -> list[Path]:
        entries = listed(folder)
        if root / place in entries:
            take(root / place)
        return entries

    monkeypatch.setattr(audit_module, "_entries", list_and_take)
    assert not [note for note in told(root) if note.startswith((f"{place}:", f"{place}/"))]


@pytest.mark.parametrize("place", [f"running/{KEY}", f"studies/{STUDY}", "wandb/logged"])
def test_a_folder_that_goes_before_it_is_listed_is_passed_over(
    root: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterdir = Path.iterdir

    def take_and_list(folder: Path) -> Iterator[Path]:
        if folder == root / place:
            take(folder)
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", take_and_list)
    assert not [note for note in told(root) if note.startswith((f"{place}:", f"{place}/"))]


def test_a_checkpoint_that_goes_before_it_is_opened_is_passed_over(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def take_and_open(path: Path, mode: str) -> BinaryIO:
        take(path)
        return open(path, "rb")

    monkeypatch.setattr(audit_module, "open", take_and_open, raising=False)
    assert len(told(root)) == 2


def test_a_run_that_goes_while_it_is_listed_is_passed_over(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, scandir = min((root / "runs").iterdir()), os.scandir

    def take_and_scan(folder: Any) -> Any:
        if folder == taken:
            monkeypatch.undo()
            take(taken)
            return iter(())
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", take_and_scan)
    assert f"{STUDY}: 1 of 8 runs are still to be made; the same `make sweep` makes them" in told(root)


def test_a_study_that_is_written_again_meanwhile_is_well(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, file = Ledger(root), root / "studies" / STUDY / "study.json"
    manifest = ledger.read_study(STUDY)
    ledger.write_study(STUDY, manifest)
    read_bytes = Path.read_bytes

    def read_and_rewrite(path: Path) -> bytes:
        content = read_bytes(path)
        if path == file:
            ledger.write_study(STUDY, {**manifest, "budget": f"{len(content)} bytes"})
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_rewrite)
    told(root)


@pytest.mark.parametrize("files", [(), ("optuna.log",), ("optuna.log", "optuna.log.lock"), ("optuna.log.lock",)])
def test_a_study_that_was_ended_at_its_start_is_no_fault(root: Path, files: tuple[str, ...]) -> None:
    (root / "studies/begun").mkdir()
    for name in files:
        (root / "studies/begun" / name).write_text('{"op_code": 0}\n')
    assert [note for note in told(root) if "begun" in note] == [
        "studies/begun/study.json: was not written yet, as by a sweep that was ended at its start; the same "
        "`make sweep` writes it"
    ]


def test_a_study_that_has_seen_results_lacks_its_manifest(root: Path) -> None:
    folder = root / "studies" / STUDY
    arm = json.loads((folder / "study.json").read_text())["arms"][0]
    take(folder / "study.json")
    (folder / "optuna.log").write_text(json.dumps({"user_attr": {"run": arm["trials"][0]}}) + "\n")
    assert [finding[:2] for finding in audit(root).findings] == [(f"studies/{STUDY}/study.json", "missing")]


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_weights_that_were_committed_so_are_no_damage(root: Path, value: float) -> None:
    folder = next((root / "runs").glob("*/weights.safetensors")).parent
    arrays = {"norm.running_var": np.array([1, value], np.float32)}
    safetensors.numpy.save_file(arrays, folder / "weights.safetensors")
    renew_sums(folder)
    told(root)
    take(folder / "SHA256SUMS")
    assert [finding[:2] for finding in check_run(folder).findings] == [
        (f"runs/{folder.name}/weights.safetensors", "damaged")
    ]


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
@pytest.mark.parametrize("name", [".DS_Store", ".nfs0000000001"])
def test_hidden_files_of_a_system_are_no_fault(root: Path, name: str, make: Callable[[Path], object]) -> None:
    folder = min((root / "runs").iterdir())
    make(folder / name)
    assert f"runs/{folder.name}/{name}: is none of the ledger's files; nothing reads it" in told(root)


def test_a_killed_sweeps_holder_is_named(root: Path, dead_pid: int) -> None:
    note = f"{HOLDER}: names the host of a sweep that was killed; the next `make sweep` deletes it"
    for pid, is_told in ((dead_pid, True), (os.getpid(), False)):
        (root / HOLDER).write_text(json.dumps({"pid": pid, "host": socket.gethostname(), "since": "then"}))
        assert (note in told(root)) == is_told
