"""A small study through the real command line: what it leaves, what a kill costs, and that nothing else has a say."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
import torch
import yaml
from filelock import FileLock
from optuna.storages.journal import JournalFileBackend

from experiments.cli import main
from experiments.executors.local import LocalExecutor, WorkerDied
from experiments.ledger import Ledger
from experiments.plan import Plan, make_plan
from experiments.runs import Job, carry_out
from experiments.study import load_study
from experiments.sweep import Sweep
from tests.command_line import contents, run, stamps, start, wait_for

STUDY = "tiny-sprites-smoke"
NUM_RUNS = 8

TINY: dict[str, Any] = {
    "name": "tiny",
    "task": "sprites",
    "variants": [{"variant": "cnn", "baseline": "cnn"}, {"variant": "stn_affine+affine", "baseline": "cnn"}],
    "protocol": {
        "train_images": 96,
        "val_images": 64,
        "test_images": 100,
        "epochs": 2,
        "batch_size": 32,
        "precision": "fp32",
        "device": "cpu",
    },
    "search": {
        "trials": 2,
        "wave_size": 1,
        "space": {"optim.lr": {"distribution": "log_uniform_values", "min": 0.02, "max": 0.5}},
        "extras": {
            "stn_affine": {"model.loc_lr_factor": {"distribution": "log_uniform_values", "min": 0.01, "max": 1}}
        },
    },
    "final_seeds": 2,
}


def write_sweep(folder: Path, **changes: Any) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


def tables(folder: Path) -> dict[str, bytes]:
    """The ablation tables of the folder's study."""
    out = folder / "reports" / STUDY
    return {name: (out / name).read_bytes() for name in ("ablation.md", "ablation.tex", "ablation.csv")}


def repeatable(folder: Path) -> dict[str, bytes]:
    """All files of the folder's runs that are the same bytes on every repetition."""
    return {name: data for name, data in contents(folder / "runs/runs").items() if not name.endswith("cost.json")}


@dataclass(frozen=True)
class Done:
    """A folder in which a sweep was carried out, and what it printed."""

    folder: Path
    stdout: str
    stderr: str

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder / "runs", read_only=True)

    def manifest(self) -> dict[str, Any]:
        return self.ledger.read_study(STUDY)


def sweep_in(folder: Path, jobs: int) -> Done:
    write_sweep(folder)
    ended = run("sweep", "--budget", "smoke", "--jobs", jobs, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return Done(folder, ended.stdout, ended.stderr)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Done:
    """The study carried out by two workers, in peace."""
    return sweep_in(tmp_path_factory.mktemp("undisturbed"), jobs=2)


@pytest.fixture
def in_folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where main() runs as a command would; it changes a signal's handler."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


def test_a_sweep_makes_every_run_once(undisturbed: Done) -> None:
    assert undisturbed.stderr == ""
    ledger, manifest = undisturbed.ledger, undisturbed.manifest()
    assert [(arm["variant"], arm["baseline"], arm["pose"]) for arm in manifest["arms"]] == [
        ("cnn", "cnn", "upright"),
        ("stn_affine+affine", "cnn", "upright"),
    ]
    listed = [key for arm in manifest["arms"] for key in (*arm["trials"], *arm["finals"])]
    assert sorted(listed) == sorted(path.name for path in (ledger.root / "runs").iterdir())
    assert len(listed) == len(set(listed)) == NUM_RUNS
    for arm in manifest["arms"]:
        trials, finals = ([ledger.read(key) for key in arm[stage]] for stage in ("trials", "finals"))
        assert {record["status"] for record in (*trials, *finals)} == {"completed"}
        assert [(record["config"]["stage"], record["config"]["seed"]) for record in trials] == [("trial", 0)] * 2
        assert [(record["config"]["stage"], record["config"]["seed"]) for record in finals] == [
            ("final", 1),
            ("final", 2),
        ]
        assert all(record["result"]["test_accuracy"] is None for record in trials)
        assert all(record["result"]["num_test_images"] == 100 for record in finals)
        assert trials[0]["config"]["optim"]["lr"] == 0.1
        accuracies = [record["result"]["val_accuracy"] for record in trials]
        assert arm["winner"] == arm["trials"][accuracies.index(max(accuracies))]
        winner = ledger.read(arm["winner"])["config"]
        for final in finals:
            assert {name: final["config"][name] for name in ("optim", "model", "policy")} == {
                name: winner[name] for name in ("optim", "model", "policy")
            }


def test_a_sweep_leaves_nothing_half_done(undisturbed: Done) -> None:
    root = undisturbed.ledger.root
    assert list((root / "running").iterdir()) == []
    assert [name for name in contents(undisturbed.folder) if "/." in name] == []
    assert sorted(path.name for path in undisturbed.folder.iterdir()) == ["reports", "runs", "sweep.yaml"]


def test_a_sweep_prints_plan_progress_and_places(undisturbed: Done) -> None:
    plan, progress = undisturbed.stdout.split("trials and", 1)
    assert "Task  sprites: 96 training, 64 validation, 100 test images; 10 classes; 32 px" in plan
    assert "stn_affine+affine   cnn                  2            2" in plan
    assert "4 final runs; about " in progress
    counts = [line.split()[0] for line in progress.splitlines() if line.startswith(tuple("12345678"))]
    assert counts == [f"{number}/{NUM_RUNS}" for number in range(1, NUM_RUNS + 1)]
    assert " s left" in progress
    assert "Ablation on sprites" in progress
    places = (
        "Tables and figures  reports/tiny-sprites-smoke\n",
        "Ledger              runs\n",
        "offline in runs/wandb\n",
    )
    assert all(place in progress for place in places)


def test_tables_are_written_in_three_formats(undisturbed: Done) -> None:
    texts = {name: data.decode() for name, data in tables(undisturbed.folder).items()}
    manifest = undisturbed.manifest()
    for text in texts.values():
        assert "sprites" in text and manifest["protocol_hash"] in text
    assert "| stn_affine+affine | cnn |" in texts["ablation.md"]
    assert "stn\\_affine+affine & cnn &" in texts["ablation.tex"]
    rows = texts["ablation.csv"].splitlines()
    assert len(rows) == 3
    assert all(key in texts["ablation.csv"] for arm in manifest["arms"] for key in arm["finals"])
    mean = sum(undisturbed.ledger.read(key)["result"]["test_accuracy"] for key in manifest["arms"][1]["finals"]) / 2
    assert f"{mean * 100:.1f} ±" in next(
        line for line in texts["ablation.md"].splitlines() if "stn_affine+affine |" in line
    )


def test_every_run_is_a_wandb_run(undisturbed: Done) -> None:
    keys = sorted(path.name for path in (undisturbed.ledger.root / "runs").iterdir())
    wandb = undisturbed.ledger.root / "wandb"
    assert sorted(path.name.rpartition("-")[2] for path in wandb.glob("offline-run-*")) == keys
    assert all(any(path.glob("*.wandb")) for path in wandb.glob("offline-run-*"))
    assert sorted(path.name for path in (wandb / "logged").iterdir()) == keys


def test_optuna_opens_the_journal(undisturbed: Done) -> None:
    path = undisturbed.ledger.root / "studies" / STUDY / "optuna.log"
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    for arm in undisturbed.manifest()["arms"]:
        study = optuna.load_study(study_name=f"upright/{arm['variant']}", storage=storage)
        assert [trial.user_attrs["run"] for trial in study.trials] == arm["trials"]
        assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
        assert study.best_trial.user_attrs["run"] == arm["winner"]


def test_status_tells_people_and_programs(undisturbed: Done, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--runs", str(undisturbed.ledger.root), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["num_runs"], report["running"]) == (NUM_RUNS, {})
    (study,) = report["studies"]
    assert (study["study"], study["task"], study["budget"]) == (STUDY, "sprites", "smoke")
    assert [(arm["variant"], arm["trials"], arm["finals"]) for arm in study["arms"]] == [
        (variant, {"completed": 2}, {"completed": 2}) for variant in ("cnn", "stn_affine+affine")
    ]
    assert main(["status", "--runs", str(undisturbed.ledger.root)]) == 0
    printed = capsys.readouterr().out
    assert (
        f"{NUM_RUNS} finished runs" in printed and "2/2: 2 completed" in printed and "No run is in progress." in printed
    )


def test_a_second_call_trains_nothing(undisturbed: Done) -> None:
    before, logged = stamps(undisturbed.folder / "runs/runs"), stamps(undisturbed.folder / "runs/wandb")
    written = tables(undisturbed.folder)
    again = run("sweep", "--budget", "smoke", cwd=undisturbed.folder)
    assert (again.returncode, again.stderr) == (0, "")
    assert f"{NUM_RUNS} of them in the ledger already; nothing is left to train." in again.stdout
    assert "completed stn_affine" not in again.stdout
    assert stamps(undisturbed.folder / "runs/runs") == before
    assert stamps(undisturbed.folder / "runs/wandb") == logged
    assert tables(undisturbed.folder) == written


def test_one_worker_and_two_give_the_same_bytes(undisturbed: Done, tmp_path: Path) -> None:
    alone = sweep_in(tmp_path, jobs=1)
    assert repeatable(tmp_path) == repeatable(undisturbed.folder)
    assert tables(tmp_path) == tables(undisturbed.folder)
    assert alone.manifest() == undisturbed.manifest()


def test_a_stopped_and_a_killed_sweep_go_on_where_they_were(undisturbed: Done, tmp_path: Path) -> None:
    write_sweep(tmp_path)
    command, ledger = ("sweep", "--budget", "smoke", "--jobs", "2"), tmp_path / "runs/runs"

    # Ctrl-C, which a terminal sends to the whole group, while the workers are still being started.
    stopped = start(*command, cwd=tmp_path)
    assert stopped.stdout
    while "trials and" not in stopped.stdout.readline():
        assert stopped.poll() is None
    wait_for(lambda: len(group_of(stopped.pid)) > 2)
    os.killpg(stopped.pid, signal.SIGINT)
    _, stderr = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert stderr.split("\n") == [
        "",
        "Stopped. Finished runs are in the ledger; the same command goes on from here.",
        "",
    ]
    wait_for(lambda: not group_of(stopped.pid))

    killed = start(*command, cwd=tmp_path)
    wait_for(lambda: len(list(ledger.glob("[!.]*/run.json"))) >= 3 or killed.poll() is not None)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    wait_for(lambda: not group_of(killed.pid))
    assert killed.returncode == -signal.SIGKILL
    finished = {path.name for path in ledger.glob("[!.]*")}
    assert 3 <= len(finished) < NUM_RUNS
    before = {name: stamp for name, stamp in stamps(ledger).items() if name.split("/")[0] in finished}

    last = run(*command, cwd=tmp_path)
    assert (last.returncode, last.stderr) == (0, "")
    assert f"{len(finished)} of them in the ledger already" in last.stdout
    after = stamps(ledger)
    assert {name: after[name] for name in before} == before
    assert repeatable(tmp_path) == repeatable(undisturbed.folder)
    assert tables(tmp_path) == tables(undisturbed.folder)
    assert Ledger(tmp_path / "runs").read_study(STUDY) == undisturbed.manifest()
    wandb = tmp_path / "runs/wandb"
    assert len(list(wandb.glob("offline-run-*"))) == len(list((wandb / "logged").iterdir())) == NUM_RUNS
    assert [name for name in contents(tmp_path) if "/." in name] == []


def group_of(leader: int) -> set[int]:
    """Processes of the group that are alive."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) == leader and state != "Z":
            found.add(int(stat.parent.name))
    return found


def test_a_diverging_variant_is_recorded_shown_and_tried_again(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = {
        "trials": 2,
        "wave_size": 2,
        "extras": {"cnn": {"optim.lr": {"min": 0.05, "max": 0.2}}, "stn_affine": {"optim.lr": {"value": 1e12}}},
    }
    protocol = TINY["protocol"] | {"epochs": 1}
    write_sweep(in_folder, name="wild", search=search, protocol=protocol, wandb={"mode": "disabled"})
    command = ["sweep", "--budget", "smoke", "--jobs", "1"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "diverged  stn_affine+affine" in printed
    assert "8/8 " in printed  # both trials of the constant rate are one run, and still two of the eight
    assert printed.count(" diverged ") >= 3
    assert "2 diverged" in printed.partition("Ablation on")[2]
    ledger = Ledger(in_folder / "runs")
    cnn, stn = ledger.read_study("wild-sprites-smoke")["arms"]
    assert stn["winner"] is None and stn["trials"][0] == stn["trials"][1]
    assert cnn["winner"] in cnn["trials"]
    for key in (*stn["trials"], *stn["finals"]):
        record = ledger.read(key)
        assert (record["status"], record["result"]["test_accuracy"]) == ("diverged", None)
    row = (in_folder / "reports/wild-sprites-smoke/ablation.md").read_text()
    assert "| 2 diverged | 2 diverged |" in row and "| 2 completed | 2 completed |" in row

    before = {path.name: path.stat().st_ino for path in (in_folder / "runs/runs").iterdir()}
    assert main([*command, "--retry_failed"]) == 0
    again = capsys.readouterr().out
    assert "4 of them in the ledger already" in again and "8/8 " in again
    after = {path.name: path.stat().st_ino for path in (in_folder / "runs/runs").iterdir()}
    assert set(after) == set(before)
    made_again = {key for key in after if after[key] != before[key]}
    assert made_again == {*stn["trials"], *stn["finals"]}
    assert (in_folder / "reports/wild-sprites-smoke/ablation.md").read_text() == row


def test_a_second_sweep_on_the_same_ledger_is_refused(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(in_folder)
    Ledger(in_folder / "runs")
    before = stamps(in_folder / "runs")
    with FileLock(in_folder / "runs/sweep.lock"):
        assert main(["sweep", "--budget", "smoke"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: runs: another sweep is at work in runs; wait for it or give RUNS=\n"
    assert {name for name in stamps(in_folder / "runs") if name != "sweep.lock"} == set(before)


def test_where_cifar10_cannot_be_had_sprites_take_its_place_and_say_so(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("STN_BENCH_CIFAR10", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens: no download from any machine
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    search = TINY["search"] | {"trials": 1, "extras": {}}
    variants = [{"variant": "cnn", "baseline": "cnn"}]
    write_sweep(
        in_folder,
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
    ledger = Ledger(in_folder / "runs")
    (study,) = ledger.studies()
    assert study == STUDY
    assert {ledger.read(path.name)["task"]["label"] for path in (in_folder / "runs/runs").iterdir()} == {"sprites"}
    for text in tables(in_folder).values():
        assert b"sprites" in text and b"CIFAR" not in text


class HereAndNow:
    """An executor that makes each run at once in this process, and lets the last one given be known first."""

    def __init__(self, *, fails: Callable[[Job], bool] = lambda job: False) -> None:
        self.fails = fails
        self.made: list[Job] = []

    def submit(self, job: Job) -> "Future[str]":
        future: Future[str] = Future()
        self.made.insert(0, job)
        if self.fails(job):
            future.set_exception(WorkerDied("the worker process ended in the middle of the run, twice"))
        else:
            future.set_result(carry_out(job, torch.device("cpu")))
        return future


def sweep_here(folder: Path, executor: HereAndNow, **changes: Any) -> Sweep:
    under_way = Sweep(plan_of(folder, **changes), Ledger(folder / "runs"), store=True)
    under_way.replay()
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers have it
    try:
        under_way.run(cast(LocalExecutor, executor), on_finish=lambda job: None, on_tick=lambda: None)
    finally:
        torch.set_num_threads(num_threads)
    return under_way


def plan_of(folder: Path, **changes: Any) -> Plan:
    study = load_study(write_sweep(folder, **changes), "smoke")
    return make_plan(study, label="", cache=Path(os.environ["STN_BENCH_CACHE"]), say=lambda line: None)


def test_the_order_in_which_runs_end_has_no_say(undisturbed: Done, tmp_path: Path) -> None:
    under_way = sweep_here(tmp_path, HereAndNow())
    assert under_way.ledger.read_study(STUDY) == undisturbed.manifest()


def test_a_run_whose_worker_died_is_a_failed_run_and_the_study_goes_on(tmp_path: Path, cache: Path) -> None:
    executor = HereAndNow(fails=lambda job: job.run.variant == "cnn" and job.run.stage == "trial")
    under_way = sweep_here(tmp_path, executor, protocol=TINY["protocol"] | {"epochs": 1})
    ledger, (cnn, stn) = under_way.ledger, under_way.ledger.read_study(STUDY)["arms"]
    for key in cnn["trials"]:
        record = ledger.read(key)
        assert (record["status"], record["error"]) == (
            "failed",
            "the worker process ended in the middle of the run, twice",
        )
        assert ledger.read(key, "history.json") == [] and ledger.read(key, "cost.json")["seconds"] is None
    assert cnn["winner"] is None and stn["winner"] in stn["trials"]
    # With no trial completed, the final runs have the default setting.
    assert {ledger.read(key)["config"]["optim"]["lr"] for key in cnn["finals"]} == {0.1}
    assert Counter(ledger.read(key)["status"] for key in (*cnn["finals"], *stn["finals"])) == {"completed": 4}


def test_looking_at_a_study_writes_nothing(tmp_path: Path, cache: Path) -> None:
    under_way = Sweep(plan_of(tmp_path), Ledger(tmp_path / "runs", read_only=True), store=False)
    under_way.replay()
    assert [len(arm.jobs) for arm in under_way.arms] == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


def test_more_trials_keep_those_that_are_there(undisturbed: Done, tmp_path: Path) -> None:
    """A larger study on the same ledger asks the same questions first."""
    search = TINY["search"] | {"trials": 3}
    under_way = Sweep(plan_of(tmp_path, search=search), undisturbed.ledger, store=False)
    under_way.replay()
    for arm, known in zip(under_way.arms, undisturbed.manifest()["arms"], strict=True):
        assert arm.trials[:2] == known["trials"]
        assert [job.key in undisturbed.ledger for job in arm.jobs] == [False]
