"""Nothing that was damaged or edited counts: `verify` names it, and neither a sweep nor a table takes it."""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.evaluations import read_histories, read_maps, read_predictions, read_robustness
from analysis.records import read_study
from experiments.sweep.sweep import check_same_task
from experiments.terminal.cli import main
from experiments.tracking.replayer import written
from experiments.tracking.sink import sink_of
from ledger.audit import audit
from ledger.checksums import SUMS
from ledger.config import RESULT_FORMAT, canonical
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.markers import Job
from ledger.run_audit import Finding, check_run
from tests.faults.damage import (
    CHANGES,
    EDITS,
    FILES,
    arm_of,
    damages,
    edit,
    edit_arrays,
    final_run,
    renew_digest,
    renew_sums,
    set_in,
)
from tests.support.command_line import contents, stamps
from tests.support.large_ledger import write_large_study
from tests.support.tiny_study import STUDY, HereAndNow, plan_of, sweep_here


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A folder in which a study was carried out: two trials and two final runs. Not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    sweep_here(folder, HereAndNow(), **CHANGES)
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of its ledger, to do anything to."""
    return shutil.copytree(made / "runs", tmp_path / "runs")


def found_in(root: Path) -> list[tuple[str, str]]:
    return [(finding.path, finding.kind) for finding in audit(root).findings]


def test_a_run_has_every_kind_of_file(made: Path) -> None:
    assert {path.name for path in final_run(made / "runs").iterdir()} == {*FILES, SUMS}


def test_sha256sum_agrees(root: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    for folder in (root / "runs").iterdir():
        done = subprocess.run(["sha256sum", "--strict", "-c", SUMS], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert sorted(done.stdout.split(": OK\n")) == sorted(["", *(set(os.listdir(folder)) - {SUMS})])
        sums = subprocess.run(["sha256sum", *sorted(set(os.listdir(folder)) - {SUMS})], cwd=folder, capture_output=True)
        assert sums.stdout == (folder / SUMS).read_bytes()


def test_a_study_has_the_hash_of_the_rest_of_it(root: Path) -> None:
    manifest = json.loads((root / "studies" / STUDY / "study.json").read_text())
    digest = manifest.pop("sha256")
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(text.encode()).hexdigest()
    assert Ledger(root).read_study(STUDY) == manifest


def test_what_is_hashed_is_plain_json() -> None:
    value = {"b": [1, 1.0, 1e-7, "Zürich"], "a": None}
    assert canonical(value) == json.dumps(value, sort_keys=True, separators=(",", ":"))


def test_a_ledger_that_is_well_is_left_as_it_is(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(root), stamps(root)
    assert main(["verify", str(root)]) == 0
    assert (contents(root), stamps(root)) == before
    printed = capsys.readouterr().out
    assert printed.startswith("All is well with 4 runs and 1 study in ") and printed.count("\n") == 1


@pytest.mark.parametrize("name", FILES)
def test_every_damaged_byte_is_named(root: Path, name: str, whole: bool, record_figures: Callable[..., None]) -> None:
    path, num = final_run(root) / name, 0
    content = path.read_bytes()
    for damaged in damages(content, 1000 if whole else 12):
        path.write_bytes(damaged)
        assert {finding.path for finding in check_run(path.parent).findings} == {f"runs/{path.parent.name}/{name}"}
        num += 1
    path.unlink()
    assert [finding[:2] for finding in check_run(path.parent).findings] == [
        (f"runs/{path.parent.name}/{name}", "missing")
    ]
    record_figures(f"integrity: {name}", damaged=num + 1, unnoticed=0)


def test_damaged_checksums_are_named(root: Path, whole: bool) -> None:
    path = final_run(root) / SUMS
    content = path.read_bytes()
    for damaged in damages(content, 1000 if whole else 40):
        path.write_bytes(damaged)
        assert check_run(path.parent).findings, damaged
    path.unlink()
    earliest = min((root / "runs").iterdir(), key=lambda run: json.loads((run / "cost.json").read_text())["started"])
    (path.parent / SUMS).write_bytes(content)
    (earliest / SUMS).unlink()
    assert found_in(root) == [(f"runs/{earliest.name}/{SUMS}", "missing")]


def test_every_damaged_byte_of_a_study_is_named(root: Path, whole: bool) -> None:
    path = root / "studies" / STUDY / "study.json"
    content = path.read_bytes()
    for damaged in damages(content, 1000 if whole else 20):
        path.write_bytes(damaged)
        assert [finding[0] for finding in found_in(root)] == [f"studies/{STUDY}/study.json"], damaged
    path.unlink()
    assert found_in(root) == [(f"studies/{STUDY}/study.json", "missing")]


@pytest.mark.parametrize("name", ["run.json", "history.json", "cost.json"])
@pytest.mark.parametrize("damage", ["edited", "torn", "gone", "no object", "no UTF-8"])
def test_a_sweep_takes_no_damaged_run(root: Path, name: str, damage: str) -> None:
    path = final_run(root) / name
    if damage == "gone":
        path.unlink()
    else:
        text = path.read_bytes()
        edited = text.replace(b"0", b"1", 1)
        path.write_bytes({"edited": edited, "torn": text[:-9], "no object": b"3", "no UTF-8": b"\xff"}[damage])
    with pytest.raises(UserError) as caught:
        Ledger(root).read(path.parent.name, name)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert f"`python -m experiments verify {root}` says " in message


@pytest.mark.parametrize("damage", ["edited", "torn", "gone"])
@pytest.mark.parametrize("name", [name for name in FILES if name not in ("weights.safetensors", "transformer.png")])
def test_no_table_takes_a_damaged_run(root: Path, name: str, damage: str) -> None:
    folder = final_run(root)
    content = (folder / name).read_bytes()

    def read_all() -> None:
        study = read_study(root, STUDY)
        read_histories(study, [folder.name])
        read_robustness(study, [folder.name])
        assert read_predictions(study, folder.name) and read_maps(study, folder.name)

    read_all()
    if damage == "gone":
        (folder / name).unlink()
    else:
        flipped = content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]
        (folder / name).write_bytes({"edited": flipped, "torn": content[:-9]}[damage])
    with pytest.raises(UserError, match=r"delete .*, and the same `make sweep` makes that run again") as caught:
        read_all()
    assert str(caught.value).startswith(f"{folder / name}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*FILES, SUMS])
@pytest.mark.parametrize("damage", ["torn", "gone"])
def test_no_damaged_run_goes_to_a_tracker(root: Path, name: str, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if (name, damage) == (SUMS, "gone"):
        return  # as in older ledgers
    monkeypatch.chdir(root)
    path = final_run(root) / name
    Ledger(root).check(path.parent.name)
    path.write_bytes(path.read_bytes()[:-1]) if damage == "torn" else path.unlink()
    job = Job(key=path.parent.name, project="p", group="g", tags=[], again=False)
    with pytest.raises(UserError, match=rf"^runs/{job['key']}/{name}: "):
        written(job, sink_of("wandb", {}, online=False), "wandb")
    assert not (root / "wandb").exists()


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_with_renewed_checksums_is_found(root: Path, name: str) -> None:
    file, change = EDITS[name]
    path = final_run(root) / file
    edit(path, change) if path.suffix == ".json" else edit_arrays(path, change)
    renew_sums(path.parent)
    findings = check_run(path.parent).findings
    assert findings and all(f"runs/{path.parent.name}/" in finding.path for finding in findings)
    assert all(finding.what and f"delete {path.parent}" in finding.todo for finding in findings)


@pytest.mark.parametrize(
    "change",
    [
        lambda study: study["arms"][0].update(winners=[next(iter(
            {*study["arms"][0]["trials"]} - {*study["arms"][0]["winners"]}))]),
        lambda study: study["arms"][0].update(winners=["0" * 16]),
        lambda study: study["arms"][0].update(trials=study["arms"][0]["finals"], winners=[None]),
        lambda study: study["arms"][0]["finals"].pop(),
        lambda study: study["arms"][0].update(variant="cnn"),
        lambda study: study.update(protocol_hash="00000000"),
        lambda study: study["task"].update(content_hash="00"),
        lambda study: study.update(study="other"),
    ],
    ids=["winner", "no winner", "trials", "finals", "variant", "protocol", "task", "name"],
)  # fmt: skip
def test_a_study_that_contradicts_its_runs_is_found(root: Path, change: Callable[[Any], Any]) -> None:
    renew_digest(root, change)
    assert set(found_in(root)) == {(f"studies/{STUDY}/study.json", "edited")}


def test_what_may_be_is_told_and_is_no_fault(root: Path, dead_pid: int, capsys: pytest.CaptureFixture[str]) -> None:
    gone = final_run(root)
    shutil.rmtree(gone)
    (root / f"runs/.{gone.name}.{dead_pid}").mkdir()
    (root / f"running/{gone.name}.json").write_text(json.dumps({"pid": dead_pid}))
    (root / "running" / gone.name).mkdir()
    content = b"checkpoint"
    name = f"epoch-00001-{hashlib.sha256(content).hexdigest()}.safetensors"
    (root / "running" / gone.name / name).write_bytes(content)
    (root / f"studies/{STUDY}/.study.json.{os.getpid()}").write_bytes(b"{")
    (root / "wandb/logged").mkdir(parents=True)
    (root / "wandb/logged" / ("a" * 16)).write_text("{}")
    (root / "wandb/logged" / arm_of(root)["trials"][0]).write_text("{")
    (root / "notes.txt").write_text("mine")
    assert main(["verify", str(root)]) == 0
    printed = capsys.readouterr().out
    for note in (
        f"runs/.{gone.name}.{dead_pid}: left by a process that was killed",
        f"running/{gone.name}.json: left by a process that was killed",
        f"running/{gone.name}: checkpoints of a run that the same `make sweep` goes on with",
        f"studies/{STUDY}/.study.json.{os.getpid()}: the process {os.getpid()} is at work on it",
        f"{STUDY}: 1 of 4 runs is still to be made",
        f"wandb/logged/{'a' * 16}: is of a run that the ledger has not",
        f"wandb/logged/{arm_of(root)['trials'][0]}: is damaged",
        "notes.txt: is none of the ledger's files",
    ):
        assert f"note     {note}" in printed
    (root / "running" / gone.name / name).write_bytes(content[1:])
    assert found_in(root) == [(f"running/{gone.name}/{name}", "damaged")]


def test_what_nobody_committed_is_found(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = final_run(root)
    (folder / "[red]\x1b[2Jmore\n.json").write_text("{}")
    (folder / "link").symlink_to(folder / "run.json")
    (folder / "folder").mkdir()
    (folder / "newer").write_bytes(b"")
    os.mkfifo(folder / "pipe")
    assert {kind for _, kind in found_in(root)} == {"extra"}
    assert main(["verify", str(root)]) == 1
    printed = capsys.readouterr().out
    assert printed.count("\n") == 6 and "\x1b" not in printed and "[red]" in printed
    assert "Not as written: 5 extra, of 4 runs and 1 study in " in printed


def test_files_of_newer_versions_are_not_judged(root: Path) -> None:
    path = final_run(root) / "run.json"
    edit(path, set_in("format", RESULT_FORMAT + 1))
    renew_sums(path.parent)
    renew_digest(root, set_in("format", RESULT_FORMAT + 1))
    names = f"runs/{path.parent.name}/run.json", f"studies/{STUDY}/study.json"
    assert found_in(root) == [(name, "newer") for name in names]
    for read in (lambda: Ledger(root).read(path.parent.name), lambda: Ledger(root).read_study(STUDY)):
        with pytest.raises(UserError, match=f"format {RESULT_FORMAT + 1} is newer than this version reads"):
            read()


def test_only_a_ledger_is_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "none")]) == main(["verify", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: runs: there is no ledger at {tmp_path / 'none'}\n"
        f"error: runs: {tmp_path} is not a ledger: it has no folder `runs`\n"
    )


def test_a_damaged_study_stops_only_what_concerns_it(
    made: Path, root: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "studies" / STUDY / "study.json"
    other = json.loads(file.read_text()) | {"study": "other"}
    Ledger(root).write_study("other", other)
    edit(file, set_in("first", "num_finals", 7))
    stamp = time.time() + 9
    os.utime(file, (stamp, stamp))
    assert main(["status", "--runs", str(root), "--json"]) == 0
    printed = capsys.readouterr()
    assert [study["study"] for study in json.loads(printed.out)["studies"]] == ["other"]
    assert printed.err.startswith(f"warning: {file}: was damaged or edited") and printed.err.count("\n") == 1
    reports = str(tmp_path / "reports")
    assert main(["tables", "--runs", str(root), "--reports", reports, "--study", "other"]) == 0
    assert main(["tables", "--runs", str(root), "--reports", reports]) == 2
    with pytest.raises(UserError, match=r"bring it back from a copy, or delete it: .* all but what was planned at fir"):
        check_same_task(Ledger(root), plan_of(made, **CHANGES))


def test_a_run_without_its_record_is_made_again(root: Path) -> None:
    folder = final_run(root)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != SUMS}
    before = contents(folder)
    (folder / "run.json").unlink()
    (folder / "left").write_bytes(b"")
    ledger = Ledger(root)
    assert folder.name not in ledger
    ledger.commit(folder.name, files)
    assert contents(folder) == before
    assert found_in(root) == []


def test_findings_are_of_one_line_each(root: Path) -> None:
    for name in FILES:
        (final_run(root) / name).write_bytes(b"")
    findings: list[Finding] = audit(root).findings
    assert len(findings) == len(FILES)
    assert all("\n" not in f"{finding}" and finding.todo for finding in findings)


def test_ten_thousand_runs_are_read_in_a_minute(
    tmp_path: Path, whole: bool, record_figures: Callable[..., None]
) -> None:
    num_trials = 95 if whole else 2
    write_large_study(tmp_path, 100 if whole else 10, num_trials, 5, num_images=10_000 if whole else 100)
    for folder in (tmp_path / "runs").iterdir():
        renew_sums(folder)
    start = time.perf_counter()
    found = audit(tmp_path)
    seconds = time.perf_counter() - start
    record_figures("integrity: verify", runs=found.num_runs, files=found.num_files, seconds=round(seconds, 1))
    assert found.num_runs == len(list((tmp_path / "runs").iterdir()))
    assert seconds < 60
