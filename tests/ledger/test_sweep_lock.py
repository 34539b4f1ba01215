"""Locks where the file system knows none: filelock's makeshift outlives a killed process, so it is refused."""

import errno
import fcntl
from pathlib import Path

import pytest

from experiments.images.tasks import cache
from ledger.errors import UserError
from ledger.sweep_lock import only_sweep_of


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(UserError, match=r"without locks \(no locks here\).*RUNS=") as refused,
        only_sweep_of(tmp_path / "runs"),
    ):
        pytest.fail("two sweeps could do this")
    assert "\n" not in str(refused.value)
    with (
        pytest.raises(UserError, match=r"\(no locks here\).*STN_BENCH_CACHE"),
        cache._lock(tmp_path / "cache" / "entry", "waiting", print),
    ):
        pytest.fail("two processes could do this")
