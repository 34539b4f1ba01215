"""`verify` in ledgers that are well: beside a sweep that is at work, and with what systems and killed sweeps leave."""

import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import safetensors.numpy

from experiments.terminal.cli import main
from ledger import audit as audit_module
from ledger.audit import audit
from ledger.config import RESULT_FORMAT
from ledger.ledger import Ledger
from ledger.markers import SINGLE_RUNS, Marker, write_marker
from ledger.run_audit import check_run
from ledger.sweep_lock import HOLDER
from tests.faults.damage import edit, renew_sums, set_in
from tests.support.project import ROOT

GOLDEN = ROOT / "tests/golden/format-4"
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
    assert f"{STUDY}: 1 of 8 runs is still to be made; the same `make sweep` makes it" in told(root)


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
    edit(folder / "cost.json", lambda cost: cost.pop("sums"))  # as older versions wrote it
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


def mark(root: Path, *keys: str, group: str = STUDY) -> None:
    """Say that the runs were logged to W&B."""
    for key in keys:
        write_marker(root, key, Marker(project="p", group=group, tags=[], folder="logged", uploaded=False))


def keys_in(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "runs").iterdir())


def findings_in(root: Path) -> list[str]:
    return [f"{kind} {path}: {what} -> {todo}" for path, kind, what, todo in audit(root).findings]


@pytest.mark.parametrize("left", ["nothing", "its folder", "its journal", "no run either"])
def test_a_study_that_is_gone_is_missed(root: Path, left: str, capsys: pytest.CaptureFixture[str]) -> None:
    mark(root, *keys_in(root))
    take(root / "studies")
    if left in ("its folder", "its journal"):
        (root / "studies" / STUDY).mkdir(parents=True)
    if left == "its journal":
        (root / "studies" / STUDY / "optuna.log").write_text('{"op_code": 0}\n')
    if left == "no run either":
        take(root / "runs")
        (root / "runs").mkdir()
    assert main(["verify", str(root)]) == 1
    printed = capsys.readouterr().out
    assert f"missing  studies/{STUDY}/study.json: is gone, and runs " in printed
    assert "All is well" not in printed and "no study" not in printed


def test_runs_of_no_study_are_not_all_well(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take(root / "studies")
    alone, *others = keys_in(root)
    mark(root, alone, group=SINGLE_RUNS[1])
    assert main(["verify", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("No file is damaged, but 7 runs belong to no study that is here: 8 runs and 0 studies ")
    assert f"note     1 run made by the command `run`, in no study ({alone})" in lines
    mark(root, *others, group=SINGLE_RUNS[1])
    assert main(["verify", str(root)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("All is well with 8 runs and 0 studies in ")


def test_runs_that_their_study_lists_no_more_are_no_fault(root: Path) -> None:
    study = Ledger(root).read_study(STUDY)
    dropped = study["arms"].pop()
    keys = sorted({*dropped["trials"], *dropped["finals"]})
    mark(root, *keys)
    Ledger(root).write_study(STUDY, study)
    assert f"{len(keys)} runs made for {STUDY}, which does not list them now ({', '.join(keys[:3])}, ...)" in told(root)
    assert audit(root).num_homeless == 0


def test_a_run_that_is_gone_is_missed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, single, *_ = keys_in(root)
    shutil.copytree(root / "runs" / key, root / "runs" / KEY)
    mark(root, key)
    mark(root, single, group=SINGLE_RUNS[1])
    for gone in (key, single, KEY):
        take(root / "runs" / gone)
    assert findings_in(root) == [
        f"missing runs/{key}: was made and is gone -> the same `make sweep` makes it again",
        f"missing runs/{single}: was made and is gone -> the same `python -m experiments run` makes it again",
    ]
    assert main(["verify", str(root)]) == 1
    printed = capsys.readouterr().out
    assert "still to be made" not in printed and f"wandb/logged/{key}" not in printed
    assert "Not as written: 2 missing, of 6 runs and 1 study in " in printed
    # One that is being made again is on its way.
    (root / "running" / f"{key}.json").write_text(json.dumps({"pid": os.getpid()}))
    assert [finding.path for finding in audit(root).findings] == [f"runs/{single}"]


@pytest.mark.parametrize(
    ("status", "is_missed"), [("completed", True), ("pruned", True), ("failed", False), ("diverged", False)]
)
def test_a_study_misses_a_run_whose_result_it_has_seen(root: Path, status: str, is_missed: bool) -> None:
    """But for those that RETRY=1 takes out."""
    key = Ledger(root).read_study(STUDY)["arms"][0]["trials"][0]
    said: list[Any] = [{"run": key}, {"status": status}, 3, {"run": "../../etc", "status": "completed"}]
    lines = [json.dumps({"trial_id": 7 if i < 2 else i, "user_attr": said[i]}) for i in range(len(said))]
    (root / "studies" / STUDY / "optuna.log").write_text("\n".join([*lines, '{"user_attr": ', "[" * 9999, ""]))
    assert findings_in(root) == []
    take(root / "runs" / key)
    assert [finding.path for finding in audit(root).findings] == ([f"runs/{key}"] if is_missed else [])


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_run_that_was_taken_out_to_be_made_again_is_not_missed(
    root: Path, is_killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(root)
    key = ledger.read_study(STUDY)["arms"][0]["trials"][0]
    edit(root / "runs" / key / "run.json", set_in("status", "failed"))
    renew_sums(root / "runs" / key)
    mark(root, *keys_in(root))

    def kill(path: Path, target: Path) -> None:
        take(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if is_killed:
            patch.setattr(Path, "rename", kill)
            with pytest.raises(KeyboardInterrupt):
                ledger.remove(key)
        else:
            ledger.remove(key)
    assert key not in ledger and findings_in(root) == []


def test_a_copy_in_the_ledger_is_only_deleted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = root / "runs"
    key, other, *_ = keys_in(root)
    for name in (f"{key} copy", f"{key}-2"):
        shutil.copytree(runs / key, runs / name)
    (runs / "new folder").mkdir()
    (runs / other).rename(runs / f"{other} (old)")
    assert findings_in(root) == [
        f"extra runs/{key} copy: is a copy of the run {key}, which is here -> delete {runs / f'{key} copy'}",
        f"extra runs/{key}-2: is a copy of the run {key}, which is here -> delete {runs / f'{key}-2'}",
        f"edited runs/{other} (old): is the run {other} under another name -> call the folder {other} again",
        f"extra runs/new folder: is not a run: none has such a name -> delete {runs / 'new folder'}",
    ]
    assert audit(root).num_runs == 7
    # The status counts what can be read, and says who knows the rest.
    assert main(["status", "--runs", str(root)]) == 0
    printed = capsys.readouterr().out
    assert f"Ledger {root}: 7 finished runs\n" in printed
    assert printed.endswith(
        "Something is damaged or cannot be read. "
        f"status reads only run.json: `python -m experiments verify {root}` reads everything\n"
    )


def test_a_run_that_holds_another_ones_record_is_made_again(root: Path) -> None:
    one, other, *_ = keys_in(root)
    shutil.copy(root / "runs" / other / "run.json", root / "runs" / one)
    again = f"delete {root / 'runs' / one}; the same `make sweep` makes the run again"
    if not GOLDEN.name.endswith(f"-{RESULT_FORMAT}"):
        again = "bring it back from a copy; this version makes no runs of format 4"
    assert [finding.todo for finding in audit(root).findings] == [again]


def test_the_status_of_what_is_well_and_of_what_is_not(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "runs/.hidden").mkdir()
    (root / "runs/notes.txt").touch()

    def status() -> str:
        assert main(["status", "--runs", str(root)]) == 0
        return capsys.readouterr().out

    assert f"{root}: 8 finished runs\n" in status() and "verify" not in status()
    for name, num in (("run.json", 7), ("study.json", 8)):
        file = min(root.glob(f"*/*/{name}"))
        content = file.read_bytes()
        file.write_bytes(content[:-9])
        assert f": {num} finished runs\n" in status() and f"`python -m experiments verify {root}`" in status()
        file.write_bytes(content)
    for folder in sorted((root / "runs").glob("[!.]*/"))[1:]:
        take(folder)
    assert ": 1 finished run\n" in status()


def test_one_file_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "running" / KEY).mkdir(parents=True)
    (tmp_path / "running" / KEY / CHECKPOINT).write_bytes(b"checkpoint")
    assert main(["verify", str(tmp_path)]) == 0
    assert "(1 file, " in capsys.readouterr().out


def test_what_another_user_owns_is_named_and_the_rest_is_read(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was once made with sudo: nothing is known to be damaged, and all other runs are looked at."""
    key, other = keys_in(root)[:2]
    was_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        os.chmod(folder, 0o755)
        ledger = Path(shutil.copytree(root, Path(folder) / "runs"))
        for path in ledger.rglob("*"):
            path.chmod(0o755)
        (ledger / "runs" / other / "history.json").write_bytes(b"[")
        (ledger / "runs" / key).chmod(0)
        try:
            if was_root:
                os.seteuid(65534)
            assert main(["verify", str(ledger)]) == 1
            verified = capsys.readouterr().out
            assert main(["status", "--runs", str(ledger)]) == 0
            status = capsys.readouterr().out
        finally:
            if was_root:
                os.seteuid(0)
            (ledger / "runs" / key).chmod(0o755)
    assert f"unreadable runs/{key}: cannot be read (Permission denied) -> see to its permissions" in verified
    assert f"damaged  runs/{other}/history.json" in verified
    assert "1 damaged, 1 unreadable, of" in verified
    assert "1 unreadable" in status and "1 damaged" not in status
