"""The journal of the searches: what Optuna would write itself, written less often."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from experiments.study import search
from experiments.study.search import open_storage
from tests.experiments.study.test_search import go_through, search_of


def test_the_journal_says_what_optuna_would_write_itself(tmp_path: Path) -> None:
    """Line by line, but for the times and the writer's name."""

    def said(path: Path) -> list[dict[str, Any]]:
        lines = map(json.loads, path.read_text().splitlines())
        return [{k: v for k, v in line.items() if k != "worker_id" and not k.startswith("datetime")} for line in lines]

    storage = open_storage(tmp_path / "ours.log")
    theirs = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "theirs.log")))
    for each in (storage, theirs):
        for name in ("R/a", "R/b"):
            go_through(search_of(name, storage=each))
    assert not (tmp_path / "ours.log").read_bytes()
    storage.flush()
    assert said(tmp_path / "ours.log") == said(tmp_path / "theirs.log")
    storage.flush()
    assert said(tmp_path / "ours.log") == said(tmp_path / "theirs.log")


def test_a_long_journal_is_written_before_it_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_UNWRITTEN", 20)
    path = tmp_path / "optuna.log"
    go_through(search_of("R/a", storage=(storage := open_storage(path))))
    num_written = len(path.read_text().splitlines())
    storage.flush()
    assert 0 < len(path.read_text().splitlines()) - num_written < 20
