"""kill -9 of a whole sweep at random moments, and the same command again: nothing lost, nothing counted twice.

Kills fall on the start, on training and commits, and on tables, figures and report. After each, and at the end, the
ledger is compared with that of a sweep which nobody disturbed.
"""

import hashlib
import json
import math
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import analysis.report
from experiments.runs.checkpoints import COST_SHARE, EVERY_S, Checkpoints
from experiments.terminal.cli import main
from experiments.terminal.commands.options import find_study
from experiments.terminal.commands.tables import write_and_show_tables
from ledger.ledger import Ledger
from tests.support.command_line import run, start, wait_for
from tests.support.tiny_study import STUDY, TINY, HereAndNow, sweep_here, write_sweep

pytestmark = pytest.mark.long

NUM_RUNS = 12
MARK = "STN_BENCH_TEST_OF_KILLS"
"""Environment variable by which every process of a sweep is known, whatever group and session it is in."""
MEASURED = {"cost.json", "SHA256SUMS"}
"""Files of a run that differ between repetitions: seconds, and the checksum of those."""


def changes(whole: bool) -> dict[str, Any]:
    """Of the tiny study. In whole form an epoch takes a little over a second, so that each is kept."""
    size = {"train_images": 2000, "epochs": 10} if whole else {"train_images": 96, "epochs": 2}
    return {
        "protocol": TINY["protocol"] | size,
        "search": TINY["search"] | {"trials": 3},
        "final_seeds": 3,
    }


def repeatable(folder: Path) -> dict[str, bytes]:
    """A run's files that are the same bytes on every repetition."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in MEASURED}


def tables(folder: Path) -> dict[str, bytes]:
    """All tables of the study in all formats, but for those of times, which are measured."""
    endings = {".csv", ".md", ".tex", ".html"}
    return {
        path.name: path.read_bytes()
        for path in (folder / "reports" / STUDY).iterdir()
        if path.suffix in endings and path.stem not in ("times", "report")
    }


def study_of(ledger: Ledger) -> dict[str, Any]:
    """What study.json says, but for the place of the sweep file, and the checksum of that."""
    return {name: value for name, value in ledger.read_study(STUDY).items() if name not in ("source", "sha256")}


@dataclass(frozen=True)
class Undisturbed:
    """What a sweep leaves in peace. runs: repeatable files by key. epoch_s: the shortest epoch, in seconds."""

    runs: dict[str, dict[str, bytes]]
    tables: dict[str, bytes]
    study: dict[str, Any]
    epoch_s: float


@pytest.fixture(scope="module")
def undisturbed(whole: bool, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    if whole:
        write_sweep(folder, **changes(whole))
        ended = run("sweep", "--budget", "smoke", "--jobs", 2, cwd=folder, patience_s=3600)
        assert (ended.returncode, ended.stderr) == (0, "")
    else:  # the same in this process, which costs less
        sweep_here(folder, HereAndNow(), **changes(whole))
        findings = find_study(Ledger(folder / "runs"), STUDY)
        write_and_show_tables(findings, folder / "reports", Console(quiet=True))
    ledger = Ledger(folder / "runs", read_only=True)
    keys = [path.name for path in (ledger.root / "runs").iterdir()]
    costs = [ledger.read(key, "cost.json") for key in keys]
    epochs = [len(ledger.read(key, "history.json")) for key in keys]
    return Undisturbed(
        runs={key: repeatable(ledger.folder(key)) for key in keys},
        tables=tables(folder),
        study=study_of(ledger),
        epoch_s=min(cost["train_seconds"] / num for cost, num in zip(costs, epochs, strict=True)),
    )


@dataclass
class Killed:
    """A folder in which a sweep is killed again and again, and what was seen there."""

    folder: Path
    undisturbed: Undisturbed
    finished: dict[str, dict[str, str]] = field(default_factory=dict)
    """Hashes of all files of the runs that were there after a kill, by key."""
    kept: dict[str, list[int]] = field(default_factory=dict)
    """Epochs of the checkpoints of each run, in the order in which they appeared."""
    epochs_lost: list[int] = field(default_factory=list)
    """Of each run that was in progress at a kill: epochs that had ended and must be trained again."""
    seconds_lost: list[float] = field(default_factory=list)
    orphans_s: list[float] = field(default_factory=list)
    """How long after each kill the last process of the sweep was gone."""
    slowest_flush_s: float = 0.0
    """Of a checkpoint, from its last byte to its name."""
    _seen: list[Path] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder / "runs", read_only=True)

    def begin(self) -> "subprocess.Popen[str]":
        self.began = time.time()
        return start("sweep", "--budget", "smoke", "--jobs", 2, cwd=self.folder)

    def look(self) -> int:
        """How much this sweep has written so far: runs, checkpoints, tables and figures; remembers checkpoints."""
        checkpoints = sorted((self.ledger.root / "running").glob("*/epoch-*"))
        for path in checkpoints:
            if path not in self._seen:
                self.slowest_flush_s = max(self.slowest_flush_s, flush_s(path))
                self.kept.setdefault(path.parent.name, []).append(int(path.name.split("-")[1]))
        self._seen = checkpoints
        runs = (self.ledger.root / "runs").glob("[!.]*")
        reports = (self.folder / "reports").glob("*/[!.]*")
        return sum(modified(path) > self.began for path in (*checkpoints, *runs, *reports))

    def all_trained(self) -> bool:
        return sum(1 for _ in (self.ledger.root / "runs").glob("[!.]*")) == NUM_RUNS

    def check(self, killed_at: float) -> None:
        """What must hold after each kill."""
        for folder in (self.ledger.root / "runs").glob("[!.]*"):
            assert repeatable(folder) == self.undisturbed.runs[folder.name], folder.name
            hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
            assert self.finished.setdefault(folder.name, hashes) == hashes
        assert self.finished.keys() <= {path.name for path in (self.ledger.root / "runs").glob("*")}
        if STUDY in self.ledger.studies():
            listed = [key for arm in self.ledger.read_study(STUDY)["arms"] for key in (*arm["trials"], *arm["finals"])]
            assert len(listed) == len(set(listed)) and set(listed) <= self.undisturbed.runs.keys()
        for path in (self.ledger.root / "running").glob("*.json"):
            if path.stem not in self.ledger and modified(path) > self.began:
                self._measure_loss(path.stem, json.loads(path.read_text())["epoch"], killed_at)

    def _measure_loss(self, key: str, epoch: int, killed_at: float) -> None:
        folder = self.ledger.checkpoints(key)
        num_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as workers have it: else their checkpoints are none for this process
        found = next(Checkpoints(folder, key, torch.device("cpu")).found(), None)
        torch.set_num_threads(num_threads)
        kept = len(found.values["rows"]) if found else 0
        self.epochs_lost.append(max(0, epoch - kept))
        written = [modified(path) for path in folder.glob("epoch-*") if modified(path) > self.began]
        if written:
            self.seconds_lost.append(killed_at - max(written))


def flush_s(path: Path) -> float:
    """Seconds from the last byte of a file to its name, which it gets when it is on disk."""
    try:
        return (status := path.stat()).st_ctime - status.st_mtime
    except FileNotFoundError:
        return 0.0


def modified(path: Path) -> float:
    """Seconds since 1970; long ago where it has just gone."""
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def processes_of(mark: str) -> list[int]:
    """Those that live and have the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}\0".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # another user's, or it has just ended
            continue
    return [pid for pid in found if pid != os.getpid()]


def wait_for_moment(kind: str, sweep: Killed, process: "subprocess.Popen[str]", chance: random.Random) -> None:
    """Until the sweep is somewhere at its start, in the middle of training, or writes what came out."""

    def until(condition: Callable[[int], bool]) -> None:
        def met() -> bool:
            assert process.poll() is None, "the sweep ended before it was killed"
            return condition(sweep.look())

        wait_for(met)

    if kind == "start":
        end = time.monotonic() + chance.uniform(0.3, 8.0)
    elif kind == "training":
        num_written = chance.randint(1, 10)
        until(lambda number: number >= num_written)
        end = time.monotonic() + chance.uniform(0.0, 1.2)
    else:
        num_written = chance.randint(1, 60)
        until(lambda number: sweep.all_trained() and number >= num_written)
        end = time.monotonic() + chance.uniform(0.0, 0.2)
    until(lambda number: time.monotonic() >= end)


def kinds_of(num_kills: int) -> list[str]:
    """The first kill is at the start, the last ones come when everything is trained."""
    num_late = num_kills // 8
    return ["training" if number % 3 else "start" for number in range(num_kills - num_late)] + ["tables"] * num_late


def test_a_sweep_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(
    whole: bool,
    undisturbed: Undisturbed,
    record_figures: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    here: Path,
) -> None:
    assert len(undisturbed.runs) == NUM_RUNS
    num_kills = 50 if whole else 2
    mark = f"{os.getpid()}-{time.time_ns()}"
    monkeypatch.setenv(MARK, mark)
    write_sweep(here, **changes(whole))
    sweep, chance, began = Killed(here, undisturbed), random.Random(5), time.monotonic()
    for kind in kinds_of(num_kills):
        process = sweep.begin()
        wait_for_moment(kind, sweep, process, chance)
        os.killpg(process.pid, signal.SIGKILL)
        killed_at = time.time()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        wait_for(lambda: not processes_of(mark))
        sweep.orphans_s.append(time.time() - killed_at)
        sweep.check(killed_at)

    num_finished = len(sweep.finished)
    if whole:
        last = run("sweep", "--budget", "smoke", "--jobs", 2, cwd=here, patience_s=3600)
        status, printed, said = last.returncode, last.stdout, last.stderr
        wait_for(lambda: not processes_of(mark))
    else:  # in this process, and without drawing figures, which costs less
        monkeypatch.setattr(analysis.report, "write_report", lambda findings, out: out)
        status = main(["sweep", "--budget", "smoke", "--jobs", "2"])
        printed, said = capsys.readouterr()
    assert (status, said) == (0, "")
    sweep.check(time.time())
    assert {path.name for path in (sweep.ledger.root / "runs").iterdir()} == undisturbed.runs.keys()
    assert study_of(sweep.ledger) == undisturbed.study
    assert tables(here) == undisturbed.tables
    assert f"{num_finished} of them in the ledger already" in printed
    wandb = sweep.ledger.root / "wandb"
    logged = sorted(path.name.rpartition("-")[2] for path in wandb.glob("offline-run-*"))
    assert logged == sorted(undisturbed.runs) == sorted(path.name for path in (wandb / "logged").iterdir())
    left = [str(path) for path in here.rglob(".*")]
    assert left == [] and not list((sweep.ledger.root / "running").iterdir())

    # No run began anew: each epoch's checkpoint is a later one than those before.
    assert all(epochs == sorted(epochs) for epochs in sweep.kept.values())
    # Where epochs are short, or a checkpoint takes long (also to be made and read back), not every epoch is kept.
    pause_s = max(EVERY_S, (2 * sweep.slowest_flush_s + 0.02) / COST_SHARE)
    may_be_lost = 1 + math.floor(pause_s / undisturbed.epoch_s)
    assert max(sweep.orphans_s) < 20
    record_figures(
        "kills",
        kills=num_kills,
        runs=NUM_RUNS,
        seconds=round(time.monotonic() - began),
        shortest_epoch_s=round(undisturbed.epoch_s, 2),
        runs_in_progress_at_kills=len(sweep.epochs_lost),
        epochs_lost={str(num): count for num, count in sorted(Counter(sweep.epochs_lost).items())},
        slowest_flush_s=round(sweep.slowest_flush_s, 3),
        most_seconds_since_a_checkpoint=round(max(sweep.seconds_lost, default=0.0), 2),
        slowest_end_of_orphans_s=round(max(sweep.orphans_s), 2),
    )
    assert all(num <= may_be_lost for num in sweep.epochs_lost)
