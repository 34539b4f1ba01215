"""The Makefile: a misspelt variable must not start the wrong study."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.project import ROOT

VARIABLES = next(
    line.removeprefix("KNOWN := ").split()
    for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    if line.startswith("KNOWN := ")
)


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    # --dry-run: commands are printed, not run; a make that runs the tests hands its own variables down otherwise
    handed_down = {"MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", *VARIABLES}
    return subprocess.run(
        ["make", "--dry-run", *arguments],
        env={name: value for name, value in os.environ.items() if name not in handed_down} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_known_variables_pass_whatever_they_hold() -> None:
    several = "SET=protocol.epochs=10 search.trials=4"
    done = make("sweep", "BUDGET=smoke", several, "LABEL=CIFAR-10 (JPEG)", "DATA=/a folder/b", "RETRY=1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "-m experiments sweep" in done.stdout
    for target in ("sweep", "plan", "look", "probe"):
        assert '${SET:+--set "$SET"}' in make(target, several, "DATA=/a folder/b").stdout


def test_an_unknown_variable_is_refused() -> None:
    done = make("sweep", "BUGDET=smoke")
    assert done.returncode == 2
    assert "unknown variable BUGDET (did you mean 'BUDGET'?)" in done.stderr
    assert done.stdout == ""


def test_the_nearest_of_each_unknown_variable_is_named_or_all_that_are_known() -> None:
    said = make("probe", "DATA=x", "MINUTE=4", "JOB=2", "QQQ=1").stderr
    for hint in ("MINUTE (did you mean 'MINUTES'?)", "JOB (did you mean 'JOBS'?)", "QQQ (known: BUDGET, DATA, "):
        assert hint in said
    without_python = make("probe", "MINUTE=4", "PYTHON=/none").stderr
    assert f"unknown variable MINUTE (known: {' '.join(VARIABLES)})" in without_python


@pytest.mark.parametrize("name", ["DATA", "RUNS", "BUDGET"])
def test_a_variable_without_a_value_is_refused(name: str) -> None:
    """DATA=$IMAGES, where IMAGES is not set, was the study of other images."""
    done = make("plan", f"{name}=")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{name}= has no value; give it one, or leave it out" in done.stderr


@pytest.mark.parametrize(("value", "retries"), [("1", True), ("yes", True), ("0", False), ("no", False)])
def test_retry_is_a_yes_or_a_no(value: str, retries: bool) -> None:
    assert ("--retry_failed" in make("sweep", f"RETRY={value}").stdout) is retries


def test_retry_is_nothing_else() -> None:
    done = make("sweep", "RETRY=maybe")
    assert (done.returncode, done.stdout) == (2, "") and "RETRY=maybe is neither 1 nor 0" in done.stderr


def test_a_variable_that_stands_before_make_is_said_not_to_count() -> None:
    done = make("plan", "LABEL=mine", BUDGET="smoke", RUNS="elsewhere")
    assert done.returncode == 0
    assert "BUDGET RUNS of the environment is not used; variables go after the target" in done.stderr
    assert make("plan", BUDGET="smoke", MAKELEVEL="1").stderr == "", "a make that called this one hands them down"


def test_the_clusters_address_goes_first() -> None:
    done = make("sweep", "EXECUTOR=ray", "RAY_ADDRESS=head:6379")
    assert (done.returncode, done.stdout) == (2, "")
    assert "RAY_ADDRESS goes first: RAY_ADDRESS=HOST:PORT make sweep EXECUTOR=ray" in done.stderr


@pytest.mark.parametrize(("given", "said"), [("", []), ("again", ["--stale", "again"]), ("a b", ["--stale", "a b"])])
def test_what_becomes_of_stale_runs_is_handed_to_the_sweep(given: str, said: list[str]) -> None:
    done = make("sweep", *([f"STALE={given}"] if given else [])).stdout.rpartition("-m experiments ")[2]
    values = {"STALE": given, "RUNS": "runs", "SWEEP": "s", "EXECUTOR": "local", "REPORTS": "r"}
    shell = subprocess.run(["sh", "-c", f"printf '%s|' {done}"], env=values, capture_output=True, text=True)
    assert shell.stdout.split("|")[shell.stdout.split("|").index("r") + 1 : -1] == said


def test_verify_reads_a_ledger_and_verify_docs_the_documents() -> None:
    for variables in ((), ("RUNS=a folder",)):
        done = make("verify", *variables, "RERUN=3", "DATA=two words", "GROUP=a b").stdout.rpartition(
            "-m experiments "
        )[2]
        for rerun, data, group, said in (
            ("", "", "a b", ["verify", "R U"]),
            ("3", "", "", ["verify", "R U", "--rerun", "3"]),
            ("3", "two words", "", ["verify", "R U", "--rerun", "3", "--data", "two words"]),
            ("3", "d", "a b", ["verify", "R U", "--rerun", "3", "--data", "d", "--group", "a b"]),
        ):
            values = {"RUNS": "R U", "RERUN": rerun, "DATA": data, "GROUP": group, "JOBS": ""}
            shell = subprocess.run(["sh", "-c", f"printf '%s|' {done}"], env=values, capture_output=True, text=True)
            assert shell.stdout.split("|")[:-1] == said
    assert make("verify-docs").stdout.rstrip().endswith("-m experiments verify-docs")


def test_the_check_of_a_gpu_is_made_by_the_interpreter_that_is_named_and_without_an_environment() -> None:
    done = make("gpu-check", "PYTHON=/own/python", "OUT=gpu.json", "DATA=images", "MINUTES=3")
    assert (done.returncode, done.stderr) == (0, "")
    assert "/own/python -m benchmarks.gpu_check" in done.stdout
    assert '--out "$OUT" --minutes "$MINUTES"' in done.stdout
    assert ".venv" not in done.stdout and "pip" not in done.stdout
    usual = make("gpu-check").stdout
    assert ".venv/bin/python -m benchmarks.gpu_check" in usual
    assert "--out" not in usual and "--minutes" not in usual, "bench's and probe's are others"


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
        "experiments/runs/run.py",
    ]
    found = subprocess.run(
        ["git", "-C", tmp_path, "check-ignore", *ignored, *kept], capture_output=True, text=True, check=False
    )
    assert found.stdout.split() == ignored


STUB = """#!/bin/sh
# An interpreter that makes environments of itself, and says what it was asked for.
echo "$@" >> "$LOG"
env | grep -E '^(PIP_|PYTHON[A-Z])' >> "$LOG"
case "$1 $2" in "-m venv")
  for folder; do :; done
  case "$*" in *--clear*) rm -rf "$folder";; esac
  mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python";;
"-m pip") exit "${FAILS:-0}";;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, checkout)
    python = checkout / "stub"
    python.write_text(STUB)
    python.chmod(0o755)
    return checkout


def made(checkout: Path, *arguments: str, **environment: str) -> list[str]:
    """What Python was asked for, in order, while make ran to its end."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    log = checkout / "log"
    log.write_text("")
    kept = {name: value for name, value in os.environ.items() if not re.match("MAKE|PIP_|PYTHON", name)}
    subprocess.run(
        ["make", *arguments, "PYTHON=./stub"],
        cwd=checkout,
        env=kept | environment | {"LOG": str(log)},
        capture_output=True,
        check="FAILS" not in environment,
    )
    return [line for line in log.read_text().splitlines() if not line.startswith("-c")]


PIP = "-m pip install --disable-pip-version-check -c constraints.txt -e "


def test_an_installation_is_made_once(checkout: Path) -> None:
    status = "-m experiments status --runs runs"
    assert made(checkout, "status") == ["-m venv .venv", f"{PIP}.[dev,dashboard]", status]
    assert made(checkout, "status") == [status]
    assert made(checkout, ".venv/.cluster") == [f"{PIP}.[cluster]"]
    assert made(checkout, ".venv/.cluster") == []


def test_the_check_of_a_gpu_installs_nothing_where_an_interpreter_is_named(checkout: Path) -> None:
    check = "-m benchmarks.gpu_check"
    assert made(checkout, "gpu-check") == [check]
    assert made(checkout, "gpu-check", "DATA=my images", "MINUTES=1.5") == [f"{check} --data my images --minutes 1.5"]
    assert not (checkout / ".venv").exists()


def test_an_installation_that_was_cut_short_is_made_anew(checkout: Path) -> None:
    """A killed pip leaves packages that it then holds for whole."""
    assert made(checkout, "setup", FAILS="1") == ["-m venv .venv", f"{PIP}.[dev,dashboard]"]
    (checkout / ".venv/half-a-package").touch()
    assert made(checkout, "setup") == ["-m venv --clear .venv", f"{PIP}.[dev,dashboard]"]
    assert not (checkout / ".venv/half-a-package").exists()
    made(checkout, ".venv/.cluster", FAILS="1")
    anew = ["-m venv --clear .venv", f"{PIP}.[dev,dashboard]", f"{PIP}.[cluster]"]
    assert made(checkout, ".venv/.cluster") == anew
    (checkout / ".venv/bin/python").unlink()  # it was a link to an interpreter that has gone
    assert made(checkout, "setup") == anew[:2]
    assert made(checkout, "setup") == []


def test_what_others_tell_python_and_pip_stays_outside(checkout: Path) -> None:
    theirs = {"PYTHONPATH": "/other", "PYTHONHOME": "/other", "PYTHONSAFEPATH": "1", "PYTHONOPTIMIZE": "2"}
    theirs |= {"PIP_USER": "1", "PIP_TARGET": "/other", "PIP_PREFIX": "/other", "PIP_ROOT": "/other"}
    asked = made(checkout, "status", **theirs, PIP_INDEX_URL="https://index", PYTHONUTF8="1")
    assert {line for line in asked if "=" in line} == {"PIP_INDEX_URL=https://index", "PYTHONUTF8=1"}
    assert asked.count("PYTHONUTF8=1") == 4  # a look at its version, -m venv, -m pip, -m experiments


def test_a_read_only_checkout_that_is_installed_is_left_alone(checkout: Path) -> None:
    made(checkout, "setup")
    before = {path: path.lstat().st_mtime_ns for path in checkout.rglob("*") if path.name != "log"}
    made(checkout, "status", "RUNS=/somewhere 'else'")
    assert {path: path.lstat().st_mtime_ns for path in checkout.rglob("*") if path.name != "log"} == before


def test_the_time_to_an_accuracy_needs_images(checkout: Path) -> None:
    made(checkout, "setup")
    with pytest.raises(subprocess.CalledProcessError) as ended:
        made(checkout, "bench-accuracy")
    assert "make: bench-accuracy needs images; name their folder: make bench-accuracy DATA=" in str(ended.value.stderr)
    command = "-m benchmarks accuracy a folder"
    assert made(checkout, "bench-accuracy", "DATA=a folder") == [command]
    assert made(checkout, "bench-accuracy", "DATA=a folder", "OUT=b.json") == [f"{command} --out b.json"]


def test_the_dashboard_of_tuning_finds_a_ledger_at_home(checkout: Path) -> None:
    journal = checkout / "home/my runs/studies/s/optuna.log"
    journal.parent.mkdir(parents=True)
    journal.touch()
    made(checkout, "setup")
    asked = made(checkout, "optuna-dashboard", "RUNS=~/my runs", HOME=str(checkout / "home"))
    assert asked == [f".venv/bin/optuna-dashboard {journal}"]
