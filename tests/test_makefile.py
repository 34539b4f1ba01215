"""The Makefile: a misspelt variable must not start the wrong study."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    # --dry-run: commands are printed, not run; a make that runs the tests hands its own variables down otherwise
    return subprocess.run(
        ["env", "-u", "MAKEFLAGS", "-u", "MAKEOVERRIDES", "-u", "MAKELEVEL", "make", "--dry-run", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_known_variables_pass_whatever_they_hold() -> None:
    done = make("sweep", "BUDGET=smoke", "LABEL=CIFAR-10 (JPEG)", "DATA=/a folder/b", "RETRY=1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "-m experiments sweep" in done.stdout


def test_an_unknown_variable_is_refused() -> None:
    done = make("sweep", "BUGDET=smoke")
    assert done.returncode == 2
    assert "unknown variable BUGDET; known: SWEEP BUDGET" in done.stderr
    assert done.stdout == ""


def test_the_clusters_address_goes_first() -> None:
    done = make("sweep", "EXECUTOR=ray", "RAY_ADDRESS=head:6379")
    assert (done.returncode, done.stdout) == (2, "")
    assert "RAY_ADDRESS goes first: RAY_ADDRESS=HOST:PORT make sweep EXECUTOR=ray" in done.stderr


def test_verify_reads_a_ledger_only_where_one_is_named() -> None:
    assert make("verify").stdout.rstrip().endswith("-m experiments verify")
    assert make("verify", "RUNS=a folder").stdout.rstrip().endswith('-m experiments verify "$RUNS"')


def test_a_study_of_the_ledger_can_be_named() -> None:
    for target in ("report", "tables", "wandb-report"):
        assert '${STUDY:+--study "$STUDY"}' in make(target, "STUDY=tiny-cpu").stdout
    assert '"$RUNS"/studies/${STUDY:-*}/optuna.log' in make("optuna-dashboard", "STUDY=tiny-cpu").stdout


def test_what_the_program_writes_is_not_committed_and_the_documents_results_are(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    ignored = ["runs/x", "runs-2/x", "reports/x", "reports-2/x", "exports/9f/model.pt2"]
    kept = [
        "docs/results/x.md",
        "docs/runs-2/x",
        "tests/exports/x",
        "tests/golden/format-1/runs/x",
        "experiments/runs.py",
    ]
    found = subprocess.run(
        ["git", "-C", tmp_path, "check-ignore", *ignored, *kept], capture_output=True, text=True, check=False
    )
    assert found.stdout.split() == ignored
