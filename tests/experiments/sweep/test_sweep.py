"""A small study through the real command line: what it leaves, what a kill costs, and that nothing else has a say."""

import json
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.storages.journal import JournalFileBackend

from experiments.runs.run import Job
from experiments.sweep.sweep import Sweep
from experiments.terminal.cli import main
from ledger.archive import write_archive
from ledger.config import Optim
from ledger.ledger import Ledger
from ledger.merging import merge
from tests.support.command_line import contents, run, stamps, start, wait_for
from tests.support.tiny_study import NUM_RUNS, STUDY, TINY, HereAndNow, plan_of, sweep_here, tables, write_sweep


def repeatable(folder: Path) -> dict[str, bytes]:
    """All files of the folder's runs that are the same bytes on every repetition."""
    measured = ("cost.json", "SHA256SUMS")  # the second has the hash of the first
    return {name: data for name, data in contents(folder / "runs/runs").items() if not name.endswith(measured)}


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
        assert trials[0]["config"]["optim"]["lr"] == Optim().lr
        accuracies = [record["result"]["val_accuracy"] for record in trials]
        assert arm["winners"] == [arm["trials"][accuracies.index(max(accuracies))]]
        winner = ledger.read(arm["winners"][0])["config"]
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
    runs = " ".join(plan.split())  # lines break where the terminal ends
    assert "width 1, " in runs and "2 trials a variant by tpe " in runs and "each variant 2 final runs" in runs
    assert re.search(r"^ *cnn +\d+ *$", plan, re.MULTILINE)
    assert re.search(r"^ *stn_affine\+affine +cnn +\d+ *$", plan, re.MULTILINE)
    assert "4 final runs; about " in progress
    counts = re.findall(r"^\d+/\d+(?= )", progress, re.MULTILINE)
    assert counts == [f"{number}/{NUM_RUNS}" for number in range(1, NUM_RUNS + 1)]
    assert " s left" in progress
    assert "Ablation on sprites" in progress
    places = (
        "Tables and figures  reports/tiny-sprites-smoke\n",
        "Ledger              runs\n",
        "offline in runs/wandb, as you are not logged in\n",
    )
    assert all(place in progress for place in places)
    assert progress.endswith("\nIt works here: so small a study shows that, and no more.\n")


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
        assert study.best_trial.user_attrs["run"] == arm["winners"][0]


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


@pytest.mark.long
def test_one_worker_and_two_give_the_same_bytes(undisturbed: Done, tmp_path: Path) -> None:
    alone = sweep_in(tmp_path, jobs=1)
    assert repeatable(tmp_path) == repeatable(undisturbed.folder)
    assert tables(tmp_path) == tables(undisturbed.folder)
    assert alone.manifest() == undisturbed.manifest()


def test_ctrl_c_ends_a_sweep_with_one_line(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    # Ctrl-C, which a terminal sends to the whole group, while the workers are still being started.
    stopped = start("sweep", "--budget", "smoke", "--jobs", "2", cwd=tmp_path)
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


def test_the_order_in_which_runs_end_has_no_say(undisturbed: Done, tmp_path: Path) -> None:
    under_way = sweep_here(tmp_path, HereAndNow())
    assert under_way.ledger.read_study(STUDY) == undisturbed.manifest()


def test_what_is_finished_is_counted_as_it_is_named(tmp_path: Path, cache: Path) -> None:
    """Two trials that are alike are one run, and count as two."""
    search = {"trials": 3, "wave_size": 2, "space": {"optim.lr": {"value": 0.1}}}
    variants, protocol = [{"variant": "cnn", "baseline": "cnn"}], TINY["protocol"] | {"epochs": 1}
    plan = plan_of(tmp_path, search=search, variants=variants, protocol=protocol)
    seen: list[int] = []

    def sweep() -> Sweep:
        under_way = Sweep(plan, Ledger(tmp_path / "runs"), store=True)
        under_way.replay()

        def finished(job: Job) -> None:
            assert job.key in under_way.finished()
            assert under_way.num_finished == len(under_way.finished())
            seen.append(under_way.num_finished)

        under_way.run(HereAndNow(), on_finish=finished, on_tick=lambda: None)
        return under_way

    assert sweep().num_finished == 5
    assert seen == [2, 4, 5]  # the third trial was there when it was proposed
    assert sweep().num_finished == 5 and len(seen) == 3


@pytest.mark.long
def test_a_study_is_confirmed_with_other_seeds_and_the_same_tuning(tmp_path: Path, cache: Path) -> None:
    found, executor = sweep_here(tmp_path, HereAndNow()).arms, HereAndNow()
    confirmed = sweep_here(tmp_path, executor, name="confirm", first_seed=101).arms
    assert [(arm.trials, arm.winners) for arm in confirmed] == [(arm.trials, arm.winners) for arm in found]
    assert sorted((job.run.stage, job.run.seed) for job in executor.made) == [("final", 101)] * 2 + [("final", 102)] * 2


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


@pytest.mark.long
def test_a_variant_added_to_a_shipped_ledger_is_all_that_is_trained(undisturbed: Done, tmp_path: Path) -> None:
    """From an archive without weights, and paired with the seeds that are there."""
    write_archive(undisturbed.ledger.root, archive := tmp_path / "ledger.tar.xz", weights=False)
    merge([archive], tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("weights.safetensors"))
    executor = HereAndNow()
    variants = [*TINY["variants"], {"variant": "cnn+flip_crop", "baseline": "cnn"}]
    sweep_here(tmp_path, executor, variants=variants)
    assert {job.run.variant for job in executor.made} == {"cnn+flip_crop"}
    assert [job.run.stage for job in executor.made].count("final") == 2
    write_sweep(tmp_path, variants=variants)
    ended = run("sweep", "--budget", "smoke", cwd=tmp_path)
    assert ended.returncode == 0 and "nothing is left to train" in ended.stdout
    rows = pd.read_csv(tmp_path / "reports" / STUDY / "ablation.csv").set_index("variant")
    assert list(rows.index) == ["cnn", "stn_affine+affine", "cnn+flip_crop"]
    assert rows.loc["cnn+flip_crop", "difference_num_pairs"] == 2
