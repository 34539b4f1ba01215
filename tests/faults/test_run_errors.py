"""Runs that fail at their very end: what is committed of them is what may be, and every reader takes it."""

import json
from pathlib import Path

import pytest

from experiments.runs import run as runs
from experiments.runs.run import MAX_ERROR, make_run
from ledger.audit import audit
from ledger.forms import MAX_TEXT
from tests.support.stopped_runs import CPU, as_in_a_worker, job_of


def test_a_run_that_fails_after_its_test_has_no_test_scores(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(found: object) -> None:
        raise RuntimeError("no room " * MAX_TEXT)

    as_in_a_worker(monkeypatch)
    monkeypatch.setattr(runs, "evaluation_files", fail)
    job = job_of(cache, tmp_path / "runs", protocol={"epochs": 1}, variant="cnn", stage="final")
    make_run(job, CPU)
    folder = tmp_path / "runs/runs" / job.key
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "failed"
    assert record["error"].startswith("RuntimeError: no room no room") and len(record["error"]) == MAX_ERROR < MAX_TEXT
    assert not [name for name, value in record["result"].items() if "test" in name and value is not None]
    assert {path.name for path in folder.iterdir()} == {"run.json", "history.json", "cost.json", "SHA256SUMS"}
    assert audit(tmp_path / "runs").findings == []
