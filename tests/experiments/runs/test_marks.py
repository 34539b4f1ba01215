"""What a run says of itself while it trains."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.runs.run import make_run
from experiments.sweep.sweep import Sweep
from ledger.ledger import Ledger
from tests.support.tiny_study import plan_of


def test_a_run_marks_its_settings_and_its_history_so_far(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, marks = Ledger(tmp_path / "runs"), list[dict[str, Any]]()
    sweep = Sweep(plan_of(tmp_path), ledger, store=False)
    sweep.replay()
    job = sweep.arms[1].jobs[0]
    monkeypatch.setattr(
        Ledger, "mark_running", lambda self, key, progress: marks.append(json.loads(json.dumps(progress)))
    )
    make_run(job, torch.device("cpu"))
    history = ledger.read(job.key, "history.json")
    assert [mark["epoch"] for mark in marks] == [0, 1, 2]
    assert [mark["curve"] for mark in marks] == [[row["val_accuracy"] for row in history[:n]] for n in (0, 1, 2)]
    assert [mark["history"] for mark in marks] == [history[:n] for n in (0, 1, 2)]
    config = ledger.read(job.key)["config"]
    assert all(mark[part] == config[part] for mark in marks for part in ("optim", "model", "policy"))
