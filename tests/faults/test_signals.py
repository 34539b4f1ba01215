"""Ctrl-C, SIGTERM and a closed terminal at any moment: one line, status 130, nothing left running, nothing lost."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ledger.ledger import Ledger
from tests.support.command_line import start, wait_for
from tests.support.project import ROOT
from tests.support.tiny_study import NUM_RUNS, STUDY, TINY, tables, write_sweep

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

MARK = "STN_BENCH_TEST_OF_SIGNALS"
"""Environment variable by which every process of a command is known, whatever group and session it is in."""
STOPPED = "\nStopped. Finished runs are in the ledger; the same command goes on from here.\n"
LIMIT_S = 10.0
NUM_STOPS = 40


def marked() -> dict[int, str]:
    """Processes of the commands that are alive, and their command lines."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and f"{MARK}={os.getpid()}".encode() in (place / "environ").read_bytes():
                found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, str(os.getpid()))


def stop(process: "subprocess.Popen[str]", number: int, *, times: int = 1, group: bool = False) -> float:
    """Send the signal so often, see the end that is promised, and return its seconds."""
    began = time.monotonic()
    for _ in range(times):
        try:
            (os.killpg if group else os.kill)(process.pid, number)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    _, said = process.communicate(timeout=60)
    took_s = time.monotonic() - began
    assert (process.returncode, said) == (130, STOPPED)
    assert took_s < LIMIT_S
    wait_for(lambda: not marked())
    assert time.monotonic() - began < LIMIT_S + 1, "processes were left"
    return took_s


def sweep(folder: Path, *more: str) -> "subprocess.Popen[str]":
    return start("sweep", "--budget", "smoke", "--jobs", "2", *more, cwd=folder)


def has_begun(process: "subprocess.Popen[str]") -> bool:
    """Whether the program has set up its answers, SIGHUP's last; before that Python itself starts, and has its own."""
    caught = Path(f"/proc/{process.pid}/status").read_text().split("SigCgt:")[1].split()[0]
    return bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)


def test_stopped_while_it_starts(tmp_path: Path, cache: Path, whole: bool, record_figures: Callable[..., None]) -> None:
    """Imports, planning: at moments of the first seconds; each signal, twice in a row as well."""
    write_sweep(tmp_path)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    moments_s = [0.2 * number for number in range(30)] if whole else [0.0, 0.4]
    took_s = []
    for number, moment_s in enumerate(moments_s):
        process = sweep(tmp_path)
        wait_for(partial(has_begun, process))
        time.sleep(moment_s)
        took_s.append(stop(process, numbers[number % 3], times=1 + number % 2, group=bool(number % 2)))
    record_figures("signals, start", num_signals=len(took_s), most_s=round(max(took_s), 2))


def test_stopped_and_killed_while_it_works(
    tmp_path: Path, cache: Path, whole: bool, record_figures: Callable[..., None]
) -> None:
    """Training, tables, report and W&B, at random moments of a sweep that is started again each time."""
    if not whole:
        pytest.skip("tests/experiments/sweep/test_sweep.py stops one sweep; `make faults` stops many")
    draw, took_s, gone_s = random.Random(5), [], []
    write_sweep(tmp_path, protocol=TINY["protocol"] | {"epochs": 12})
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
    for attempt in range(NUM_STOPS):
        process = sweep(tmp_path)
        wait_for(partial(has_begun, process))
        deadline = time.monotonic() + draw.uniform(0, 25)
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        number = numbers[attempt % 4]
        if process.poll() is not None:  # it came to its end first: the last runs again
            process.communicate()
            ledger = Ledger(tmp_path / "runs")
            for path in list((tmp_path / "runs/runs").iterdir())[:3]:
                ledger.remove(path.name)
        elif number == signal.SIGKILL:
            process.kill()
            began = time.monotonic()
            process.communicate()
            wait_for(lambda: not marked())
            gone_s.append(time.monotonic() - began)
        else:
            took_s.append(stop(process, number, times=draw.choice((1, 2)), group=draw.random() < 0.5))
    last = sweep(tmp_path)
    _, said = last.communicate(timeout=240)
    assert (last.returncode, said) == (0, "")
    assert len(Ledger(tmp_path / "runs")) == NUM_RUNS and tables(tmp_path)
    assert (tmp_path / "reports" / STUDY / "report.html").exists()
    record_figures(
        "signals, at work", num_signals=len(took_s), most_s=round(max(took_s), 2), num_kills=len(gone_s),
        gone_after_a_kill_s=round(max(gone_s), 2),
    )  # fmt: skip
    assert max(gone_s) < LIMIT_S


PROGRAM = """
import sys, threading, time
from experiments.terminal import stopping
stopping.LIMIT_S = 0.5
stopping.listen()
try:
    {deed}
finally:
    stopping.leave_if_asked()
"""
DEEDS = {
    "an import that loses the exception": """
    class Lost:
        def __del__(self):
            print("ready", flush=True); time.sleep(30)
    Lost()
    time.sleep(30)""",
    "code in C that does not come back": """
    import ctypes
    lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
    print("ready", flush=True)
    lock(mutex), lock(mutex)""",
    "an import that turns it into another one": """
    print("ready", flush=True)
    try:
        time.sleep(30)
    except BaseException:
        raise ImportError("numpy.core.multiarray failed to import")""",
    "threads that do not end": """
    threading.Thread(target=time.sleep, args=(30,)).start()
    print("ready", flush=True)
    time.sleep(30)""",
    "the last lines of a reader that has gone": """
    print("ready", flush=True)
    try:
        time.sleep(30)
    finally:
        print("x" * 10_000_000)""",
}


@pytest.mark.parametrize("deed", DEEDS)
def test_whatever_becomes_of_the_exception_the_end_is_the_same(deed: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(deed=DEEDS[deed].strip())],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stderr
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    process.wait(LIMIT_S)
    assert time.monotonic() - began < LIMIT_S
    assert (process.returncode, process.stderr.read()) == (130, STOPPED)
    process.stdout.close()
    process.stderr.close()


def test_signals_that_were_ignored_at_the_start_stay_so(tmp_path: Path) -> None:
    """As nohup does with SIGHUP, and a shell with Ctrl-C for what it starts in the background."""
    program = PROGRAM.format(deed='print("ready", flush=True); sys.stdin.readline(); print("done")')
    process = subprocess.Popen(
        ["nohup", sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout and process.stdin
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.communicate("\n")[0] == "done\n"
    assert process.returncode == 0


def test_what_is_done_is_neither_stopped_nor_held_up(tmp_path: Path) -> None:
    """Something that does not end keeps Python from its own end, and signals come meanwhile."""
    program = """
import sys, threading, time
from experiments.terminal import stopping
stopping.LIMIT_S = 1.0
stopping.listen()
stopping.finish(3)
threading.Thread(target=time.sleep, args=(60,)).start()
print("ready", flush=True)
sys.exit(3)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (3, "")
