"""One sweep per ledger: a second one is told at once who holds it, and a holder that was killed is in nobody's way."""

import datetime
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.sweep_lock import HOLDER, LOCK, PATIENCE_S, only_sweep_of
from tests.support.command_line import run
from tests.support.project import ROOT

HOLD = """
import subprocess, sys, time
from pathlib import Path
from ledger.sweep_lock import only_sweep_of
with only_sweep_of(Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "20"], close_fds=False)
    print(child.pid, flush=True)
    time.sleep(60)
"""
LIMIT_S = 2.0


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[[], tuple["subprocess.Popen[str]", int]]]:
    """A process that holds the ledger, and a child of it that would inherit all that can be inherited."""
    started: list[int] = []

    def start() -> tuple["subprocess.Popen[str]", int]:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path / "runs")],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert holder.stdout
        child = int(holder.stdout.readline())
        holder.stdout.close()
        started.extend((holder.pid, child))
        return holder, child

    yield start
    for pid in started:
        if Path(f"/proc/{pid}").exists() or sys.platform != "linux":
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def test_a_second_sweep_is_told_who_holds_the_ledger(
    tmp_path: Path, hold: Callable[[], tuple["subprocess.Popen[str]", int]], record_figures: Callable[..., None]
) -> None:
    """Before its study is even looked for, and before torch and optuna are imported: there is none, and no time."""
    holder, child = hold()
    took_s = []
    for command in (("sweep",), ("probe", tmp_path)):
        began = time.monotonic()
        refused = run(*command, "--runs", "runs", cwd=tmp_path)
        took_s.append(time.monotonic() - began)
        assert refused.returncode == 2 and refused.stdout == ""
        assert re.fullmatch(
            r"error: runs: another sweep is at work in runs since \d\d:\d\d "
            rf"\(process {holder.pid} on {re.escape(socket.gethostname())}\); "
            r"wait for it, or give RUNS= another folder\n",
            refused.stderr,
        )
    assert min(took_s) < LIMIT_S  # of two, on a machine that has other work
    record_figures("lock", refused_after_s=round(min(took_s), 2))

    # Those that only read are not held up.
    looked = run("status", "--runs", "runs", cwd=tmp_path)
    assert "another sweep" not in looked.stderr

    # Killed: the lock goes with it, though its child lives, and what it has written misleads nobody.
    holder.kill()
    holder.wait()
    os.kill(child, 0)
    assert (tmp_path / "runs" / HOLDER).exists()
    with only_sweep_of(tmp_path / "runs"):
        assert json.loads((tmp_path / "runs" / HOLDER).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "runs" / HOLDER).exists()


def test_the_refusal_imports_nothing_slow(tmp_path: Path) -> None:
    program = (
        "import sys; from experiments.terminal.cli import main; status = main(['sweep', '--runs', 'runs']);"
        "print(status, 'ledger.sweep_lock' in sys.modules,"
        "[name for name in ('torch', 'optuna', 'pandas', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    (tmp_path / "runs").mkdir()
    with FileLock(tmp_path / "runs" / LOCK):
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
    assert ended.stdout == "2 True []\n"
    # Whoever holds it has not said so: nothing is made up.
    assert ended.stderr == "error: runs: another sweep is at work in runs; wait for it, or give RUNS= another folder\n"


@pytest.mark.parametrize(
    ("holder", "said"),
    [
        ({"pid": 2**22 + 1, "host": socket.gethostname(), "since": "then"}, "on {host}, which is not alive here);"),
        (
            {"pid": 1, "host": "elsewhere", "since": "then"},
            " since then (process 1 on elsewhere, which is another host); wait for it, or give RUNS= another folder",
        ),
        ({"pid": "many"}, "at work in "),
        (["no", "object"], "at work in "),
    ],
)
def test_what_is_said_of_other_holders(tmp_path: Path, holder: object, said: str) -> None:
    (tmp_path / HOLDER).write_text(json.dumps(holder))
    began = time.monotonic()
    with FileLock(tmp_path / LOCK), pytest.raises(UserError) as refused, only_sweep_of(tmp_path):
        pytest.fail("let in")
    assert said.replace("{host}", socket.gethostname()) in str(refused.value)
    assert time.monotonic() - began < LIMIT_S + PATIENCE_S
    assert (tmp_path / HOLDER).exists()  # another's


def test_since_when_is_said_in_the_time_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-3")
    time.tzset()
    try:
        today = datetime.datetime.now(datetime.UTC).astimezone().replace(hour=22, minute=5)
        ago = datetime.datetime(2020, 2, 29, 22, 30, 57, tzinfo=datetime.UTC)
        for since, said in ((today.astimezone(datetime.UTC), "22:05"), (ago, "2020-03-01 01:30")):
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since.isoformat(sep=" ")}
            (tmp_path / HOLDER).write_text(json.dumps(holder))
            with FileLock(tmp_path / LOCK), pytest.raises(UserError) as refused:
                only_sweep_of(tmp_path).__enter__()
            assert f"at work in {tmp_path} since {said} (process {os.getpid()} on " in str(refused.value)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_holder_that_is_just_ending_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = FileLock(tmp_path / LOCK)
    first.acquire()
    monkeypatch.setattr("ledger.sweep_lock.time.sleep", lambda seconds: first.release())
    with only_sweep_of(tmp_path):
        pass


def test_a_command_that_put_nothing_there_leaves_no_ledger(tmp_path: Path) -> None:
    with only_sweep_of(tmp_path / "a/runs"):
        pass
    assert list(tmp_path.iterdir()) == []
    with only_sweep_of(tmp_path / "a/runs"):
        Ledger(tmp_path / "a/runs")
    assert {path.name for path in (tmp_path / "a/runs").iterdir()} == {"runs", "studies", "running", LOCK}


def test_a_ledger_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"^runs: the ledger .*taken/runs cannot be written \(Not a directory\)"):
        only_sweep_of(tmp_path / "taken/runs").__enter__()
