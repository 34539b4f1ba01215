"""What a terminal shows: folded names, the important columns of narrow tables, and how far a sweep is."""

from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from experiments.machine import pace
from experiments.runs.run import Job
from experiments.sweep.estimate import Estimate
from experiments.terminal.display import SweepProgress, folded, print_ablation, print_tables
from ledger.config import Optim, Protocol, RunConfig, kind_of
from ledger.ledger import Ledger

LONG = "stn_rotation:loc_lr_factor=1:localisation=deep:start_sd=0.02:consistency=1@resnet18+affine:max_deg=30"
COLUMNS = ("Variant", "Baseline", "Validation %", "Test %", "n", "Difference", "Gap closed %", "Parameters")


@pytest.mark.parametrize("width", [10, 24, 40, 200])
def test_folding_breaks_between_parts_and_loses_nothing(width: int) -> None:
    lines = folded(LONG, width).split("\n")
    assert "".join(line.removeprefix("  ") for line in lines) == LONG
    assert all(len(line) <= width or len(line.removeprefix("  ")) > width - 2 for line in lines)
    assert all(line.startswith(("  :", "  @", "  +")) for line in lines[1:])
    assert folded("cnn", width) == "cnn"


def printed(width: int, show, *arguments: object) -> str:
    console = Console(file=StringIO(), width=width)
    show(console, *arguments)
    return console.file.getvalue()  # type: ignore[attr-defined]


def found() -> SimpleNamespace:
    rows = [
        (LONG, "cnn", "50.0 ± 1.0", "49.0 ± 1.0", "5", "+1.0 ± 0.5 *", "12 ± 3", "243,146"),
        ("cnn", "—", "49.0 ± 1.0", "48.0 ± 1.0", "5", "—", "—", "243,146"),
    ]
    table = SimpleNamespace(columns=COLUMNS, align="llrrrrrr", rows=rows)
    return SimpleNamespace(title="Ablation", sections=[SimpleNamespace(heading="Pose R", table=table)])


def test_the_gap_closed_stays_beside_the_difference() -> None:
    text = printed(80, print_ablation, found())
    assert all(heading in text for heading in ("Variant", "Test %", "Difference", "Gap closed %"))
    assert max(map(len, text.splitlines())) <= 80
    assert "Parameters" not in text and "ablation.md has all notes" in text
    assert "243,146" in printed(200, print_ablation, found())


def test_the_most_important_columns_are_shown() -> None:
    text = printed(50, print_tables, found(), lambda table: ("Variant", "n", "Parameters", "Validation %", "Test %"))
    assert "Parameters" in text and "Validation %" not in text


class Marked:
    """A ledger in which four runs are half done. looks: how often somebody wanted to know; each look takes a second."""

    def __init__(self, clock: list[float]) -> None:
        self.looks, self._clock = 0, clock
        row = {"variant": "cnn", "pose": "upright", "stage": "trial", "train_images": 40, "epoch": 5, "epochs": 9}
        self.marks: dict[str, dict[str, Any]] = dict.fromkeys("abcd", row)

    def running(self) -> dict[str, dict[str, Any]]:
        self.looks += 1
        self._clock[0] += 1
        return dict(self.marks)

    def mark_sweep(self, progress: dict[str, Any]) -> None:
        self.said = progress

    def forget_sweep(self) -> None:
        self.said = {}

    def read(self, key: str, name: str = "run.json") -> dict[str, Any]:
        return {"seconds": 100.0} if name == "cost.json" else {"status": "completed"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(pace, "monotonic", lambda: now[0])
    return now


def progress_of(ledger: Marked, *, terminal: bool, kept_s: float = 0.0) -> SweepProgress:
    """Of eight runs of 100 s, of one of which so much was done before."""
    console = Console(file=StringIO(), force_terminal=terminal, width=100)
    by_run = {kind_of("upright", "cnn", "trial", 40, 9): 100.0}
    expected = Estimate([[100.0]], by_run, num_done=0, kept_epochs=[], kept_s=kept_s, left_s=800 - kept_s, wall_s=200.0)
    return SweepProgress(console, cast(Ledger, ledger), expected, num_runs=8, num_workers=4)


def completed_s(progress: SweepProgress) -> float:
    return progress.tasks[0].completed


def finished(key: str) -> Job:
    protocol, optim = Protocol(train_images=40, epochs=9), Optim(lr=0.09588)
    model: dict[str, Any] = {"taps": 3, "stage": 1}
    run = RunConfig(stage="trial", protocol=protocol, optim=optim, model=model, policy={"affine.max_deg": 30.0})
    return cast(Job, SimpleNamespace(run=run, key=key))


def test_progress_counts_what_runs_have_done_and_each_run_once(clock: list[float]) -> None:
    ledger = Marked(clock)
    progress = progress_of(ledger, terminal=True)
    progress.tick()
    assert completed_s(progress) == pytest.approx(4 * 50)
    progress.finish(finished("a"), 1)  # the marks are not looked at again so soon
    assert (ledger.looks, completed_s(progress)) == (1, pytest.approx(100 + 3 * 50))
    del ledger.marks["a"], ledger.marks["b"]
    clock[0] += 100
    progress.tick()
    assert (ledger.looks, completed_s(progress)) == (2, pytest.approx(100 + 2 * 50))


def test_a_trials_line_says_what_was_tried_and_whoever_watches_hears_how_far_the_sweep_is(clock: list[float]) -> None:
    ledger = Marked(clock)
    progress = progress_of(ledger, terminal=False)
    progress.tuned = {("upright", "cnn"): ["optim.lr", "model.taps", "policy.affine.max_deg"]}
    with progress:
        assert (ledger.said["num_finished"], ledger.said["left_s"]) == (0, 200.0)
        progress.finish(finished("a"), 1)
        assert (ledger.said["num_finished"], ledger.said["num_runs"], ledger.said["left_s"]) == (1, 8, 175.0)
    assert ledger.said == {}
    printed = progress.console.file.getvalue()  # type: ignore[attr-defined]
    assert "s  lr 0.0959, taps 3, affine.max_deg 30  3 min left" in printed


def test_nothing_is_left_when_all_are_done_though_one_had_been_begun_before(clock: list[float]) -> None:
    progress = progress_of(Marked(clock), terminal=False, kept_s=70.0)
    for number, key in enumerate("abcdefgh", start=1):
        assert progress.left_s(progress.done_s) > 0
        progress.finish(finished(key), number)
    assert progress.left_s(progress.done_s) == 0


def test_looking_at_many_marks_takes_a_share_of_the_time(clock: list[float]) -> None:
    ledger = Marked(clock)
    progress = progress_of(ledger, terminal=True)
    for _ in range(4000):
        progress.tick()
        clock[0] += 0.25
    assert 45 <= ledger.looks <= 51
    in_a_file = progress_of(ledger, terminal=False)
    looks = ledger.looks
    clock[0] += 1000
    in_a_file.tick()
    assert ledger.looks == looks
