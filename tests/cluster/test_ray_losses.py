"""Which nodes runs are kept from, and begun again for. The cluster's nodes are made up, and tasks only noted."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from experiments.sweep.executors import WorkerDied, Workers
from experiments.sweep.executors.node import Kept, Misfit
from ledger.ledger import Ledger
from tests.support.stopped_runs import job_of
from tests.support.tiny_study import plan_of

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'stn-bench[cluster]'")
from experiments.sweep.executors.ray import nodes, tasks  # noqa: E402  which says the same as an error
from experiments.sweep.executors.ray.tasks import RayExecutor, Run, keep  # noqa: E402

LOST = ray.exceptions.WorkerCrashedError()


def node_of(name: str, **resources: float) -> nodes.Node:
    address = {"NodeManagerHostname": name, "NodeManagerAddress": "10.0.0.1"}
    return {"NodeID": name, "Alive": True, "Resources": resources, **address}


@dataclass
class Cluster:
    """living: who is. asked: what each task was begun with, as Ray's options. cancelled: generators."""

    living: list[nodes.Node]
    asked: list[dict[str, Any]] = field(default_factory=list)
    cancelled: list[object] = field(default_factory=list)

    def options(self, **options: Any) -> "Cluster":
        self.asked.append(options)
        return self

    def remote(self, *arguments: object) -> object:
        return f"generator {len(self.asked)}"

    @property
    def avoided(self) -> str:
        """By the task that was begun last."""
        selected: str = self.asked[-1].get("label_selector", {}).get("ray.io/node-id", "")
        return selected


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster([node_of(name, CPU=2.0) for name in ("a", "b", "c")] + [node_of("no cores")])
    monkeypatch.setattr(tasks, "living", lambda: made.living)
    monkeypatch.setattr(tasks, "make_run_by_ray", made)
    monkeypatch.setattr(tasks, "LOOK_AT_NODES_S", 0.0)
    monkeypatch.setattr(ray, "cancel", lambda generator, force: made.cancelled.append(generator))
    return made


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def executor(cluster: Cluster, cache: Path, tmp_path: Path, said: list[str]) -> RayExecutor:
    return RayExecutor(plan_of(tmp_path), Workers(2, 900.0), said.append)


@pytest.fixture
def run(cache: Path, tmp_path: Path) -> Run:
    return Run(job_of(cache, Ledger(tmp_path / "runs").root), Future())


def begin_on(executor: RayExecutor, run: Run, node_id: str) -> None:
    executor._begin(run)
    run.node_id = node_id


def test_a_run_goes_where_it_was_not_lost(executor: RayExecutor, cluster: Cluster, run: Run) -> None:
    begin_on(executor, run, "b")
    assert cluster.avoided == ""
    executor._end(run, LOST)
    assert executor._queue.get_nowait() is run
    begin_on(executor, run, "a")
    assert cluster.avoided == "!in(b)"
    executor._end(run, LOST)
    begin_on(executor, run, "c")
    assert cluster.avoided == "!in(a,b)"
    executor._end(run, LOST)
    with pytest.raises(WorkerDied, match=r"was lost \(3 times\)$"):
        run.future.result(0)


def test_a_new_checkpoint_says_that_it_was_no_fault_of_the_run(
    executor: RayExecutor, cluster: Cluster, run: Run
) -> None:
    for epoch in (9, 10, 1, 2):  # on another kind of machine it begins anew
        begin_on(executor, run, "a")
        keep(run.job, Kept(f"epoch-{epoch:05}-{'0' * 64}.safetensors", b"content"))
        executor._end(run, LOST)
        assert (run.num_losses, run.lost_on) == (1, {"a"})
        assert [kept.name[:11] for kept in tasks.latest_checkpoint(run.job)] == [f"epoch-{epoch:05}"]


def test_where_no_other_node_is_it_goes_where_it_was_lost(executor: RayExecutor, cluster: Cluster, run: Run) -> None:
    executor._misfits = {"b", "c"}
    begin_on(executor, run, "a")
    executor._end(run, LOST)
    executor._begin(run)
    assert cluster.avoided == "!in(b,c)"


def test_a_run_that_has_come_nowhere_is_kept_from_nowhere(executor: RayExecutor, cluster: Cluster, run: Run) -> None:
    executor._begin(run)
    executor._end(run, LOST)
    executor._begin(run)
    assert cluster.avoided == "" and run.num_losses == 1


def test_when_a_node_leaves_its_runs_and_those_on_their_way_begin_again(
    executor: RayExecutor, cluster: Cluster, said: list[str], cache: Path, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path / "runs").root
    there, elsewhere, on_its_way = (Run(job_of(cache, ledger, seed=seed), Future()) for seed in range(3))
    begin_on(executor, there, "a")
    begin_on(executor, elsewhere, "b")
    begin_on(executor, on_its_way, "")
    cluster.living = cluster.living[1:]
    executor._look_at_nodes()
    assert list(executor._under_way.values()) == [elsewhere]
    assert {executor._queue.get_nowait().job.key for _ in range(2)} == {there.job.key, on_its_way.job.key}
    assert cluster.cancelled == ["generator 3"]
    assert (there.num_losses, on_its_way.num_losses) == (1, 0)
    assert said == ["a (10.0.0.1) has left the cluster; its runs go on elsewhere."]


def test_a_run_is_not_kept_waiting_for_a_node_that_has_left(
    executor: RayExecutor, cluster: Cluster, run: Run, said: list[str]
) -> None:
    executor._misfits = {"c"}
    begin_on(executor, run, "a")
    executor._end(run, LOST)
    executor._under_way.clear()
    executor._begin(run)
    assert cluster.avoided == "!in(a,c)"  # it waits for b
    cluster.living = [node for node in cluster.living if node["NodeID"] != "b"]
    executor._look_at_nodes()
    assert not executor._under_way
    executor._begin(run)
    assert cluster.avoided == "!in(c)"


def test_who_waits_is_told_when_no_node_is_left(
    executor: RayExecutor, cluster: Cluster, run: Run, said: list[str]
) -> None:
    for node_id in "abc":
        begin_on(executor, run, node_id)
        executor._end(run, Misfit("has a GPU for Ray, and none for PyTorch"))
    assert (
        run.num_losses == 0 and said[-1] == "c (10.0.0.1) has a GPU for Ray, and none for PyTorch. Runs go elsewhere."
    )
    executor._look_at_nodes()
    assert said[-1] == "No node of the cluster can take a run now; waiting for one to join."


def test_a_run_whose_worker_died_is_tried_elsewhere_and_fails_as_it_does_here(
    executor: RayExecutor, cluster: Cluster, run: Run
) -> None:
    """Its node may lack memory, or have a broken GPU."""
    death = WorkerDied("out of memory on cpu")
    executor._misfits = {"c"}
    begin_on(executor, run, "a")
    executor._end(run, death)
    assert executor._queue.get_nowait() is run
    begin_on(executor, run, "b")
    assert cluster.avoided == "!in(a,c)"
    executor._end(run, death)
    assert run.future.exception(0) is death


def test_a_node_that_does_not_come_to_our_first_line_is_avoided(
    executor: RayExecutor, cluster: Cluster, run: Run, said: list[str]
) -> None:
    cluster.living[1]["NodeManagerAddress"] = "10.0.0.2"
    missing = ray.exceptions.RayTaskError("make_run", "ImportError: no rich", ImportError("no rich"), ip="10.0.0.2")
    executor._begin(run)
    executor._end(run, missing)
    assert executor._queue.get_nowait() is run and executor._misfits == {"b"}
    assert said == ["b (10.0.0.2) cannot run stn-bench: ImportError: no rich. Runs go elsewhere."]
    begin_on(executor, run, "a")
    executor._end(run, missing)  # which is the run's own, since it had begun
    assert isinstance(run.future.exception(0), ImportError)


def test_a_cluster_that_is_lost_ends_the_sweep_and_fails_no_run(executor: RayExecutor, run: Run) -> None:
    for lost in (ray.exceptions.LocalRayletDiedError(), ray.exceptions.RuntimeEnvSetupError("no disk")):
        with pytest.raises(type(lost)):
            executor._end(run, lost)
    assert not run.future.done() and run.num_losses == 0 and executor._queue.empty()
