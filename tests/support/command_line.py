"""The real command line, started as a person starts it, in a process group of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ledger.files import process_is_alive
from tests.support.project import ROOT

PATIENCE_S = 240.0
"""Longer than any command of the tests takes on a machine that has other work."""


def start(*arguments: object, cwd: Path, module: str = "experiments") -> "subprocess.Popen[str]":
    """`python -m experiments ...` under way; the process leads a group, as a terminal has it."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(
    *arguments: object, cwd: Path, patience_s: float = PATIENCE_S, module: str = "experiments"
) -> "subprocess.CompletedProcess[str]":
    """`python -m experiments ...` to its end."""
    return finish(start(*arguments, cwd=cwd, module=module), patience_s)


def finish(process: "subprocess.Popen[str]", patience_s: float) -> "subprocess.CompletedProcess[str]":
    try:
        stdout, stderr = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def wait_for(condition: Callable[[], object]) -> None:
    """Come back when the condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def contents(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    """Each file of that name below the folder, and what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob(pattern) if path.is_file()}


def stamps(folder: Path) -> dict[str, int]:
    """Each file and folder below the folder, and when it was last changed."""
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def family(pid: int) -> set[int]:
    """The process and all that it started, directly or not, of those that live."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def wait_until_gone(processes: set[int]) -> float:
    """Seconds until none of them lives. They must be gone in 2 s, and in 30 s on a slow machine."""
    started = time.monotonic()
    while alive := [pid for pid in processes if process_is_alive(pid)]:
        assert time.monotonic() - started < 30, alive
        time.sleep(0.02)
    return time.monotonic() - started
