"""The simulation of a large sweep: it runs, its report holds every figure, and what it counts grows with the runs.

Nothing is timed. What the supervisor does is counted in the interpreter's instructions, so that it does not matter
which call a step that goes through all runs would be hidden in.
"""

import concurrent.futures
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import experiments
from benchmarks import simulated_cluster, supervisor
from benchmarks.simulated_cluster import STARTS, SimulatedCluster, Simulation, made_up_plan
from experiments.machine.pace import Pace
from experiments.runs.run import Job
from experiments.sweep.sweep import Sweep
from ledger import ledger as ledger_module
from ledger.ledger import Ledger

pytestmark = pytest.mark.long

WATCHED = tuple(str(Path(str(module.__file__)).parent) for module in (experiments, ledger_module, concurrent.futures))
RUNS_OF_ARM = 14


@pytest.fixture
def small_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two waves of trials, the best again, and two final runs."""
    for name, value in {"NUM_TRIALS": 6, "NUM_FINALS": 2, "NUM_EPOCHS": 3, "RUNS_OF_ARM": RUNS_OF_ARM}.items():
        monkeypatch.setattr(simulated_cluster, name, value)


def test_the_report_holds_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, folder = tmp_path / "supervisor.json", tmp_path / "ledgers"
    folder.mkdir()
    options = ["--runs", "25", "50", "--workers", "20", "--folder", str(folder), "--out", str(out)]
    assert supervisor.main(options) == 0
    report = json.loads(out.read_text())
    assert (report["num_workers"], report["quick"]) == (20, False)
    assert {"cpu", "cores", "versions"} <= report["machine"].keys() and report["load_average_before"] >= 0
    studies = report["studies"]
    assert [(each["num_runs"], each["terminal"]) for each in studies] == [(25, True), (50, True), (50, False)]
    assert [each["num_arms"] for each in studies] == [1, 2, 2]
    for study in studies:
        times = [f"{name}_start_s" for name in STARTS]
        times += [f"{part}{kind}_ms" for part in ("own", "commit", "manifest") for kind in ("", "_cpu")]
        assert all(study[name] >= 0 for name in times)
        positive = (
            "runs_per_s",
            "runs_per_s_with_commits",
            "manifest_ms",
            "own_ms",
            "own_cpu_ms",
            "commit_ms",
            "full_start_s",
        )
        assert all(study[name] > 0 for name in (*positive, "manifest_ms", "peak_memory_mib", "manifest_kib"))
        assert study["num_manifests"] >= 5  # at each start and each end
    assert studies[0]["own_cpu_ratio"] == studies[0]["full_start_ratio"] == 1
    printed = capsys.readouterr().out
    headings = ("own CPU", "× linear", "runs/s", "full start", "peak MiB", "20 workers")
    assert all(heading in printed for heading in headings)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--runs", "30", "--runs: 30: each must be a multiple of 25"),
        ("--workers", "0", "--workers: 0 is less than 1"),
        ("--folder", "gone", "--folder: gone is not a folder"),
        ("--out", "gone/figures.json", "out: gone/figures.json cannot be written"),
    ],
)
def test_what_cannot_be_measured_is_refused(option, value, said, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        supervisor.main([option, value])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@contextmanager
def counted(counts: dict[str, int]) -> Iterator[None]:
    """Count the instructions that run in files of this program and of concurrent.futures, by file."""

    def begin(frame: FrameType, event: str, argument: object) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(WATCHED):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True

        def step(frame: FrameType, event: str, argument: object) -> Any:
            counts[name] = counts.get(name, 0) + 1
            return step

        return step

    before = sys.gettrace()
    sys.settrace(begin)
    try:
        yield
    finally:
        sys.settrace(before)


def instructions(folder: Path, num_arms: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the supervisor does in a whole simulation.

    The manifest is written whole whenever an arm moves on, where its pace does not prevent that; it is not counted.
    """
    folder.mkdir()
    counts: dict[str, int] = {}
    write = Sweep.write_manifest

    def uncounted(self: Sweep) -> None:
        trace = sys.gettrace()
        sys.settrace(None)
        try:
            write(self)
        finally:
            sys.settrace(trace)

    with monkeypatch.context() as patch:
        patch.setattr(Sweep, "write_manifest", uncounted)
        patch.setattr(Pace, "pause_s", lambda self: 0.0)  # the clock has no say
        simulation = Simulation(folder, num_arms * RUNS_OF_ARM, 10, False)
        with counted(counts):
            simulation.measure()
    return {"/".join(Path(name).parts[-2:]): count for name, count in counts.items()}


@pytest.mark.usefixtures("small_arms")
def test_what_the_supervisor_does_grows_linearly_with_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instructions(tmp_path / "warm", 4, monkeypatch)  # what is imported or cached at first is not counted below
    small, middle, large = (instructions(tmp_path / str(number), number, monkeypatch) for number in (4, 8, 16))
    own = {"sweep/sweep.py", "study/search.py", "terminal/display.py", "sweep/estimate.py"}
    assert own | {"ledger/ledger.py", "futures/_base.py"} <= large.keys()
    for name in large:
        an_arm = small[name] / 4  # one more may be tuned when the sweep is stopped, and again by the next start
        assert large[name] - middle[name] < 2.1 * (middle[name] - small[name]) + an_arm + 200, name


class Listed(SimulatedCluster):
    """Sees to it that the manifest on disk lists a run before it begins."""

    def submit(self, job: Job) -> "Future[str]":
        study = Ledger(self.ledger.root, read_only=True).read_study(self.plan.name)
        assert any(job.key in (*arm["trials"], *arm["finals"]) for arm in study["arms"])
        return super().submit(job)


@pytest.mark.usefixtures("small_arms")
def test_runs_are_listed_before_they_begin_also_where_the_manifest_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then arms wait for each other, so that it is written less often; what comes out is the same."""
    write, folder = Ledger.write_study, tmp_path / "study"

    def slowly(self: Ledger, study: str, manifest: Mapping[str, Any]) -> None:
        write(self, study, manifest)
        time.sleep(0.05)

    def simulate() -> tuple[int, bytes]:
        folder.mkdir()
        number = Simulation(folder, 5 * RUNS_OF_ARM, 3, True).measure()["num_manifests"]
        content = (folder / "runs/studies/simulated/study.json").read_bytes()
        shutil.rmtree(folder)
        return number, content

    monkeypatch.setattr(simulated_cluster, "SimulatedCluster", Listed)
    with monkeypatch.context() as patch:
        patch.setattr(Pace, "pause_s", lambda self: 0.0)
        often, at_each_move = simulate()
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "write_study", slowly)
        seldom, at_its_pace = simulate()
    assert 3 < seldom < often
    assert at_its_pace == at_each_move


def test_marks_of_one_process_cost_one_look_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, asked = Ledger(tmp_path), list[int]()
    for number in range(50):
        ledger.mark_running(f"{number:016x}", {"epoch": 1})

    def is_alive(pid: int) -> bool:
        asked.append(pid)
        return True

    monkeypatch.setattr(ledger_module, "process_is_alive", is_alive)
    assert len(ledger.running()) == 50 and asked == [os.getpid()]


def test_a_made_up_plan_is_of_whole_arms(tmp_path: Path) -> None:
    plan = made_up_plan(tmp_path, 10_000)
    assert (len(plan.arms), plan.num_trials, plan.num_finals) == (400, 8000, 2000)
    assert len({arm.name for arm in plan.arms}) == 400
