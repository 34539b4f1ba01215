"""What a node of a cluster does, without the cluster: it makes runs as this machine makes them, and tells of them."""

import hashlib
import pickle
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.images.tasks import load_task
from experiments.images.tasks.cache import Decoded, cache_folder
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.run import Job, make_run
from experiments.sweep.executors import WorkerDied, local, node
from experiments.sweep.executors.node import Finished, ImagesWanted, Kept, Misfit, News, Progress
from ledger.config import Optim, run_key
from ledger.errors import UserError
from ledger.ledger import Ledger
from tests.faults import faulty_worker
from tests.faults.faulty_worker import ALWAYS, MET, SEEDS
from tests.support.stopped_runs import CPU, as_in_a_worker, job_of

pytestmark = pytest.mark.long

EPOCHS = 12


@pytest.fixture(scope="module", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the node's runs lie, which looks for news all the time; its worker process keeps every epoch."""
    folder = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setattr(local, "begin", faulty_worker.begin)
        patch.setattr(node, "LOOK_S", 0.02)
        patch.setattr(node, "SEND_S", 0.0)
        node._ledger.cache_clear()
        yield folder
        while node._workers:
            node._workers.popitem()[1].__exit__(None, None, None)
        node._ledger.cache_clear()


@pytest.fixture
def job(cache: Path, tmp_path: Path) -> Job:
    """A final run on images that nodes find by their content."""
    return seen_from_afar(job_of(cache, tmp_path / "runs", stage="final", protocol={"epochs": EPOCHS}))


def seen_from_afar(job: Job) -> Job:
    task = load_task("sprites", image_px=32, cache=job.source.cache, say=lambda line: None)
    nowhere = Path("/no/such/cache")
    source = replace(job.source, cache=nowhere, label=task.label, content_hash=task.content_hash)
    return replace(job, source=source, ledger=Path("/no/such/ledger"))


def fetch_never() -> Decoded:
    raise AssertionError("fetched although they are here")


def told_of(job: Job, *kept: Kept, fetch: Callable[[], Decoded] = fetch_never) -> Iterator[News]:
    return node.make_run_on_node(job, node.versions(), fetch, kept, 900.0)


def files_in(folder: Path) -> list[str]:
    found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return [name for name in found if not name.endswith(f"/{MET}")]


def without_cost(finished: News) -> dict[str, bytes]:
    assert isinstance(finished, Finished)
    assert "SHA256SUMS" not in finished.files  # whoever commits them makes it
    return {name: content for name, content in finished.files.items() if name != "cost.json"}


def test_a_run_is_that_of_this_machine_and_is_told_of(
    job: Job, made_here: Callable[..., dict[str, bytes]], scratch: Path
) -> None:
    *told, finished = told_of(job)
    assert without_cost(finished) == made_here(stage="final", protocol={"epochs": EPOCHS})
    names = {"run.json", "history.json", "weights.safetensors", "predictions.safetensors"}
    assert names == without_cost(finished).keys()

    rows = [news.row for news in told if isinstance(news, Progress)]
    assert rows[0]["variant"] == "cnn" and rows[0]["epochs"] == EPOCHS
    epochs = [row["epoch"] for row in rows]
    assert epochs == sorted(set(epochs)) and len(epochs) > 1
    assert all("pid" not in row for row in rows)  # nobody elsewhere knows that process

    kept = [news for news in told if isinstance(news, Kept)]
    assert kept and [each.name for each in kept] == sorted({each.name for each in kept})
    for each in kept:
        assert each.name == f"{each.name[:11]}-{hashlib.sha256(each.content).hexdigest()}.safetensors"
    assert not files_in(scratch) and not list(scratch.glob("*/run*/*"))


def checkpoint_of(job: Job, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """One after three epochs that nobody has waited for."""
    as_in_a_worker(monkeypatch)
    ledger = Ledger(folder)

    class Enough(Exception):
        pass

    def stop(row: Any) -> None:
        if row["epoch"] == 4:
            raise Enough

    with pytest.raises(Enough):
        make_run(replace(job, ledger=folder), CPU, stop)
    checkpoints = Checkpoints(ledger.checkpoints(job.key), job.key, CPU)
    found = next(checkpoints.found())
    checkpoints._start_s -= 10_000
    for path in checkpoints.folder.iterdir():
        path.unlink()
    checkpoints.keep(found)
    (path,) = checkpoints.folder.iterdir()
    return Kept(path.name, path.read_bytes())


def test_a_run_goes_on_from_a_checkpoint_of_another_machine(
    job: Job,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_here: Callable[..., dict[str, bytes]],
    scratch: Path,
) -> None:
    brought = checkpoint_of(replace(job, source=replace(job.source, cache=cache)), tmp_path / "there", monkeypatch)
    assert brought.name.startswith("epoch-00003-")
    *told, finished = told_of(job, brought)
    assert without_cost(finished) == made_here(stage="final", protocol={"epochs": EPOCHS})
    assert isinstance(finished, Finished)
    assert b'"train_seconds": 100' in finished.files["cost.json"]  # the first three were not trained again
    assert all(news.name > brought.name for news in told if isinstance(news, Kept))
    assert not files_in(scratch)


def test_a_checkpoint_that_is_none_costs_nothing_but_time(job: Job) -> None:
    short = replace(job, run=replace(job.run, stage="trial"), key="")
    short = replace(short, key=key_of(short))
    *_, finished = told_of(short, Kept(f"epoch-00003-{'0' * 64}.safetensors", b"torn"))
    assert b'"status": "completed"' in without_cost(finished)["run.json"]


def key_of(job: Job) -> str:
    return run_key(job.run, job.source.content_hash)


def test_what_no_worker_can_do_is_raised(job: Job, scratch: Path) -> None:
    unknown = replace(job, run=replace(job.run, variant="cnnn"))
    with pytest.raises(UserError, match="unknown model 'cnnn'") as refused:
        list(told_of(replace(unknown, key=key_of(unknown))))
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="the images have changed since the study began"):
        list(told_of(replace(job, key="0" * 16)))
    assert not files_in(scratch)


class Scripted:
    """An executor whose one run does what a test says. marks: how far it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.future: Future[str] = Future()
        self.epoch = 0
        monkeypatch.setattr(node, "_executor", lambda *_: self)

    def submit(self, job: Job) -> "Future[str]":
        self.ledger, self.key = Ledger(job.ledger), job.key
        assert job.source.cache == cache_folder()
        return self.future

    def mark(self, epoch: int) -> None:
        self.ledger.mark_running(self.key, {"epoch": epoch})

    def keep(self, epoch: int, content: bytes = b"content") -> str:
        name = f"epoch-{epoch:05}-{'0' * 64}.safetensors"
        (self.ledger.checkpoints(self.key) / name).write_bytes(content)
        return name


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, job: Job) -> Iterator[tuple[Scripted, Iterator[News]]]:
    """A run and what is told of it; it has been told of once."""
    scripted, told = Scripted(monkeypatch), told_of(job)
    submit = scripted.submit

    def submit_and_mark(job: Job) -> "Future[str]":
        future = submit(job)
        scripted.mark(0)
        return future

    monkeypatch.setattr(scripted, "submit", submit_and_mark)
    assert next(told) == Progress({"epoch": 0})
    yield scripted, told
    scripted.ledger.forget_running(scripted.key)


def test_the_latest_checkpoint_is_sent_once(script: tuple[Scripted, Iterator[News]]) -> None:
    run, told = script
    run.keep(1)
    second = run.keep(2, b"2")
    assert next(told) == Kept(second, b"2")
    run.mark(2)
    assert next(told) == Progress({"epoch": 2})  # and no checkpoint again
    tenth = run.keep(10, b"10")
    assert next(told) == Kept(tenth, b"10")


def test_checkpoints_are_sent_no_more_often_than_agreed(
    script: tuple[Scripted, Iterator[News]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, told = script
    monkeypatch.setattr(node, "SEND_BYTES_PER_S", 1e-3)
    run.keep(1)
    assert isinstance(next(told), Kept)  # 7 bytes: the next one two hours later
    run.keep(2)
    run.mark(2)
    assert next(told) == Progress({"epoch": 2})
    run.future.set_exception(WorkerDied("so"))
    with pytest.raises(WorkerDied):
        next(told)


def test_a_checkpoint_that_makes_way_while_it_is_read_is_no_trouble(
    script: tuple[Scripted, Iterator[News]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, told = script
    run.keep(1)
    read = Path.read_bytes

    def read_too_late(path: Path) -> bytes:
        if path.name.startswith("epoch-00001"):
            path.unlink()
            run.keep(2)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_too_late)
    news = next(told)
    assert isinstance(news, Kept) and news.name.startswith("epoch-00002")


def test_a_worker_that_dies_is_told_in_its_own_words(script: tuple[Scripted, Iterator[News]], scratch: Path) -> None:
    run, told = script
    run.keep(1)
    death = WorkerDied("the worker was killed by SIGKILL (2 attempts)")
    run.future.set_exception(death)
    with pytest.raises(WorkerDied) as raised:
        list(told)
    assert raised.value is death
    assert not files_in(scratch)


def test_faults_cross_to_another_machine() -> None:
    for fault in (Misfit("has torch 1.0"), WorkerDied("so"), ImagesWanted(), UserError("so")):
        again = pickle.loads(pickle.dumps(fault))
        assert type(again) is type(fault) and again.args == fault.args


def test_images_that_are_not_there_are_fetched_and_kept(
    job: Job, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scratch: Path
) -> None:
    task = load_task("sprites", image_px=32, cache=cache, say=lambda line: None)
    own = tmp_path / "own"
    monkeypatch.setenv("STN_BENCH_CACHE", str(own))

    def bring_nothing() -> Decoded:
        raise ImagesWanted

    def bring_others() -> Decoded:
        return Decoded(task.classes, task.test, task.train, task.content_hash)

    with pytest.raises(ImagesWanted):
        next(told_of(job, fetch=bring_nothing))
    with pytest.raises(ValueError, match="the images that arrived are not those that were sent"):
        next(told_of(job, fetch=bring_others))
    assert not list(own.iterdir())

    fetched = []

    def bring() -> Decoded:
        fetched.append(1)
        return Decoded(task.classes, task.train, task.test, "")

    trial = replace(job, run=replace(job.run, stage="trial", protocol=replace(job.run.protocol, epochs=1)))
    for seed in (1, 2):
        each = replace(trial, run=replace(trial.run, seed=seed))
        *_, finished = told_of(replace(each, key=key_of(each)), fetch=bring)
        assert b'"completed"' in without_cost(finished)["run.json"]
    assert len(fetched) == 1
    (entry,) = own.iterdir()
    assert entry.name.startswith("received-")
    assert not files_in(scratch)


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"optim": Optim(lr=9e5, weight_decay=9e5)}, b'"diverged"', b"null"),
        ({"seed": SEEDS["allocator"] + ALWAYS}, b'"failed"', b'"out of memory on cpu"'),
    ],
)
def test_a_run_that_fails_comes_back_as_such(
    changes: dict[str, Any], status: bytes, error: bytes, cache: Path, tmp_path: Path
) -> None:
    job = seen_from_afar(job_of(cache, tmp_path, stage="trial", **changes))
    *_, finished = told_of(job)
    record = without_cost(finished)["run.json"]
    assert b'"status": ' + status in record and b'"error": ' + error in record
    assert job.key.encode() in record
