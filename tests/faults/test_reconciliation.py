"""What an earlier sweep left of a study is damaged: the next one asks the same questions and makes what is missing.

The sweeps are real but for training: each run's result is made up from its configuration, so that there can be enough
trials for the sampler to learn from them.
"""

import json
import math
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from rich.console import Console

from experiments.runs.run import Job, Outcome, record_files
from experiments.study.plan import Plan
from experiments.study.search import NUM_COMMON_TRIALS
from experiments.study.tuning import num_runs
from experiments.sweep.executors import Workers, local
from experiments.sweep.sweep import Sweep
from experiments.terminal.commands import sweep as command
from ledger.errors import UserError
from ledger.files import to_json
from ledger.ledger import Ledger
from tests.support.command_line import contents
from tests.support.tiny_study import STUDY, TINY, plan_of

NUM_TRIALS, NUM_FINALS, NUM_COMMON = 16, 2, 12
ARMS = ("upright/cnn", "upright/stn_affine+affine")
SEARCH = TINY["search"] | {
    "trials": NUM_TRIALS,
    "wave_size": 3,
    "space": TINY["search"]["space"] | {"optim.weight_decay": {"values": [1e-4, 5e-4, 1e-3]}},
}

COST = {"train_seconds": 1.0, "seconds": 2.0, "images_per_s": 96.0, "peak_memory_mib": 100.0}


def made_up(job: Job) -> Outcome:
    """A result that depends on the run's setting alone: better the closer the rate is to 0.3; the highest diverge."""
    lr = job.run.optim.lr
    if lr > 0.35:
        return Outcome("diverged")
    accuracy = 0.8 - 0.1 * math.log(lr / 0.3) ** 2 - job.run.optim.weight_decay - job.run.seed / 1000
    rows: list[Any] = [{"epoch": epoch, "val_accuracy": accuracy * epoch / 2, "val_loss": 1.0} for epoch in (1, 2)]
    if job.run.stage == "trial" and lr < 0.05:
        return Outcome("pruned", history=rows[:1])
    return Outcome("completed", history=rows)


class MadeUp:
    """An executor that commits made-up results at once. made: keys in their order."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.made, self.left = plan, list[str](), math.inf

    def submit(self, job: Job) -> "Future[str]":
        future: Future[str] = Future()
        if self.left <= 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.made.append(job.key)
        files = {**record_files(job, self.plan.task, made_up(job)), "cost.json": to_json(COST)}
        Ledger(job.ledger).commit(job.key, files)
        future.set_result(job.key)
        return future

    def __enter__(self) -> "MadeUp":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        pass


def sweep(plan: Plan, folder: Path, *, stop_after: float = math.inf) -> list[str]:
    """Carry the study out in the folder as the command does; returns the keys of the runs that it made.

    stop_after: Ctrl-C when so many were made.
    """
    executor = MadeUp(plan)
    executor.left = stop_after
    place, workers = local.ThisMachine(), Workers(1, local.STALL_S)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "LocalExecutor", lambda *arguments: executor)
        patch.setattr(command, "find_study", lambda ledger, name: None)  # tables have tests of their own
        patch.setattr(command, "write_and_show_tables", lambda *arguments, **options: None)
        if stop_after == math.inf:
            command.carry_out_study(plan, folder / "runs", folder / "reports", Console(quiet=True), place, workers)
        else:
            with pytest.raises(KeyboardInterrupt):
                command.carry_out_study(plan, folder / "runs", folder / "reports", Console(quiet=True), place, workers)
    return executor.made


@dataclass(frozen=True)
class Finished:
    """A study that was carried out in peace; its folder is to be copied. made: keys in the order of the runs."""

    plan: Plan
    folder: Path
    made: list[str]
    study: dict[str, Any]
    states: dict[str, Counter[TrialState]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    plan = plan_of(folder, search=SEARCH, final_seeds=NUM_FINALS, wandb={"mode": "disabled"})
    made = sweep(plan, folder)
    return Finished(plan, folder, made, Ledger(folder / "runs").read_study(STUDY), states(folder))


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Path:
    """A folder with the finished study, to be damaged."""
    return shutil.copytree(finished.folder, tmp_path / "copy")


def place(folder: Path, name: str) -> Path:
    """A file of the study."""
    return folder / "runs/studies" / STUDY / name


def states(folder: Path) -> dict[str, Counter[TrialState]]:
    """How many trials of each state the journal has, by arm. No fault of reading is forgiven."""
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(place(folder, "optuna.log"))))
    studies = [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]
    return {study.study_name: Counter(trial.state for trial in study.trials) for study in studies}


def check(finished: Finished, folder: Path, runs: dict[str, bytes]) -> None:
    """The study is there as if it had been carried out in peace; runs: files that must not have changed."""
    assert contents(folder / "runs/runs").items() >= runs.items()
    assert {path.name for path in (folder / "runs/runs").iterdir()} == set(finished.made)
    assert Ledger(folder / "runs").read_study(STUDY) == finished.study
    assert states(folder) == finished.states
    assert not list((folder / "runs/running").iterdir())
    assert sorted(path.name for path in place(folder, "").iterdir()) == ["optuna.log", "study.json"]


def test_the_study_in_peace_is_one_that_can_tell(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sampler learns, its trials end in all three ways, and no two runs are the same."""
    assert NUM_COMMON_TRIALS <= NUM_COMMON < NUM_TRIALS
    assert len(finished.made) == len(set(finished.made)) == 2 * (num_runs(NUM_TRIALS, repeats=True) + NUM_FINALS)
    monkeypatch.setattr("experiments.study.search.NUM_COMMON_TRIALS", NUM_TRIALS)
    under_way = Sweep(finished.plan, Ledger(finished.folder / "runs", read_only=True), store=False)
    under_way.replay()
    for arm, known in zip(under_way.arms, finished.study["arms"], strict=True):
        assert arm.trials[:NUM_COMMON] == known["trials"][:NUM_COMMON]
        assert arm.trials[NUM_COMMON:] and not set(arm.trials[NUM_COMMON:]) & set(known["trials"])
    assert set(finished.states) == set(ARMS)
    total = sum(finished.states.values(), Counter())
    assert set(total) == {TrialState.COMPLETE, TrialState.PRUNED} and sum(total.values()) == 2 * NUM_TRIALS


def torn(path: Path) -> None:
    """Cut off in the middle of a line."""
    content = path.read_bytes()
    middle = content.index(b"\n", len(content) // 2) + 20
    path.write_bytes(content[:middle])


def of_sqlite(path: Path) -> None:
    """What another kind of storage of Optuna's would have left there."""
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE version_info (schema_version INTEGER)")
        database.execute("INSERT INTO version_info VALUES (999)")
        database.commit()


def stale(path: Path) -> None:
    """Trials that a killed sweep had asked for, and a study that nobody knows."""
    backend = JournalFileBackend(str(path))
    storage = optuna.storages.JournalStorage(backend)
    for name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        for _ in range(3):
            study.ask()
    optuna.create_study(study_name="upright/stranger", storage=storage).ask()
    assert any(state[TrialState.RUNNING] for state in states(path.parents[3]).values())


def left_locked(path: Path) -> None:
    """As a process that is killed while it writes leaves it: with both names that the lock has in its life."""
    path.with_name("optuna.log.lock").write_text("")
    path.with_name("optuna.log.lock8f0e7a").write_text("")


def to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("gone")


JOURNALS: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "torn": torn,
    "garbage": lambda path: path.write_bytes(b"\xff\x00" * 1000),
    "of a later version": lambda path: path.write_text('{"op_code": 99, "worker_id": "a"}\n' + path.read_text()),
    "of another storage": of_sqlite,
    "with stale trials": stale,
    "left locked": left_locked,
    "unreadable": lambda path: path.chmod(0),
    "a link to nowhere": to_nowhere,
}


@pytest.mark.parametrize("name", JOURNALS)
def test_a_damaged_journal_is_made_anew(name: str, finished: Finished, copy: Path) -> None:
    """Where the sampler has just begun to learn: the last runs are still to be made."""
    for key in finished.made[-7:]:
        shutil.rmtree(copy / "runs/runs" / key)
    runs = contents(copy / "runs/runs")
    JOURNALS[name](place(copy, "optuna.log"))
    assert sorted(sweep(finished.plan, copy)) == sorted(finished.made[-7:])
    check(finished, copy, runs)


def test_a_folder_in_place_of_the_journal_is_left_to_the_user(finished: Finished, copy: Path) -> None:
    """Who knows what is in it. All else is as it was, and the same command goes on once it is gone."""
    journal, runs = place(copy, "optuna.log"), contents(copy / "runs/runs")
    journal.unlink()
    journal.mkdir()
    (journal / "mine").write_text("")
    with pytest.raises(UserError, match=r"^runs: .*optuna\.log: cannot be replaced \(.+\); move it away$"):
        sweep(finished.plan, copy)
    assert (journal / "mine").exists() and contents(copy / "runs/runs") == runs
    shutil.rmtree(journal)
    assert sweep(finished.plan, copy) == []
    check(finished, copy, runs)


def test_a_copy_of_the_journal_is_the_users(finished: Finished, copy: Path) -> None:
    mine = place(copy, "optuna.log.mine")
    mine.write_text("")
    sweep(finished.plan, copy)
    assert mine.exists()


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """As an earlier version wrote it, which had no checksum."""

    def edit(path: Path) -> None:
        study = json.loads(path.read_text())
        study.pop("sha256", None)
        change(study)
        path.write_text(json.dumps(study))

    return edit


def list_strangers(study: dict[str, Any]) -> None:
    study["arms"][0]["trials"].insert(1, "0123456789abcdef")
    study["arms"][1]["finals"].append("fedcba9876543210")


def list_nothing(study: dict[str, Any]) -> None:
    for arm in study["arms"]:
        arm["trials"], arm["winners"], arm["finals"] = [], [], []


ADDED = ("sampler", "source", "claims", "first", "overlap")
MANIFESTS: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "without what later versions added": edited(lambda study: [study.pop(name) for name in ADDED if name in study]),
    "lists runs that are gone": edited(list_strangers),
    "lists nothing": edited(list_nothing),
    "the arms in another order": edited(lambda study: study["arms"].reverse()),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_what_a_study_consists_of_is_found_again(name: str, finished: Finished, copy: Path) -> None:
    runs = contents(copy / "runs/runs")
    MANIFESTS[name](place(copy, "study.json"))
    assert sweep(finished.plan, copy) == []
    check(finished, copy, runs)


def test_a_study_of_an_older_format_keeps_its_tables(finished: Finished, copy: Path) -> None:
    """Its runs have other keys, so that the study of this version is another one."""
    edited(lambda study: study.update(format=2))(place(copy, "study.json"))
    before = contents(copy / "runs/runs")
    with pytest.raises(UserError, match=r"^runs: .* is of format 2, .*; give RUNS= another name to keep its results$"):
        sweep(finished.plan, copy)
    assert contents(copy / "runs/runs") == before


TORN_MANIFESTS: dict[str, Callable[[Path], object]] = {
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\xff" * 100),
    "a list": lambda path: path.write_text("[]"),
    "edited by hand": lambda path: path.write_text(path.read_text().replace('"num_finals": 2', '"num_finals": 1')),
}


@pytest.mark.parametrize("name", TORN_MANIFESTS)
def test_a_damaged_manifest_is_named_and_nothing_is_done(name: str, finished: Finished, copy: Path) -> None:
    """It holds what was planned at first, which the runs do not say: only the user can give that up."""
    path = place(copy, "study.json")
    TORN_MANIFESTS[name](path)
    before = contents(copy)
    with pytest.raises(UserError, match=r"study\.json: [^\n]*(delete it|verify)[^\n]*$"):
        sweep(finished.plan, copy)
    assert {name: data for name, data in contents(copy).items() if "optuna.log" not in name} == {
        name: data for name, data in before.items() if "optuna.log" not in name
    }
    path.unlink()
    assert sweep(finished.plan, copy) == []
    check(finished, copy, {name[10:]: data for name, data in before.items() if name.startswith("runs/runs/")})


def missing_runs(finished: Finished) -> dict[str, str]:
    """Keys to take out, by what they are."""
    arm = finished.study["arms"][1]
    return {
        "the first trial": arm["trials"][0],
        "a common trial": arm["trials"][4],
        "a trial that the sampler chose": arm["trials"][-2],
        "the last trial": arm["trials"][-1],
        "the winner": arm["winners"][0],
        "a final run": arm["finals"][0],
        "the last final run": arm["finals"][-1],
    }


def test_a_run_that_is_gone_is_made_again_and_no_other(
    finished: Finished, copy: Path, whole: bool, record_figures: Callable[..., None]
) -> None:
    """One after the other, each from the ledger that the last sweep mended; in whole form, every run of the study."""
    runs = {name: data for name, data in contents(copy / "runs/runs").items() if not name.endswith("cost.json")}
    keys = finished.made if whole else list(missing_runs(finished).values())
    for key in keys:
        shutil.rmtree(copy / "runs/runs" / key)
        assert sweep(finished.plan, copy) == [key]
    check(finished, copy, runs)
    record_figures("runs taken out one by one", runs=len(keys), runs_of_the_study=len(finished.made))


@pytest.mark.long
def test_a_sweep_that_is_stopped_again_and_again_proposes_the_same(finished: Finished, tmp_path: Path) -> None:
    """Each time in another state of the journal, with trials that nobody will tell."""
    made: list[str] = []
    num_stale = 0
    while len(made) < len(finished.made):
        # At the end there is nobody left to stop.
        stop_after = 5 if len(made) + 5 < len(finished.made) else math.inf
        made += sweep(finished.plan, tmp_path, stop_after=stop_after)
        num_stale += sum(state[TrialState.RUNNING] for state in states(tmp_path).values())
    assert num_stale and sorted(made) == sorted(finished.made)
    check(finished, tmp_path, {})
