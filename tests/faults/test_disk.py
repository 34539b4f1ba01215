"""A disk that takes no more, wherever a sweep writes: a clear line, nothing corrupt, and it goes on when mended."""

import errno
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.errors import REMEDIES
from ledger.ledger import Ledger
from tests.faults.one_process_sweep import SMALLEST, half_written, prepare, results, sweep_here
from tests.faults.write_sites import Site, record, watched
from tests.support.tiny_study import STUDY, write_sweep

MAKING = ("open", "mkdir", "rename")
FAULTS = {
    errno.ENOSPC: (*MAKING, "write", "amid", "fsync"),
    errno.EDQUOT: (*MAKING, "write", "amid", "fsync"),
    errno.EROFS: (*MAKING, "write", "amid", "fsync", "delete"),
    errno.EACCES: (*MAKING, "delete"),
    errno.EIO: (*MAKING, "write", "amid", "fsync", "delete"),
}
"""What a disk may answer, and to which calls."""
NEVER_FATAL = ("mark", "checkpoint")
ROOM_FOR_DELETING = (errno.ENOSPC, errno.EDQUOT)


def broken(number: int, is_hit: Callable[[Site], bool], *, lasts: bool = True) -> Callable[[Site], None]:
    """A disk that answers so from the first call on that is hit, or to that one only."""
    begun = False

    def strike(site: Site) -> None:
        nonlocal begun
        if site.call in FAULTS[number] and (is_hit(site) if not begun else lasts):
            begun = True
            # The system says which file it was where it was given a name.
            name = (site.path,) if site.call in (*MAKING, "delete") else ()
            raise OSError(number, os.strerror(number), *name)

    return strike


def at(number: int) -> Callable[[Site], bool]:
    """Whether a call is the one of that number."""
    return lambda site: site.number == number


def check_whole(folder: Path) -> None:
    """Every run that is there is whole, and so is every other file that has its name."""
    for run in (folder / "runs/runs").glob("[!.]*"):
        lines = (run / "SHA256SUMS").read_text().splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in run.iterdir()}
        assert found.pop("SHA256SUMS") and found == sums
    for path in folder.rglob("*.json"):
        json.loads(path.read_bytes())
    for path in folder.glob("reports/*/report.html"):
        assert path.read_text().rstrip().endswith("</html>")


def check_said(stderr: str, number: int, status: int, folder: Path) -> None:
    """One line with a path, what is wrong and what to do; nothing at all where it did not matter."""
    if status == 0:
        assert stderr == ""
        return
    assert status == 2
    assert stderr.startswith("error: ") and stderr.count("\n") == 1, stderr
    assert os.strerror(number) in stderr, stderr
    assert "runs" in stderr or "reports" in stderr, stderr
    assert stderr.endswith(f"; {REMEDIES[number]} and give the same command again\n"), stderr


@pytest.mark.long
def test_a_sweep_on_a_broken_disk_says_so_and_goes_on_when_it_is_mended(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    whole: bool,
    record_figures: Callable[..., None],
) -> None:
    prepare(here, monkeypatch)
    sites = record(here, lambda: sweep_here())
    undisturbed = results(here)
    assert len(undisturbed) > 20 and half_written(here) == []
    kinds = {site.kind for site in sites}
    assert kinds >= {"commit", "study.json", "mark", "checkpoint", "optuna.log", "table", "figure", "report.html"}
    capsys.readouterr()
    outcomes: Counter[str] = Counter()

    def disturb(site: Site, number: int, lasts: bool) -> None:
        # A sweep that goes on does less, so the site is found by what it is.
        def is_alike(each: Site) -> bool:
            return (each.kind, each.call) == (site.kind, site.call)

        with watched(here, broken(number, at(site.number) if whole else is_alike, lasts=lasts)):
            status = sweep_here()
        said = capsys.readouterr().err
        check_said(said, number, status, here)
        check_whole(here)
        if number in ROOM_FOR_DELETING:
            assert half_written(here) == []
        if site.kind in NEVER_FATAL and not lasts:
            assert status == 0
        outcomes["fatal" if status else "not fatal"] += 1

    def mend() -> None:
        assert sweep_here() == 0
        capsys.readouterr()
        assert results(here) == undisturbed
        assert half_written(here) == []
        assert not list((here / "runs/running").glob("*/"))  # a mark may stay as long as this process lives

    def forget() -> None:
        for path in sorted([*(here / "runs").rglob("*"), *(here / "reports").rglob("*")], reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    num_faults = 0
    if whole:
        for site in sites:
            number = list(FAULTS)[site.number % len(FAULTS)]
            if site.call not in FAULTS[number]:
                number = errno.EROFS
            forget()
            disturb(site, number, lasts=site.number % 3 > 0)
            mend()
            num_faults += 1
    else:  # one fault of each kind after the other, on the same ledger
        forget()
        for number, kind in zip([*FAULTS][1:] + [*FAULTS] * 9, sorted(kinds), strict=False):
            wanted = ("write", "mkdir", "open") if "write" in FAULTS[number] else ("open", "mkdir")
            site = next(each for call in wanted for each in sites if (each.kind, each.call) == (kind, call))
            disturb(site, number, lasts=site.kind not in NEVER_FATAL)
            num_faults += 1
        mend()
    record_figures("disk", num_sites=len(sites), num_faults=num_faults, outcomes=dict(outcomes))


@pytest.mark.long
def test_a_report_that_could_not_be_written_is_written_next_time(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(here, monkeypatch)
    assert sweep_here() == 0
    write_sweep(here, **SMALLEST | {"final_seeds": 2})
    with watched(here, broken(errno.ENOSPC, lambda site: site.kind == "report.html")):
        assert sweep_here() == 2
    assert sweep_here() == 0
    (page,) = here.glob("reports/*/report.html")
    text, arms = page.read_text(), Ledger(here / "runs").read_study(STUDY)["arms"]
    finals = [key for arm in arms for key in arm["finals"]]
    assert len(finals) == 4 and all(key in text for key in finals)
