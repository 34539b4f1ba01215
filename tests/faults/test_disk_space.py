"""Room on the disk: what a study needs is known beforehand, and where there is less after all, nothing is lost."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.filesize import decimal

from experiments.study import disk_space
from experiments.study.disk_space import DiskNeed, check_room, disk_need, free_space
from experiments.terminal.cli import main
from experiments.terminal.commands import sweep as command
from ledger.errors import UserError
from tests.faults.one_process_sweep import NUM_RUNS, SMALLEST, half_written, prepare, results, sweep_here
from tests.faults.test_disk import check_whole
from tests.faults.write_sites import Site, watched
from tests.support.command_line import start, wait_for
from tests.support.tiny_study import plan_of

PLENTY = SimpleNamespace(total=10**15, free=10**15)


def taken(*folders: Path) -> int:
    """Bytes that the folders take from the disk."""
    return sum(path.lstat().st_blocks * 512 for folder in folders for path in [folder, *folder.rglob("*")])


def test_a_study_needs_what_was_foretold(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], record_figures: Callable[..., None]
) -> None:
    prepare(here, monkeypatch)
    study = SMALLEST | {"protocol": SMALLEST["protocol"] | {"robustness": "quick", "robustness_images": 8}}
    plan, most = plan_of(here, **study), 0

    def look(site: Site) -> None:
        nonlocal most
        if site.call == "rename" and site.kind in ("commit", "checkpoint"):
            most = max(most, taken(here / "runs"))

    assert main(["plan", "--budget", "smoke", "--jobs", "1"]) == 0
    need = disk_need(plan, [(1, 1), (1, 1)], 1)
    assert f"Up to {decimal(need.total)} of disk will be written; " in capsys.readouterr().out
    with watched(here, look):
        assert sweep_here() == 0
    assert most < need.ledger < 3 * most
    assert taken(here / "reports") < need.reports
    record_figures("disk space", foretold=need.ledger, taken=most)
    assert disk_need(plan, [(0, 0), (0, 0)], 1) == DiskNeed(0, 0)
    assert main(["plan", "--budget", "smoke", "--jobs", "1"]) == 0
    assert "Nothing of size will be written." in capsys.readouterr().out


def test_the_need_grows_with_what_is_written(tmp_path: Path, cache: Path) -> None:
    def need(num_finals: int = 1, num_workers: int = 1, **changes: object) -> int:
        plan = plan_of(tmp_path, **(SMALLEST | changes))
        return disk_need(plan, [(1, num_finals)] * len(plan.arms), num_workers).ledger

    protocol = SMALLEST["protocol"]
    least = need()
    assert need(num_finals=11) > least + 10 * 2 * 126_520 * 4  # of each arm, with so many weights
    # Two checkpoints of each further worker: weights and momenta, and averages where there are any.
    for averaging in (True, False):
        wanted = protocol | {"averaging": averaging}
        more = need(num_workers=4, protocol=wanted) - need(protocol=wanted)
        assert 1 < more / (2 * 3 * (2 + averaging) * 126_520 * 4) < 1.8
    assert need(protocol=protocol | {"test_images": 100}) > least
    assert need(protocol=protocol | {"epochs": 200}) > least
    assert need(protocol=protocol | {"robustness": "full"}) > need(protocol=protocol | {"robustness": "quick"}) > least
    assert need(wandb={"mode": "offline"}) > least
    wider = [{"variant": "cnn@cnn:width=2", "baseline": "cnn@cnn:width=2"}]
    assert need(variants=wider) > need(variants=[{"variant": "cnn", "baseline": "cnn"}]) + (497_240 - 126_520) * 4
    one = [{"variant": "stn_affine", "baseline": "stn_affine"}]
    heads = SMALLEST["search"] | {"extras": {"stn_affine": {"model.heads": {"values": [1, 4]}}}}
    assert need(variants=one, search=heads) > need(variants=one)


def test_too_little_room_is_refused_before_anything_trains(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(here, monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=10**15, free=1_000_000))
    assert sweep_here() == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: runs: the study will still write about ") and captured.err.count("\n") == 1
    assert f"only 1.0 MB are free for {here / 'runs'}; make room there, give RUNS=" in captured.err
    assert not list((here / "runs/runs").iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: PLENTY)
    assert sweep_here() == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=10**15, free=0))
    assert sweep_here() == 0  # there is nothing left to make


def test_each_disk_is_asked_for_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need, other = DiskNeed(ledger=1000, reports=100), Path("/dev/shm/reports")
    free = {"runs": 1000, "reports": 100}
    monkeypatch.setattr(disk_space, "free_space", lambda folder: free[folder.name])
    with pytest.raises(UserError, match=r"^runs: .* about 1\.1 kB, and only 1\.0 kB are free"):
        check_room(need, tmp_path / "runs", tmp_path / "reports")
    if not other.parent.exists() or other.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    check_room(need, tmp_path / "runs", other)
    free["reports"] = 99
    with pytest.raises(UserError, match=r"^reports: .* about 100 bytes, and only 99 bytes .* give REPORTS= "):
        check_room(need, tmp_path / "runs", other)
    free["runs"] = 999
    with pytest.raises(UserError, match=r"^runs: .* give RUNS= "):
        check_room(need, tmp_path / "runs", other)


SMALL_MIB = 24


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB, with root's help."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MIB}m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk takes root, and a system that mounts: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path, left: int) -> Path:
    """Take all but so many bytes of the disk."""
    ballast = disk / "ballast"
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, (free_space(disk) or 0) - left)
    return ballast


@pytest.mark.long
def test_a_disk_that_runs_full_loses_nothing(
    small_disk: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    whole: bool,
    record_figures: Callable[..., None],
) -> None:
    prepare(here, monkeypatch)
    assert sweep_here() == 0
    undisturbed, size = results(here), taken(here / "runs", here / "reports")
    monkeypatch.chdir(small_disk)
    prepare(small_disk, monkeypatch)
    monkeypatch.setattr(command, "check_room", lambda *arguments: None)  # others fill the disk after it was asked
    outcomes: dict[int, str] = {}
    num_steps = 60 if whole else 4
    for step in range(num_steps):
        left = 4096 * (size * 5 // 4 * step // num_steps // 4096)
        for name in ("runs", "reports"):
            shutil.rmtree(small_disk / name, ignore_errors=True)
        ballast = fill(small_disk, left)
        capsys.readouterr()
        status = sweep_here()
        said = capsys.readouterr().err
        assert status in (0, 2)
        assert said == "" if status == 0 else (said.count("\n"), "No space left on device" in said) == (1, True), said
        check_whole(small_disk)
        assert half_written(small_disk) == []
        num_made = len(list((small_disk / "runs/runs").glob("*"))) if (small_disk / "runs/runs").exists() else 0
        outcomes[left // 1024] = "done" if status == 0 else f"{num_made} runs made"
        ballast.unlink()
        assert sweep_here() == 0
        assert results(small_disk) == undisturbed and half_written(small_disk) == []
    assert len(set(outcomes.values())) > 1
    record_figures("disk that runs full", outcomes_by_kib_left=outcomes)


def test_a_real_sweep_whose_disk_others_fill_goes_on_later(
    small_disk: Path, cache: Path, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not whole:
        pytest.skip("starts whole sweeps; `make faults` does it")
    monkeypatch.chdir(small_disk)
    prepare(small_disk, monkeypatch)
    assert sweep_here("--runs", "elsewhere/runs", "--reports", "elsewhere/reports") == 0
    shutil.move(small_disk / "elsewhere", cache.parent / "elsewhere")
    (small_disk / "sweep.yaml").write_text((small_disk / "sweep.yaml").read_text().replace("disabled", "offline"))
    process = start("sweep", "--budget", "smoke", "--jobs", 2, cwd=small_disk)
    wait_for(lambda: process.poll() is not None or any((small_disk / "runs/runs").glob("[!.]*")))
    ballast = fill(small_disk, 100 * 1024)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2 and "No space left on device" in said and said.count("\n") == 1
    check_whole(small_disk)
    ballast.unlink()
    again = start("sweep", "--budget", "smoke", "--jobs", 2, cwd=small_disk)
    _, said = again.communicate(timeout=240)
    assert (again.returncode, said) == (0, "")
    assert half_written(small_disk) == []
    assert len(list((small_disk / "runs/runs").glob("*"))) == NUM_RUNS
    assert len(list((small_disk / "runs/wandb/logged").glob("[!.]*"))) == NUM_RUNS
    tables = {name for name in results(small_disk) if name.startswith("table") and "." in name}
    other = results(cache.parent / "elsewhere")
    assert all(
        results(small_disk)[name] == other[name] for name in tables if not name.endswith((".png", ".svg", ".pdf"))
    )
