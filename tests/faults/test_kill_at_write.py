"""Killed at each write, flush and rename: what is on disk is old or new, never a mixture, and leftovers go."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.ledger import Ledger
from tests.support.project import ROOT

CALLS = ("open", "write", "amid", "fsync", "rename")


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*map(str, arguments)], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )


@pytest.mark.long
def test_a_kill_at_any_call_that_writes_leaves_old_or_new(tmp_path: Path, record_figures: Callable[..., None]) -> None:
    done = run(sys.executable, "-m", "tests.faults.kills_at_writes", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == {"commit", "study.json", "checkpoint", "cache", "table", "precision"}
    for kind, figures in found.items():
        assert figures["old"] and figures["new"], kind
        assert all(figures["calls"][call] for call in CALLS), kind
        record_figures(f"kill at each write: {kind}", **figures)


WORK = """
import sys
from pathlib import Path
from ledger.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
ledger.mark_running("abc", {})
ledger.commit("abc", {"run.json": b'{"format": 4}', "weights": bytes(100_000)})
ledger.write_study("study", {"number": 2})
"""
SYSTEM_CALLS = "openat,write,fsync,rename,mkdir,unlink,unlinkat,rmdir"


def ledger_before(folder: Path) -> Ledger:
    ledger = Ledger(folder)
    ledger.write_study("study", {"number": 1})
    return ledger


def test_a_kill_at_any_system_call_leaves_old_or_new(
    tmp_path: Path, whole: bool, record_figures: Callable[..., None]
) -> None:
    if not whole:
        pytest.skip("each system call takes a process of its own; `make faults` does it")
    strace, trace = shutil.which("strace"), tmp_path / "trace"
    if not strace:
        pytest.skip("strace is not installed")
    folder = tmp_path / "undisturbed"
    ledger_before(folder)
    asked = run(strace, "-f", "-y", "-o", trace, "-e", f"trace={SYSTEM_CALLS}", sys.executable, "-c", WORK, folder)
    if asked.returncode:
        pytest.skip(f"strace may not trace here: {asked.stderr.strip()[:200]}")
    counts: Counter[str] = Counter()
    sites = []
    for line in trace.read_text().splitlines():
        if called := re.match(r"\d+ +(\w+)\(", line):
            counts[called[1]] += 1
            if str(folder) in line and (called[1] != "openat" or "O_CREAT" in line):
                sites.append((called[1], counts[called[1]]))
    assert {"write", "fsync", "rename", "openat"} <= {call for call, _ in sites}
    outcomes: Counter[str] = Counter()
    for index, (call, number) in enumerate(sites):
        ledger = ledger_before(tmp_path / str(index))
        kill = f"inject={call}:signal=KILL:when={number}"
        killed = run(
            strace, "-f", "-qq", "-o", os.devnull, "-e", f"trace={SYSTEM_CALLS}", "-e", kill,
            sys.executable, "-c", WORK, ledger.root,
        )  # fmt: skip
        assert killed.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), (call, number, killed.stderr)
        committed, study = "abc" in ledger, ledger.read_study("study", whole=False)["number"]
        assert (committed, study) in ((False, 1), (True, 1), (True, 2)), (call, number)
        if committed:
            names = {path.name for path in ledger.folder("abc").iterdir()}
            assert {"run.json", "weights"} <= names
            assert (ledger.folder("abc") / "weights").read_bytes() == bytes(100_000)
        ledger.sweep_up()
        assert not [*ledger.root.rglob(".*"), *(ledger.root / "running").iterdir()], (call, number)
        outcomes[f"run {'new' if committed else 'old'}, study.json {'new' if study == 2 else 'old'}"] += 1
    record_figures("kill at each system call", num_kills=len(sites), **outcomes)
