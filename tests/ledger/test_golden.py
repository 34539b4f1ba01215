"""Ledgers of earlier versions, kept in tests/golden: they are read, their numbers are those that are in them, and no
harm is done to them. What is expected comes from their JSON, read with nothing of ours."""

import csv
import json
import shutil
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from experiments.sweep.sweep import check_same_task
from experiments.terminal.cli import main
from ledger.audit import audit
from ledger.checksums import SUMS
from ledger.config import RESULT_FORMAT
from ledger.errors import UserError
from ledger.ledger import Ledger
from tests.faults.damage import edit, renew_sums, set_in
from tests.support.command_line import contents, stamps
from tests.support.project import ROOT
from tests.support.tiny_study import STUDY as NEW_STUDY
from tests.support.tiny_study import HereAndNow, plan_of, sweep_here

GOLDEN = ROOT / "tests/golden"
STUDY = "golden-sprites-smoke"
FORMATS = (1, 2, 3, 4, 5)


@pytest.fixture(params=FORMATS)
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def root(version: int, tmp_path: Path) -> Path:
    """A copy of the ledger of that format."""
    root = tmp_path / "runs"
    for part in ("runs", "studies"):
        shutil.copytree(GOLDEN / f"format-{version}" / part, root / part)
    return root


def read(root: Path, *place: str) -> Any:
    return json.loads(root.joinpath(*place).read_bytes())


def arms(root: Path) -> list[dict[str, Any]]:
    return list(read(root, "studies", STUDY, "study.json")["arms"])


def results(root: Path, arm: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the arm's final runs."""
    return [read(root, "runs", key, "run.json")["result"] for key in arm["finals"]]


def test_they_are_what_they_are_called(version: int, root: Path) -> None:
    runs = [read(path) for path in root.glob("runs/*/run.json")]
    assert {run["format"] for run in runs} == {read(root, "studies", STUDY, "study.json")["format"]} == {version}
    assert len(runs) == 8 and {run["status"] for run in runs} == {"completed"}
    assert max(FORMATS) == RESULT_FORMAT, "keep a ledger of the format before this one"


def test_tables_have_the_numbers_that_are_in_them(version: int, root: Path, here: Path) -> None:
    before = contents(root), stamps(root)
    assert main(["tables", "--runs", str(root)]) == 0
    assert (contents(root), stamps(root)) == before
    with open(here / "reports" / STUDY / "ablation.csv", newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    for arm in arms(root):
        row, found = rows[arm["variant"]], results(root, arm)
        for name in ("test_accuracy", "val_accuracy"):
            assert float(row[name]) == pytest.approx(mean(result[name] for result in found), abs=1e-12)
        assert int(row["num_parameters"]) == found[0]["num_parameters"]
        assert row["run_keys"].split() == arm["finals"]
        assert row["final_runs"] == "2 completed"


@pytest.mark.parametrize("version", [1], indirect=True)  # figures take seconds
def test_a_report_says_so_too(version: int, root: Path, here: Path) -> None:
    assert main(["report", "--runs", str(root)]) == 0
    page = (here / "reports" / STUDY / "report.html").read_text()
    for arm in arms(root):
        accuracy = mean(result["test_accuracy"] for result in results(root, arm))
        assert arm["variant"] in page and f"{100 * accuracy:.1f}" in page


def test_status_reads_them(root: Path, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert main(["status", "--runs", str(root), "--json"]) == 0
    (study,) = json.loads(capsys.readouterr().out)["studies"]
    assert study["study"] == STUDY
    assert [arm["finals"] for arm in study["arms"]] == [{"completed": 2}] * 2


def test_verify_finds_what_was_left_out_and_nothing_else(version: int, root: Path) -> None:
    """README.md there says that weights and pictures are left out; only where checksums are do pictures lack."""
    before = contents(root), stamps(root)
    found = audit(root)
    assert (contents(root), stamps(root)) == before
    left_out = {f"runs/{key}/weights.safetensors" for arm in arms(root) for key in arm["finals"]}
    if version >= 4:
        keys = [key for arm in arms(root) for key in (*arm["trials"], *arm["finals"]) if "stn" in arm["variant"]]
        left_out |= {f"runs/{key}/transformer.png" for key in keys}
    assert [finding[:2] for finding in found.findings] == [(path, "missing") for path in sorted(left_out)]
    advice = "the same `make sweep`" if version == RESULT_FORMAT else f"this version makes no runs of format {version}"
    assert all(advice in finding.todo for finding in found.findings)
    assert found.num_runs == 8
    assert ["8 runs without checksums" in note for note in found.notes] == [True] * (version < 4)


@pytest.mark.parametrize("version", [1, 2, 3], indirect=True)
def test_runs_that_never_had_checksums_do_not_lack_them(root: Path) -> None:
    """Even where others have theirs that were made before."""
    folder = root / "runs" / arms(root)[0]["trials"][0]
    edit(folder / "cost.json", set_in("started", "2000-01-01T00:00:00Z"))
    renew_sums(folder)
    found = audit(root)
    assert {finding.path.rpartition("/")[2] for finding in found.findings} == {"weights.safetensors"}
    assert "7 runs without checksums" in found.notes[0]


@pytest.mark.parametrize("name", ["test_accuracy", "val_accuracy", "epochs"])
def test_an_edit_is_found_without_checksums(root: Path, version: int, name: str) -> None:
    """Or where it renewed them. Of test scores, only where predictions are kept beside them."""
    path = root / "runs" / arms(root)[0]["finals"][0] / "run.json"
    record = read(path)
    value = record["result"][name]
    record["result"][name] = value // 2 if isinstance(value, int) else value / 2
    path.write_text(json.dumps(record))
    if version >= 4:
        renew_sums(path.parent)
    left_out = {"weights.safetensors", "transformer.png"}
    found = {finding.path.rpartition("/")[2] for finding in audit(root).findings} - left_out
    where = {"test_accuracy": "predictions.safetensors"}.get(name, "history.json")
    assert found == (set() if where.startswith("predictions") and version < 3 else {where})


@pytest.mark.parametrize("file", ["run.json", "study.json"])
def test_newer_ones_are_refused_with_a_reason(
    root: Path, file: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = root / "studies" / STUDY if file == "study.json" else root / "runs" / arms(root)[0]["trials"][0]
    record = read(folder / file)
    (folder / file).write_text(json.dumps(record | {"format": RESULT_FORMAT + 1}))
    if (folder / SUMS).exists():
        renew_sums(folder)
    for command in ("tables", "report"):
        assert main([command, "--runs", str(root)]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith(f"error: {folder / file}: format {RESULT_FORMAT + 1} is newer than ")
        assert "update stn-bench" in printed and printed.count("\n") == 1
    with pytest.raises(UserError, match="is newer than this version reads"):
        Ledger(root).read_study(STUDY) if file == "study.json" else Ledger(root).read(folder.name)


@pytest.mark.parametrize("version", [RESULT_FORMAT], indirect=True)
def test_a_new_sweep_beside_them_does_no_harm(version: int, root: Path, cache: Path) -> None:
    before = contents(root)
    ledger = sweep_here(root.parent, HereAndNow(), final_seeds=1, search={"trials": 1}).ledger
    after = contents(root)
    assert {name: after[name] for name in before} == before
    assert set(ledger.studies()) == {STUDY, NEW_STUDY}
    for arm in ledger.read_study(NEW_STUDY)["arms"]:
        assert all(f"runs/{key}/run.json" not in before for key in (*arm["trials"], *arm["finals"]))
    assert main(["tables", "--runs", str(root), "--reports", str(root.parent / "reports"), "--study", STUDY]) == 0


def test_a_study_of_the_same_name_is_not_overwritten(version: int, root: Path, cache: Path) -> None:
    ledger = Ledger(root)
    (root / "studies" / STUDY).rename(root / "studies" / NEW_STUDY)
    plan = plan_of(root.parent)
    if version == RESULT_FORMAT:
        check_same_task(ledger, plan)
    else:
        with pytest.raises(UserError, match=f"is of format {version}, and this version makes runs of format"):
            check_same_task(ledger, plan)
