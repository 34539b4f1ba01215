"""`watch`: what it says of a ledger, that it writes nothing there, and how it ends."""

import json
import os
import pty
import signal
import statistics
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.terminal.cli import main
from experiments.terminal.watching.page import curves, live_page
from experiments.terminal.watching.screen import ASCII, BLOCKS, Screen, sparkline
from experiments.terminal.watching.view import View, Watcher
from ledger.ledger import SWEEP, Ledger
from tests.support import browser
from tests.support.command_line import contents, finish, stamps, start, wait_for
from tests.support.project import ROOT
from tests.support.synthetic_ledger import (
    STUDY,
    key_of,
    write_arm,
    write_json,
    write_run,
    write_study,
    write_tiny_study,
)

MARK: dict[str, Any] = {
    "variant": "stn_affine", "pose": "upright", "seed": 14, "stage": "final", "epoch": 2, "epochs": 6,
    "train_loss": 1.25, "train_accuracy": 0.3, "val_accuracy": 0.42, "val_loss": 1.5, "curve": [0.2, 0.42],
    "optim": {"lr": 0.09588, "weight_decay": 5e-4}, "model": {"loc_lr_factor": 0.1, "steps": 1}, "policy": {},
}  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """In which one run of stn_affine is under way."""
    root = tmp_path / "runs"
    write_tiny_study(root)
    ledger = Ledger(root)
    manifest = json.loads((root / "studies" / STUDY / "study.json").read_text())
    for arm in manifest["arms"]:
        arm["space"] = {"optim.lr": {}, "model.loc_lr_factor": {}}
    write_json(root / "studies" / STUDY / "study.json", manifest)
    ledger.mark_running("stn_affine-14", MARK)
    return ledger


def text_of(view: View, width: int = 80, **console: Any) -> str:
    out = StringIO()
    Console(file=out, width=width, **console).print(Screen(view, "10:00:00"))
    return out.getvalue()


def test_a_run_is_shown_beside_the_finished_ones_of_its_variant(ledger: Ledger) -> None:
    (run,) = Watcher(ledger).look().running
    keys = [key_of("upright", "stn_affine", "trial", i) for i in (0, 1)]  # the third was pruned, the fourth failed
    keys += [key_of("upright", "stn_affine", seed) for seed in (11, 13, 15)]  # 12 diverged, 14 is missing
    rows = [json.loads((ledger.folder(key) / "history.json").read_text())[1] for key in keys]
    assert run.median == pytest.approx(statistics.median(row["val_accuracy"] for row in rows))
    assert (run.num_finished, run.accuracy, run.curve, run.loss) == (5, 0.42, (0.2, 0.42), 1.25)
    assert (run.setting, run.what) == ("lr 0.0959, loc_lr_factor 0.1", "final seed 14")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_everything_fits_the_width(ledger: Ledger, width: int) -> None:
    text = text_of(Watcher(ledger).look(), width)
    assert max(map(len, text.splitlines())) <= width
    said = " ".join(text.split())
    for part in (STUDY, "1 run in progress", "stn_affine", "2/6", "1.250", "42.0 %", "of 5", "lr 0.0959"):
        assert part in said
    assert text.count("seed") == 6, "the run, and the five that were finished last"


def test_a_sparkline_goes_from_the_lowest_to_the_highest_of_all() -> None:
    assert sparkline([0.0, 0.5, 1.0], []) == "▁▅█"
    assert sparkline([0.0, 0.5], [1.0]) == "▁▅"
    assert (sparkline([], [0.3]), sparkline([0.3, 0.3], [])) == ("", "▁▁")
    assert sparkline([0.5, 0.5], [0.1]) == sparkline([0.5], [0.1, 0.2]) + "▁" == "▁▁", "a flat one is no full block"
    assert len(BLOCKS) == len(ASCII) and ASCII.isascii()


LONG = "stn_affine+rotate:max_deg=180+flip_crop"


def test_what_is_cut_of_a_finished_run_is_never_its_score(ledger: Ledger) -> None:
    made = key_of("upright", "stn_affine", 14)
    write_run(ledger.root, made, variant=LONG, seed=14, accuracy=0.881)
    for width in (60, 80):
        (line,) = (line for line in text_of(Watcher(ledger).look(), width).splitlines() if LONG[:20] in line)
        assert line.startswith("completed test 88.1 %") and line.endswith("…")


def test_runs_of_other_studies_are_not_among_those_that_were_finished_last(ledger: Ledger) -> None:
    write_study(ledger.root, [write_arm(ledger.root, "cnn+cutout", "cnn+cutout", [0.5])], study="another")
    write_run(ledger.root, "alone", variant="cnn+rotate")
    view = Watcher(ledger, STUDY).look()
    for text in (text_of(view), live_page(view, "10:00:00", is_last=True)):
        assert "cnn+cutout" not in text and "cnn+rotate" in text
    assert len(view.recent) == 5


@pytest.mark.parametrize("width", [80, 120])
def test_of_the_finished_ones_nothing_is_said_before_the_first_epoch(ledger: Ledger, width: int) -> None:
    ledger.mark_running("stn_affine-14", MARK | {"epoch": 0, "curve": [], "val_accuracy": None})
    shown = text_of(Watcher(ledger).look(), width)
    assert "0/6" in shown and "of 5" not in shown


def test_the_sweep_says_how_far_it_is_and_time_goes_on(ledger: Ledger) -> None:
    said = {"study": STUDY, "num_finished": 3, "num_runs": 8, "num_workers": 2, "left_s": 80.0, "at": time.time() - 20}
    ledger.mark_sweep(said)
    view = Watcher(ledger).look()
    assert view.state in ("3 of 8 runs, 2 workers, about 60 s left", "3 of 8 runs, 2 workers, about 59 s left")
    assert view.share == 3 / 8
    ledger.mark_sweep(said | {"at": time.time() - 500})
    assert Watcher(ledger).look().state.endswith("nearly done")
    for broken in ({"left_s": "soon"}, {"num_runs": None}, {"pid": 2**22 + 1}):
        ledger.mark_sweep(said)
        file = ledger.root / "running" / SWEEP
        write_json(file, json.loads(file.read_text()) | broken)
        assert Watcher(ledger).look().state.startswith("1 run in progress")
    ledger.forget_sweep()
    assert ledger.sweep() is None


def test_an_idle_and_a_finished_and_an_empty_ledger_say_so(ledger: Ledger, tmp_path: Path) -> None:
    ledger.forget_running("stn_affine-14")
    assert Watcher(ledger).look().state.startswith("Idle: 29 runs made, others are missing; the same command")
    done = tmp_path / "done"
    write_study(done, [write_arm(done, "cnn", "cnn", [0.5]), write_arm(done, "stn", "cnn", [0.5])])
    assert Watcher(Ledger(done)).look().state == "Finished: all 8 runs are made; no sweep is at work here"
    empty = Watcher(Ledger(tmp_path / "empty")).look()
    assert (empty.state, empty.running, empty.recent) == ("Idle: no sweep is at work here", (), ())
    assert "Idle" in text_of(empty)


def test_new_runs_are_seen_and_what_is_damaged_is_left_out(ledger: Ledger) -> None:
    watcher = Watcher(ledger)
    before = watcher.look()
    made, made_again = (key_of("upright", "stn_affine", seed) for seed in (14, 12))
    write_run(ledger.root, made, variant="stn_affine", seed=14)
    after = watcher.look()
    assert (before.running[0].num_finished, after.running[0].num_finished) == (5, 6)
    ledger.remove(made_again)  # which diverged
    write_run(ledger.root, made_again, variant="stn_affine", seed=12)
    assert watcher.look().running[0].num_finished == 7
    (ledger.root / "studies" / STUDY / "study.json").write_text("{")
    ledger.mark_running("odd", {"variant": "[red]x\x1b[2J", "epoch": "two", "curve": "abc", "train_loss": float("nan")})
    view = Watcher(ledger).look()
    assert [run.num_finished for run in view.running] == [0, 0]
    assert "\x1b" not in text_of(view) and "[red]x" in text_of(view)


def test_once_prints_and_writes_a_page_and_nothing_into_the_ledger(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, files = stamps(ledger.root), contents(ledger.root)
    page = tmp_path / "reports/live.html"
    assert main(["watch", f"--runs={ledger.root}", "--once", f"--html={page}"]) == 0
    assert "1 run in progress" in capsys.readouterr().out
    assert (stamps(ledger.root), contents(ledger.root)) == (before, files)
    assert os.listdir(page.parent) == ["live.html"] and "http-equiv" not in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--runs=none"], "runs: there is no ledger at "),
        (["--runs=runs", "--study=tiny-cpo"], "did you mean 'tiny-cpu'?"),
        (["--runs=runs", "--html=runs/live.html"], "is in the ledger, where watch writes nothing"),
        (["--runs=runs", "--html=."], "is a folder; give a file, such as "),
    ],
)
def test_refusals(ledger: Ledger, tmp_path: Path, arguments, said, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = stamps(tmp_path)
    assert main(["watch", *arguments]) == 2
    told = capsys.readouterr()
    assert said in told.err and told.err.count("\n") == 1 and told.out == ""
    assert stamps(tmp_path) == before


def test_the_page_needs_nothing_else_and_shows_any_text_as_it_is(ledger: Ledger) -> None:
    ledger.mark_running("odd", MARK | {"variant": "<script>x</script>&{{ 1 }}"})
    view = Watcher(ledger).look()
    page = live_page(view, "10:00:00", is_last=False)
    assert '<meta http-equiv="refresh" content="2">' in page
    assert "&lt;script&gt;x&lt;/script&gt;&amp;{{ 1 }}" in page and "<script" not in page
    assert all(word not in page for word in ("http:", "https:", "src=", "url(", "@import"))
    last = live_page(view, "10:00:00", is_last=True)
    assert "refresh" not in last and "when <code>watch</code> ended" in last


def test_a_curve_on_the_page_lies_within_its_frame_over_all_epochs(ledger: Ledger) -> None:
    (run,) = Watcher(ledger).look().running
    own, others = ([tuple(map(float, point.split(","))) for point in line.split()] for line in curves(run))
    assert (len(own), len(others)) == (2, 6)
    assert [x for x, _ in own] == [x for x, _ in others[:2]] and others[-1][0] == 296
    assert all(4 <= x <= 296 and 6 <= y <= 66 for x, y in own + others)
    assert own[0][1] > own[1][1], "up is better"
    values = [*run.curve, *run.medians]
    said = f"From {100 * min(values):.1f} to {100 * max(values):.1f} %, 6 epochs."
    assert said in live_page(Watcher(ledger).look(), "10:00:00", is_last=True)


@pytest.mark.skipif(not browser.PROGRAM, reason="chromium is not installed")
def test_the_page_fits_a_phone(ledger: Ledger, tmp_path: Path) -> None:
    ledger.mark_running("long", MARK | {"variant": "stn_affine:localisation=resnet" + ":option=value" * 12})
    page = tmp_path / "live.html"
    page.write_text(live_page(Watcher(ledger).look(), "10:00:00", is_last=True))
    with browser.Browser() as shown:
        for width_px in (390, 1280):
            shown.open(page, width_px=width_px)
            assert shown.run("document.documentElement.scrollWidth") <= width_px
        assert shown.problems == [] and all(request.startswith("file:") for request in shown.requests)


def test_it_ends_at_ctrl_c_and_the_page_says_so(ledger: Ledger, tmp_path: Path) -> None:
    page = tmp_path / "live.html"
    process = start("watch", f"--runs={ledger.root}", f"--html={page}", cwd=tmp_path)
    wait_for(lambda: page.exists() or process.poll() is not None)
    ledger.mark_running("second", MARK | {"variant": "seen_later"})
    wait_for(lambda: "seen_later" in page.read_text() or process.poll() is not None)
    assert 'http-equiv="refresh"' in page.read_text()
    process.send_signal(signal.SIGINT)
    ended = finish(process, 60)
    assert (ended.returncode, ended.stderr.strip().startswith("Stopped.")) == (130, True)
    assert "http-equiv" not in page.read_text() and os.listdir(tmp_path).count("live.html") == 1


def test_a_terminal_shows_it_on_a_screen_of_its_own_until_ctrl_c(ledger: Ledger, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", "watch", f"--runs={ledger.root}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"Ctrl-C ends" not in seen:
        seen += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    while b"\x1b[?1049l" not in seen or b"Stopped." not in seen:
        seen += os.read(ours, 65536)
    assert process.wait(60) == 130
    assert b"\x1b[?1049h" in seen and b"42.0 %" in seen and b"Traceback" not in seen
    os.close(ours)
