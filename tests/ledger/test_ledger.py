"""The ledger: runs appear whole or not at all, are never changed, and what killed processes left is swept up."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.checksums import SUMS, write_sums
from ledger.config import RESULT_FORMAT
from ledger.errors import UserError
from ledger.files import process_is_alive, to_json, write_atomically
from ledger.ledger import Ledger

FILES = {
    "run.json": to_json({"format": RESULT_FORMAT, "status": "completed"}),
    "history.json": b"[]",
    "cost.json": b"{}",
}
COMMITTED = {**FILES, SUMS: write_sums(FILES)}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "runs")


@pytest.fixture
def living_pid() -> Iterator[int]:
    """Of another process, which lives as long as the test."""
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


def everything(root: Path) -> dict[str, bytes]:
    """Each file below the folder with what it holds."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_committed_run_is_there_with_all_its_files(ledger: Ledger) -> None:
    assert "abc" not in ledger
    ledger.commit("abc", FILES)
    assert "abc" in ledger
    assert len(ledger) == 1
    assert everything(ledger.folder("abc")) == COMMITTED
    assert ledger.read("abc") == {"format": RESULT_FORMAT, "status": "completed"}
    assert ledger.read("abc", "history.json") == []


def test_a_second_commit_leaves_the_first_as_it_is(ledger: Ledger) -> None:
    ledger.commit("abc", FILES)
    before = {path: path.stat().st_mtime_ns for path in ledger.folder("abc").rglob("*")}
    ledger.commit("abc", {**FILES, "run.json": b"{}", "more": b""})
    assert everything(ledger.root) == {f"runs/abc/{name}": content for name, content in COMMITTED.items()}
    assert {path: path.stat().st_mtime_ns for path in ledger.folder("abc").rglob("*")} == before


def test_two_processes_that_commit_the_same_run_leave_one_whole_run(ledger: Ledger) -> None:
    program = (
        "import sys; from pathlib import Path; from ledger.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1])); sys.stdin.read()\n"
        "for key in range(100): ledger.commit(str(key), {'run.json': b'{}', 'who': sys.argv[2].encode()})"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(ledger.root), str(who)], stdin=subprocess.PIPE)
        for who in range(2)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0, 0]
    assert sorted(path.name for path in (ledger.root / "runs").iterdir()) == sorted(map(str, range(100)))
    assert all(sorted(os.listdir(ledger.folder(str(key)))) == [SUMS, "run.json", "who"] for key in range(100))


def break_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int) -> Callable[[], int]:
    """Make the call of that number fail as on a full disk; returns how many calls there were."""
    real, calls = getattr(owner, name), 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, call)
    return lambda: calls


# Flushed are three files, their checksums, the run's folder, and the folder that has the new name.
@pytest.mark.parametrize(("number", "there"), [(1, False), (2, False), (3, False), (4, False), (5, False), (6, True)])
def test_a_commit_that_fails_half_way_leaves_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, number: int, there: bool
) -> None:
    num_calls = break_call(monkeypatch, os, "fsync", number)
    if there:  # renamed is committed, whatever the last flush says
        ledger.commit("abc", FILES)
    else:
        with pytest.raises(
            UserError, match=r"^runs: the ledger .* cannot be written \(No space left on device\); make room"
        ):
            ledger.commit("abc", FILES)
    assert num_calls() == number
    assert ("abc" in ledger) == there
    assert everything(ledger.root) == (
        {f"runs/abc/{name}": content for name, content in COMMITTED.items()} if there else {}
    )
    monkeypatch.undo()
    ledger.commit("abc", FILES)
    assert everything(ledger.folder("abc")) == COMMITTED


def test_a_commit_that_cannot_be_renamed_leaves_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    break_call(monkeypatch, Path, "rename", 1)
    with pytest.raises(UserError, match="cannot be written"):
        ledger.commit("abc", FILES)
    assert everything(ledger.root) == {}


def test_every_file_is_on_disk_before_the_run_appears(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    real, flushed = os.fsync, []

    def fsync(descriptor: int) -> None:
        flushed.append((os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")), "abc" in ledger))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    ledger.commit("abc", FILES)
    hidden = f".abc.{os.getpid()}"
    assert flushed == [*((name, False) for name in COMMITTED), (hidden, False), ("runs", True)]


# A process that commits runs for ever and says the number of each before it begins; the test kills it somewhere within.
COMMITS = """
import sys
from pathlib import Path
from ledger.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
number = 0
while True:
    print(number, flush=True)
    ledger.mark_running(str(number), {})
    files = {f"file{index}": str(number).encode() * 20000 for index in range(4)}
    ledger.commit(str(number), {**files, "run.json": b"{}"})
    number += 1
"""


def test_a_process_that_is_killed_leaves_whole_runs_only(ledger: Ledger) -> None:
    left_something = 0
    for attempt in range(8):
        process = subprocess.Popen([sys.executable, "-c", COMMITS, str(ledger.root)], stdout=subprocess.PIPE, text=True)
        assert process.stdout
        while process.stdout.readline().strip() != str(3 + attempt):
            assert process.poll() is None
        time.sleep(0.0007 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        left_something += any((ledger.root / "runs").glob(".*"))
        for folder in (ledger.root / "runs").glob("[!.]*"):
            content = folder.name.encode() * 20000
            files = {f"file{index}": content for index in range(4)} | {"run.json": b"{}"}
            assert everything(folder) == {**files, SUMS: write_sums(files)}
        ledger.sweep_up()
        assert not [*(ledger.root / "runs").glob(".*"), *(ledger.root / "running").iterdir()]
    assert left_something, "no kill hit a commit; the test shows nothing"


def test_what_dead_processes_left_is_swept_up_and_the_living_are_spared(
    ledger: Ledger, dead_pid: int, living_pid: int
) -> None:
    ledger.commit("done", FILES)
    ledger.write_study("study", {})
    for pid in (dead_pid, living_pid):
        (ledger.root / f"runs/.half.{pid}").mkdir()
        (ledger.root / f"runs/.half.{pid}/run.json").write_bytes(b"{")
        (ledger.root / f"running/half.{pid}").write_bytes(b"{")
        (ledger.root / f"studies/study/.study.json.{pid}").write_bytes(b"{")
        (ledger.root / f"running/key{pid}.json").write_text(json.dumps({"pid": pid}))
    (ledger.root / "runs/.DS_Store").write_bytes(b"\xff")
    (ledger.root / "running/empty.json").write_bytes(b"")
    ledger.sweep_up()
    left = {str(path.relative_to(ledger.root)) for path in [*ledger.root.glob("*/*"), *ledger.root.glob("studies/*/*")]}
    assert left == {
        "runs/done",
        "studies/study",
        "studies/study/study.json",
        f"studies/study/.study.json.{living_pid}",
        "runs/.DS_Store",
        f"runs/.half.{living_pid}",
        f"running/half.{living_pid}",
        f"running/key{living_pid}.json",
        "running/empty.json",
    }
    assert len(ledger) == 1


def test_runs_in_progress_are_those_of_living_processes(ledger: Ledger, dead_pid: int) -> None:
    ledger.mark_running("mine", {"epoch": 3})
    (ledger.root / "running/dead.json").write_text(json.dumps({"epoch": 1, "pid": dead_pid}))
    (ledger.root / "running/torn.json").write_text('{"epo')
    assert ledger.running() == {"mine": {"epoch": 3, "pid": os.getpid()}}
    ledger.mark_running("mine", {"epoch": 4})
    assert ledger.running()["mine"]["epoch"] == 4
    ledger.commit("mine", FILES)
    assert ledger.running() == {}


def test_a_mark_that_cannot_be_written_ends_no_run(ledger: Ledger) -> None:
    (ledger.root / "running").rmdir()
    ledger.mark_running("abc", {"epoch": 1})
    assert ledger.running() == {}


def test_a_removed_run_can_be_made_and_logged_again(ledger: Ledger) -> None:
    ledger.commit("abc", FILES)
    marker = ledger.root / "wandb/logged/abc"
    marker.parent.mkdir(parents=True)
    marker.write_text("{}")
    (ledger.root / f"runs/.abc.{os.getpid()}").mkdir()
    (ledger.root / f"runs/.abc.{os.getpid()}/left").write_bytes(b"")
    ledger.remove("abc")
    assert "abc" not in ledger
    assert everything(ledger.root) == {}
    ledger.commit("abc", {"run.json": b"{}"})
    assert everything(ledger.folder("abc")) == {"run.json": b"{}", SUMS: write_sums({"run.json": b"{}"})}


def test_old_content_or_new_and_no_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.json"
    write_atomically(path, b"old")
    for name, number in (("fsync", 1), ("replace", 1)):
        break_call(monkeypatch, Path if name == "replace" else os, name, number)
        with pytest.raises(OSError, match="No space"):
            write_atomically(path, b"new")
        monkeypatch.undo()
        assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert everything(tmp_path) == {"study.json": b"new"}


REWRITES = """
import sys
from pathlib import Path
from ledger.files import write_atomically
print("", flush=True)
while True:
    for letter in b"ab":
        write_atomically(Path(sys.argv[1]), bytes([letter]) * 300_000)
"""


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    write_atomically(path, b"a" * 300_000)
    process = subprocess.Popen([sys.executable, "-c", REWRITES, str(path)], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    seen = {path.read_bytes() for _ in range(300)}
    process.kill()
    process.wait()
    process.stdout.close()
    seen.add(path.read_bytes())
    assert {(len(content), len(set(content))) for content in seen} == {(300_000, 1)}


@pytest.mark.parametrize("broken", ["a file in place of the ledger", "above the ledger", "within the ledger"])
def test_an_unwritable_ledger_is_the_users_to_mend(tmp_path: Path, broken: str) -> None:
    # The tests may run as root, whom no permission stops: a file stands where a folder should be.
    root = tmp_path / "file" if broken.startswith("a file") else tmp_path / "file/runs"
    (tmp_path / "file").write_bytes(b"mine")
    if broken.startswith("within"):
        root = tmp_path / "ledger"
        root.mkdir()
        (root / "running").write_bytes(b"")
    with pytest.raises(UserError, match=rf"^runs: the ledger {re.escape(str(root))} cannot be written \(.+\)$"):
        Ledger(root)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_who_only_reads_writes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "runs", read_only=True)
    assert (len(ledger), ledger.running(), ledger.studies(), "abc" in ledger) == (0, {}, [], False)
    assert list(tmp_path.iterdir()) == []


def test_a_newer_format_is_refused(ledger: Ledger) -> None:
    ledger.commit("abc", {**FILES, "run.json": to_json({"format": RESULT_FORMAT + 1})})
    with pytest.raises(UserError, match=rf"abc/run\.json: format {RESULT_FORMAT + 1} is newer than this version reads"):
        ledger.read("abc")


def test_studies_come_latest_first(ledger: Ledger) -> None:
    for age_s, name in enumerate(["c", "a", "b"]):
        ledger.write_study(name, {"study": name})
        stamp = 1_000_000 - age_s
        os.utime(ledger.root / "studies" / name / "study.json", (stamp, stamp))
    (ledger.root / "studies/none").mkdir()
    assert ledger.studies() == ["c", "a", "b"]
    assert ledger.read_study("a", whole=False) == {"study": "a"}


def test_json_has_one_spelling() -> None:
    value = {"b": 1.0, "a": ["Zürich", None, 1e-05]}
    assert to_json(value) == '{\n "b": 1.0,\n "a": [\n  "Zürich",\n  null,\n  1e-05\n ]\n}\n'.encode()
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(float("nan"))


def test_processes_that_live(dead_pid: int, living_pid: int) -> None:
    assert process_is_alive(living_pid) and process_is_alive(os.getpid()) and process_is_alive(1)
    assert not process_is_alive(dead_pid)


def test_a_process_that_nobody_has_buried_is_dead() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not process_is_alive(process.pid)
    process.wait()
