"""A merge that is killed: each run is there whole or not at all, the study as it was or as it is to be, and the same
command ends as if nothing had happened."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.terminal.cli import main
from ledger.audit import audit
from ledger.ledger import Ledger
from ledger.merging import merge
from tests.faults.write_sites import Site, record, watched
from tests.support.command_line import contents
from tests.support.split_ledger import STUDY, cut, only_seed

pytestmark = pytest.mark.long
MANIFEST = f"studies/{STUDY}/study.json"


def runs_of(root: Path) -> dict[str, dict[str, bytes]]:
    return {folder.name: contents(folder) for folder in (root / "runs").glob("[!.]*")}


def killed_at(number: int, root: Path, work: Callable[[], Any]) -> None:
    def strike(site: Site) -> None:
        if site.number == number:
            os.kill(os.getpid(), signal.SIGKILL)

    if not (child := os.fork()):
        with watched(root, strike):
            work()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("is_new", [False, True], ids=["into one", "into none"])
@pytest.mark.parametrize("packed", [False, True], ids=["ledger", "archive"])
def test_a_merge_that_is_killed_leaves_each_run_and_the_study_old_or_new(
    packed: bool, is_new: bool, whole: bool, here: Path, tmp_path: Path, record_figures: Callable[..., None]
) -> None:
    source = half = cut(tmp_path / "half", only_seed(2), seconds=9.0)
    if packed:
        source = tmp_path / "half.tar.xz"
        assert main(["archive", str(half), "--out", str(source)]) == 0

    def begun(root: Path) -> Path:
        return root if is_new else cut(root, only_seed(1))

    undisturbed = begun(tmp_path / "undisturbed")
    old, before = contents(undisturbed), runs_of(undisturbed)
    sites = record(undisturbed, lambda: merge([source], undisturbed))
    new, known = contents(undisturbed), runs_of(undisturbed)
    assert old.get(MANIFEST) != new[MANIFEST] and len(known) >= len(before) + 2
    found: Counter[str] = Counter()
    chosen = sites if whole else sites[:: max(1, len(sites) // 25)]
    assert len(chosen) >= 20
    for site in chosen:
        into = begun(tmp_path / str(site.number))
        killed_at(site.number, into, lambda into=into: merge([source], into))  # type: ignore[misc]
        there, manifest = runs_of(into), contents(into).get(MANIFEST)
        assert before.items() <= there.items() <= known.items(), site
        assert manifest in (old.get(MANIFEST), new[MANIFEST]), site
        assert there == known or manifest == old.get(MANIFEST), "a study lists runs that are not there yet"
        assert not (into / "runs").is_dir() or audit(into).findings == [], site
        found["old" if there == before else "some runs" if there != known else "new"] += 1
        merge([source], into)
        Ledger(into).sweep_up()  # as the next sweep does
        assert contents(into) == new, site
        assert not list(into.rglob(".*"))
    assert {"old", "new"} <= found.keys()
    record_figures("kills of a merge", num_kills=len(chosen), **found)
