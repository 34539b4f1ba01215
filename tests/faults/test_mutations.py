"""The product's promises are broken one by one, in a copy: for each, the test that is named for it goes red.

In short form only two are carried out, and of all it is seen that what they change is still there.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.mutations import MUTATIONS, Mutation
from tests.support.project import ROOT

COPIED = (
    "analysis",
    "baselines",
    "benchmarks",
    "experiments",
    "ledger",
    "stn",
    "tests",
    "pyproject.toml",
    "sweep.yaml",
)
CHEAP = ("a run is not renamed", "a cell may hold a formula")
FAILED = 1
"""pytest's exit status where tests ran and some failed; 2 and above: it could not run them."""
PATIENCE_S = 1800


def copy_project(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder)
    return folder


def run_tests(project: Path, *tests: str) -> "subprocess.CompletedProcess[str]":
    """The tests in that copy of the project, which is the one that is imported there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-n",
            "0",
            "-x",
            "-q",
            "-m",
            "",
            "-p",
            "no:cacheprovider",
            "--basetemp",
            "temp",
            *tests,
        ],
        cwd=project,
        env=environment | {"PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def verdict(mutation: Mutation, folder: Path) -> str:
    """What becomes of the test: "" if it fails as it must, else what happened instead."""
    project = copy_project(folder)
    path = project / mutation.file
    path.write_text(path.read_text().replace(mutation.old, mutation.new))
    done = run_tests(project, mutation.test)
    shutil.rmtree(folder)
    return "" if done.returncode == FAILED else f"{mutation.name}: status {done.returncode}: {done.stdout[-300:]}"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_a_mutation_changes_is_there_once(mutation: Mutation) -> None:
    path, _, test = mutation.test.partition("::")
    assert (ROOT / mutation.file).read_text().count(mutation.old) == 1
    assert mutation.new != mutation.old
    name = test.partition("[")[0].rpartition("::")[2]
    assert any(f"{kind} {name}" in (ROOT / path).read_text() for kind in ("def", "class"))


@pytest.mark.long
def test_every_mutation_is_seen_by_its_test(whole: bool, tmp_path: Path, record_figures: Callable[..., None]) -> None:
    chosen = [each for each in MUTATIONS if whole or each.name in CHEAP]
    assert len(chosen) == (len({each.name for each in MUTATIONS}) if whole else len(CHEAP))
    tests = sorted({each.test for each in chosen})
    unbroken = run_tests(copy_project(tmp_path / "unbroken"), *tests)
    assert unbroken.returncode == 0, unbroken.stdout[-3000:]
    with ThreadPoolExecutor(2) as threads:
        folders = (tmp_path / str(number) for number in range(len(chosen)))
        survivors = [said for said in threads.map(verdict, chosen, folders) if said]
    record_figures("mutations", mutations=len(chosen), tests=len(tests), survivors=survivors)
    assert survivors == []
