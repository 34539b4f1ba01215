"""What may go wrong in a sweep: runs that diverge or whose worker dies, another sweep, images that cannot be had."""

from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock

from experiments.terminal.cli import main
from ledger.config import Optim
from ledger.ledger import Ledger
from tests.support.command_line import stamps
from tests.support.tiny_study import STUDY, TINY, HereAndNow, sweep_here, tables, write_sweep


@pytest.mark.long
def test_a_diverging_variant_is_recorded_shown_and_tried_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = {
        "trials": 2,
        "wave_size": 2,
        "extras": {"cnn": {"optim.lr": {"min": 0.05, "max": 0.2}}, "stn_affine": {"optim.lr": {"value": 1e12}}},
    }
    protocol = TINY["protocol"] | {"epochs": 1}
    write_sweep(here, name="wild", search=search, protocol=protocol, wandb={"mode": "disabled"})
    command = ["sweep", "--budget", "smoke", "--jobs", "1"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "diverged  stn_affine+affine" in printed
    assert "8/8 " in printed  # both trials of the constant rate are one run, and still two of the eight
    assert printed.count(" diverged ") >= 3
    assert "2 diverged" in printed.partition("Ablation on")[2]
    ledger = Ledger(here / "runs")
    cnn, stn = ledger.read_study("wild-sprites-smoke")["arms"]
    assert stn["winners"] == [None] and stn["trials"][0] == stn["trials"][1]
    assert cnn["winners"][0] in cnn["trials"]
    for key in (*stn["trials"], *stn["finals"]):
        record = ledger.read(key)
        assert (record["status"], record["result"]["test_accuracy"]) == ("diverged", None)
    row = (here / "reports/wild-sprites-smoke/ablation.md").read_text()
    assert "| 2 diverged | 2 diverged |" in row and "| 2 completed | 2 completed |" in row

    before = {path.name: path.stat().st_ino for path in (here / "runs/runs").iterdir()}
    assert main([*command, "--retry_failed"]) == 0
    again = capsys.readouterr().out
    assert "4 of them in the ledger already" in again and "8/8 " in again
    after = {path.name: path.stat().st_ino for path in (here / "runs/runs").iterdir()}
    assert set(after) == set(before)
    made_again = {key for key in after if after[key] != before[key]}
    assert made_again == {*stn["trials"], *stn["finals"]}
    assert (here / "reports/wild-sprites-smoke/ablation.md").read_text() == row


@pytest.mark.long
def test_other_images_under_the_same_name_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep_here(here, HereAndNow())
    path, ledger = here / "runs/studies" / STUDY / "study.json", Ledger(here / "runs")
    manifest = ledger.read_study(STUDY)
    ledger.write_study(STUDY, manifest | {"task": manifest["task"] | {"content_hash": "0" * 64}})
    other = path.read_text()
    runs = stamps(here / "runs/runs")
    assert main(["sweep", "--budget", "smoke"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"error: runs: {STUDY} in runs is of other images; give LABEL= or RUNS= another name\n"
    assert path.read_text() == other and stamps(here / "runs/runs") == runs


def test_an_unwritable_folder_for_tables_is_refused_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(here)
    (here / "taken").write_text("a file")
    assert main(["sweep", "--budget", "smoke", "--reports", "taken"]) == 2
    assert capsys.readouterr().err == "error: reports: taken cannot be written (File exists)\n"
    assert not list((here / "runs/runs").iterdir())


def test_a_second_sweep_on_the_same_ledger_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(here)
    Ledger(here / "runs")
    before = stamps(here / "runs")
    with FileLock(here / "runs/sweep.lock"):
        assert main(["sweep", "--budget", "smoke"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: runs: another sweep is at work in runs; wait for it, or give RUNS= another folder\n"
    assert {name for name in stamps(here / "runs") if name != "sweep.lock"} == set(before)


@pytest.mark.long
def test_where_cifar10_cannot_be_had_sprites_take_its_place_and_say_so(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("STN_BENCH_CIFAR10", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens: no download from any machine
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    search = TINY["search"] | {"trials": 1, "extras": {}}
    variants = [{"variant": "cnn", "baseline": "cnn"}]
    write_sweep(
        here,
        task="cifar10",
        variants=variants,
        search=search,
        final_seeds=1,
        protocol=TINY["protocol"] | {"epochs": 1},
        wandb={"mode": "disabled"},
    )
    assert main(["sweep", "--budget", "smoke", "--jobs", "1", "--label", "CIFAR-10 (mine)"]) == 0
    printed = capsys.readouterr().out
    reason, plain = (line for line in printed.splitlines() if "cannot be" in line)
    assert reason.startswith("cifar10: cannot be downloaded from http")
    assert (
        plain == "CIFAR-10 cannot be had here, so this study runs on the built-in task `sprites` instead, and says so."
    )
    assert "Task  sprites: 96 training" in printed
    ledger = Ledger(here / "runs")
    (study,) = ledger.studies()
    assert study == STUDY
    assert {ledger.read(path.name)["task"]["label"] for path in (here / "runs/runs").iterdir()} == {"sprites"}
    for text in tables(here).values():
        assert b"sprites" in text and b"CIFAR" not in text


def test_a_run_whose_worker_died_is_a_failed_run_and_the_study_goes_on(tmp_path: Path, cache: Path) -> None:
    executor = HereAndNow(fails=lambda job: job.run.variant == "cnn" and job.run.stage == "trial")
    under_way = sweep_here(tmp_path, executor, protocol=TINY["protocol"] | {"epochs": 1})
    ledger, (cnn, stn) = under_way.ledger, under_way.ledger.read_study(STUDY)["arms"]
    for key in cnn["trials"]:
        record = ledger.read(key)
        assert (record["status"], record["error"]) == ("failed", "the worker was killed by SIGSEGV (2 attempts)")
        assert ledger.read(key, "history.json") == [] and ledger.read(key, "cost.json")["seconds"] is None
    assert cnn["winners"] == [None] and stn["winners"][0] in stn["trials"]
    # With no trial completed, the final runs have the default setting.
    assert {ledger.read(key)["config"]["optim"]["lr"] for key in cnn["finals"]} == {Optim().lr}
    assert Counter(ledger.read(key)["status"] for key in (*cnn["finals"], *stn["finals"])) == {"completed": 4}
