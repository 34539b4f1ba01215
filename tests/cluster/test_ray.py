"""Runs on a cluster of Ray's that this process has made: one node with two cores and, as it says, a GPU."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.runs.checkpoints import Checkpoints
from experiments.runs.run import Job, make_run
from experiments.study.plan import Plan
from experiments.sweep.executors import WorkerDied, Workers
from experiments.sweep.executors import node as node_module
from experiments.sweep.executors.node import Misfit, versions
from ledger.errors import UserError
from ledger.ledger import Ledger
from tests.support.command_line import wait_for
from tests.support.stopped_runs import CPU, Stopped, as_in_a_worker, files_of, job_of, stop_in
from tests.support.tiny_study import plan_of

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'stn-bench[cluster]'")
from experiments.sweep.executors.ray import Cluster, nodes, tasks  # noqa: E402
from experiments.sweep.executors.ray import cluster as module  # noqa: E402  which says the same as an error
from experiments.sweep.executors.ray.tasks import RayExecutor  # noqa: E402

pytestmark = pytest.mark.long
PATIENCE_S = 200.0
FINAL: dict[str, Any] = {"stage": "final", "seed": 1, "protocol": {"epochs": 8}}
ENDLESS: dict[str, Any] = {"stage": "trial", "protocol": {"epochs": 10_000}}


@pytest.fixture(scope="module")
def node_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The node's own, empty at first."""
    return tmp_path_factory.mktemp("node")


@pytest.fixture(scope="module")
def place(cache: Path, node_cache: Path) -> Iterator[Cluster]:
    real, group = ray.init, os.getpgrp()

    def init(**options: Any) -> object:
        return real(**options | {"num_cpus": 2, "num_gpus": 1, "object_store_memory": 200_000_000})

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("STN_BENCH_CACHE", str(node_cache))
        patch.setattr(ray, "init", init)
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nodes have no tests
        opened = module.open_place()
        cluster = opened.__enter__()
        patch.setenv("STN_BENCH_CACHE", str(cache))
        try:
            yield cluster
        finally:
            opened.__exit__(None, None, None)
            if os.getpgrp() != group:
                os.setpgid(0, group)


@pytest.fixture(scope="module")
def plan(place: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_of(tmp_path_factory.mktemp("study"))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def open_executor(place: Cluster, plan: Plan, said: list[str]) -> Callable[..., RayExecutor]:
    return lambda number=2: place.executor(plan, Workers(number, 900.0, limit=number), said.append)


@pytest.fixture
def make_job(cache: Path, tmp_path: Path) -> Callable[..., Job]:
    return lambda **changes: job_of(cache, Ledger(tmp_path / "runs").root, **changes)


def processes() -> list[int]:
    """That make runs for this process's cluster, or begin to."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::make_run") and os.getpid() in ancestors(folder):
                found.append(int(folder.name))
        except OSError:  # it has just ended
            continue
    return found


def ancestors(process: Path) -> Iterator[int]:
    while (parent := int((process / "stat").read_text().rpartition(")")[2].split()[1])) > 1:
        yield parent
        process = Path("/proc", str(parent))


def test_the_place_says_what_it_is_and_measures_where_the_gpu_is(place: Cluster) -> None:
    assert place.text == f"Ray {ray.__version__} on this machine: 1 node, 2 cores, 1 GPU."
    assert place.num_workers("cpu", 0, 1) == 2
    assert place.num_workers("cpu", 1, 1) == place.num_workers("cuda", 0, 1) == 1
    assert place.num_workers("cpu", 9, 1) == place.num_workers("cuda", 9, 3) == 2  # a core each
    assert place.call(os.getenv, "CUDA_VISIBLE_DEVICES") == "0"


def test_runs_are_those_of_this_machine_and_are_committed_here(
    open_executor: Callable[..., RayExecutor],
    make_job: Callable[..., Job],
    made_here: Callable[..., dict[str, bytes]],
    node_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first runs on a node without the images: they are brought to it once."""
    final, trial = make_job(**FINAL), make_job(stage="trial")
    put, real_put = list[object](), ray.put

    def put_and_tell(value: object) -> object:
        put.append(value)
        return real_put(value)

    monkeypatch.setattr(ray, "put", put_and_tell)
    ledger = Ledger(final.ledger)
    with open_executor() as executor:
        futures = [executor.submit(job) for job in (final, trial)]
        assert [future.result(PATIENCE_S) for future in futures] == [final.key, trial.key]
    assert files_of(final) == made_here(**FINAL)
    assert not list((ledger.root / "running").iterdir())
    for job in (final, trial):
        ledger.check(job.key)
    assert len(put) == 1
    (entry,) = node_cache.glob("*-*")
    assert entry.name.startswith("received-")

    with open_executor() as executor:  # which the node remembers
        assert executor.submit(make_job(stage="trial", seed=7)).result(PATIENCE_S) in ledger
    assert len(put) == 1


def test_errors_of_the_run_itself_are_raised(
    open_executor: Callable[..., RayExecutor], make_job: Callable[..., Job]
) -> None:
    changed = replace(make_job(stage="trial"), key="0" * 16)
    with open_executor() as executor:
        unknown = executor.submit(make_job(variant="cnnn"))
        other_images = executor.submit(changed)
        with pytest.raises(UserError, match=r"unknown model 'cnnn'; did you mean 'cnn'\?$") as refused:
            unknown.result(PATIENCE_S)
        assert type(refused.value) is UserError
        with pytest.raises(ValueError, match="the images have changed since the study began"):
            other_images.result(PATIENCE_S)


def watched(executor: RayExecutor) -> list[str]:
    """The checkpoint that each attempt begins with, as attempts are made."""
    begin, began = executor._begin, list[str]()

    def begin_and_tell(run: tasks.Run) -> None:
        begin(run)
        began.append(run.kept)

    executor._begin = begin_and_tell  # type: ignore[method-assign]
    return began


def test_a_run_whose_process_is_killed_goes_on_from_what_the_ledger_has(
    open_executor: Callable[..., RayExecutor],
    make_job: Callable[..., Job],
    made_here: Callable[..., dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has a checkpoint that nobody has waited for."""
    job = make_job(**FINAL)
    ledger = Ledger(job.ledger)
    as_in_a_worker(monkeypatch)
    with pytest.raises(Stopped):
        make_run(job, CPU, stop_in(4))
    checkpoints = Checkpoints(ledger.checkpoints(job.key), job.key, CPU)
    found = next(checkpoints.found())
    checkpoints._start_s -= 10_000
    for path in checkpoints.folder.iterdir():
        path.unlink()
    checkpoints.keep(found)
    (kept,) = checkpoints.folder.iterdir()
    with open_executor(number=1) as executor:
        began, future, killed = watched(executor), executor.submit(job), set[int]()
        while not killed and not future.done():
            for process in processes():
                os.kill(process, signal.SIGKILL)
                killed.add(process)
        assert future.result(PATIENCE_S) == job.key
    assert began == [kept.name] * 2
    assert files_of(job) == made_here(**FINAL)
    assert ledger.read(job.key, "cost.json")["train_seconds"] > 10_000
    assert not list((ledger.root / "running").iterdir())


def test_the_ledger_hears_of_a_run_on_its_way_and_an_exception_ends_it_within_seconds(
    open_executor: Callable[..., RayExecutor], make_job: Callable[..., Job]
) -> None:
    job = make_job(**ENDLESS)
    ledger = Ledger(job.ledger)
    with pytest.raises(KeyboardInterrupt), open_executor() as executor:  # noqa: PT012
        began, future = watched(executor), executor.submit(job)
        wait_for(lambda: ledger.running().get(job.key, {}).get("epoch", 0) >= 1 or future.done())
        mark = ledger.running()[job.key]
        assert (mark["pid"], mark["variant"], mark["epochs"]) == (os.getpid(), "cnn", 10_000)
        wait_for(lambda: list(ledger.checkpoints(job.key).glob("epoch-*")) or future.done())
        (process,) = processes()
        os.kill(process, signal.SIGKILL)
        wait_for(lambda: len(began) == 2 or future.done())
        assert began[0] == "" and began[1].startswith("epoch-")
        began_s = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - began_s < 5
    assert not future.done() and job.key not in ledger
    end_runs(executor)


def end_runs(executor: RayExecutor) -> None:
    """That were left; else they end with the cluster."""
    for generator in executor._under_way:
        ray.cancel(generator, force=True)
    wait_for(lambda: not processes())


def test_a_run_that_is_lost_again_and_again_is_given_up(
    open_executor: Callable[..., RayExecutor], make_job: Callable[..., Job]
) -> None:
    job, killed = make_job(**ENDLESS), set[int]()
    with open_executor(number=1) as executor:
        began, future = watched(executor), executor.submit(job)
        while not future.done():
            for process in set(processes()) - killed:
                os.kill(process, signal.SIGKILL)
                killed.add(process)
            time.sleep(0.01)
        with pytest.raises(WorkerDied, match=r"^its node, or Ray's process there, was lost \(3 times\)$"):
            future.result()
    assert began == [""] * tasks.NUM_LOSSES and len(killed) >= tasks.NUM_LOSSES
    assert job.key not in Ledger(job.ledger)


def test_other_versions_are_refused_before_anything_trains(place: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "versions", lambda: versions() | {"torch": "1.13.1"})
    with pytest.raises(UserError) as refused:
        Cluster("")
    assert str(refused.value) == (
        f"executor: {name_of_the_node()} has torch {versions()['torch']}, and the sweep's machine torch "
        "1.13.1; install the same on both"
    )


def name_of_the_node() -> str:
    (node,) = nodes.living()
    return nodes.name_of(node)


def no_room(size: int, content_hash: str) -> None:
    raise Misfit(f"has no room for {size} bytes")


def test_a_node_without_room_for_the_images_is_refused(
    open_executor: Callable[..., RayExecutor], plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "check_room", no_room)
    size = sum(part.pixels_NHWC.size + (8 + 4 * 6) * len(part.labels_N) for part in (plan.task.train, plan.task.test))
    with pytest.raises(UserError, match=rf"^executor: .* has no room for {size} bytes$"):
        open_executor()


def broken() -> None:
    raise OSError("no such disk")


def refusing() -> None:
    raise UserError("device: 'mps' is not available")


def asleep() -> None:
    time.sleep(600)


def test_a_node_that_cannot_answer_is_named(place: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    name = name_of_the_node()
    with pytest.raises(UserError) as refused:
        place.call(broken)
    assert str(refused.value) == f"executor: {name} cannot run stn-bench: OSError: no such disk"
    with pytest.raises(UserError) as refused:
        place.call(refusing)
    assert str(refused.value) == f"executor: {name}: device: 'mps' is not available"
    monkeypatch.setattr(nodes, "ANSWER_S", 1.0)
    with pytest.raises(UserError) as refused:
        place.call(asleep)
    assert str(refused.value) == f"executor: {name} has not answered for 1 s; do others use its GPUs?"


def test_a_node_that_turns_out_not_to_fit_is_avoided(
    open_executor: Callable[..., RayExecutor],
    make_job: Callable[..., Job],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "LOOK_AT_NODES_S", 0.5)
    with pytest.raises(KeyboardInterrupt), open_executor() as executor:  # noqa: PT012
        executor._wanted = executor._wanted | {"torch": "1.13.1"}
        attempts = watched(executor)
        future = executor.submit(make_job(**FINAL))
        wait_for(lambda: len(said) == 2 or future.done())
        time.sleep(2)  # for what must not happen
        assert not future.done() and not processes_at_work(executor)
        raise KeyboardInterrupt
    assert said == [
        f"{name_of_the_node()} has torch {versions()['torch']}, and the sweep's machine torch 1.13.1; "
        "install the same on both. Runs go elsewhere.",
        "No node of the cluster can take a run now; waiting for one to join.",
    ]
    assert len(attempts) == 2  # the second waits


def processes_at_work(executor: RayExecutor) -> bool:
    (generator,) = executor._under_way
    return bool(ray.wait([generator], timeout=0)[0])


def test_a_misfit_that_has_just_joined_or_left_is_no_trouble(
    open_executor: Callable[..., RayExecutor], make_job: Callable[..., Job], said: list[str]
) -> None:
    executor, run = open_executor(), tasks.Run(make_job(), Future())
    run.node_id = "beef"
    executor._end(run, Misfit("has torch 1.0"))
    assert executor._queue.get_nowait() is run
    assert executor._misfits == {"beef"} and said == ["A node has torch 1.0. Runs go elsewhere."]


def test_nobody_waits_for_ever_when_the_cluster_fails(
    open_executor: Callable[..., RayExecutor], make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ray.exceptions.RaySystemError("the head is gone")

    with pytest.raises(UserError), open_executor() as executor:  # noqa: PT012
        monkeypatch.setattr(executor, "_end", fail)
        futures = [executor.submit(make_job(variant="cnnn")), executor.submit(make_job(**ENDLESS))]
        for future in futures:
            assert isinstance(future.exception(PATIENCE_S), UserError)
        futures.append(executor.submit(make_job(**FINAL)))
        assert "the head is gone" in str(futures[2].exception(PATIENCE_S))
        futures[0].result()
    end_runs(executor)


def worker_of_a_gpu() -> tuple[str | None, bool]:
    """What a run's process sees of GPUs, and whether it takes another worker when that changes."""
    made: list[object] = []

    class Made:
        def __init__(self, *_: object) -> None:
            made.append(os.environ.get("CUDA_VISIBLE_DEVICES"))

        def __exit__(self, *_: object) -> None: ...

    setattr(node_module, "LocalExecutor", Made)  # noqa: B010  in the node's process, which ends with this
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = node_module._executor("cuda", 900.0, seen)
    again = node_module._executor("cuda", 900.0, seen)
    return seen, first is again and node_module._executor("cuda", 900.0, "another") is not first and made[0] == seen


def test_a_run_on_a_gpu_is_told_which(place: Cluster, plan: Plan, said: list[str]) -> None:
    on_gpus = replace(plan, protocol=replace(plan.protocol, device="cuda"))
    executor = place.executor(on_gpus, Workers(1, 900.0, per_gpu=2), said.append)
    asked = ray.remote(worker_of_a_gpu).options(**executor._options).remote()
    assert ray.get(asked, timeout=PATIENCE_S) == ("0", True)
