"""What many tests of the analysis share."""

from pathlib import Path

import pytest

from tests.support import synthetic_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """With the study of five arms."""
    ledger = tmp_path / "runs"
    synthetic_ledger.write_tiny_study(ledger)
    return ledger


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight seeds for every arm."""
    monkeypatch.setattr(synthetic_ledger, "SEEDS", synthetic_ledger.EIGHT_SEEDS)
