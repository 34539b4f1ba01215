"""How many runs the nodes of a cluster can make side by side, and what each run asks for. No cluster is needed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.study.plan import Plan
from experiments.sweep.executors import Workers
from ledger.errors import UserError
from tests.support.tiny_study import plan_of

pytest.importorskip("ray", reason="Ray is not installed: pip install 'stn-bench[cluster]'")
from experiments.sweep.executors.ray import Cluster, nodes, tasks
from experiments.sweep.executors.ray import cluster as module  # which says the same as an error
from experiments.sweep.executors.ray.tasks import RayExecutor


def node_of(**resources: float) -> nodes.Node:
    return {"NodeID": "1", "Alive": True, "Resources": resources}


@pytest.fixture
def place() -> Cluster:
    return object.__new__(Cluster)


@pytest.fixture
def plan(tmp_path: Path, cache: Path) -> Plan:
    return plan_of(tmp_path)


def on_gpus(plan: Plan) -> Plan:
    return replace(plan, protocol=replace(plan.protocol, device="cuda"))


@pytest.mark.parametrize(
    ("resources", "device", "per_gpu", "slots"),
    [
        ({"CPU": 8.0}, "cpu", 1, 8),
        ({"CPU": 8.0, "GPU": 2.0}, "cpu", 4, 8),
        ({"CPU": 8.0}, "cuda", 1, 0),
        ({"CPU": 8.0, "GPU": 2.0}, "cuda", 1, 2),
        ({"CPU": 8.0, "GPU": 2.0}, "cuda", 3, 6),
        ({"CPU": 4.0, "GPU": 2.0}, "cuda", 3, 4),
        ({"CPU": 0.5, "GPU": 1.0}, "cpu", 1, 0),
        ({"CPU": 4.0, "GPU": 0.5}, "cuda", 2, 0),
        ({"GPU": 1.0}, "cuda", 2, 0),
        ({}, "cpu", 1, 0),
    ],
)
def test_a_run_takes_a_core_and_a_share_of_a_gpu(
    resources: dict[str, float], device: str, per_gpu: int, slots: int
) -> None:
    assert nodes.slots(node_of(**resources), device, per_gpu) == slots


@pytest.mark.parametrize(
    ("asked", "device", "per_gpu", "number"),
    [
        (0, "cpu", 1, 13),
        (5, "cpu", 1, 5),
        (99, "cpu", 1, 13),
        (0, "cuda", 1, 3),
        (0, "cuda", 4, 9),
        (2, "cuda", 4, 2),
    ],
)
def test_workers_are_as_many_as_have_room(
    asked: int, device: str, per_gpu: int, number: int, place: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = [node_of(CPU=8.0, GPU=2.0), node_of(CPU=4.0), node_of(CPU=1.0, GPU=4.0)]
    monkeypatch.setattr(module, "living", lambda: three)
    assert place.num_workers(device, asked, per_gpu) == number


@pytest.mark.parametrize(("per_gpu", "share"), [(1, 1.0), (2, 0.5), (3, 0.3333), (7, 0.1428)])
def test_runs_ask_for_their_share_of_a_gpu(
    per_gpu: int, share: float, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "living", lambda: [node_of(CPU=8.0, GPU=1.0)])
    workers = Workers(1, 900.0, per_gpu=per_gpu)
    on_a_gpu, on_none = (RayExecutor(each, workers, print)._options for each in (on_gpus(plan), plan))
    assert (on_a_gpu["num_cpus"], on_a_gpu["num_gpus"]) == (1, share)
    assert share * per_gpu <= 1
    assert on_none == {name: value for name, value in on_a_gpu.items() if name != "num_gpus"}


@pytest.mark.parametrize(("asked", "number", "limit"), [(3, 3, 3), (64, 3, 64), (0, 3, 1000), (0, 4000, 4000)])
def test_runs_wait_for_nodes_that_are_yet_to_join_only_where_no_number_was_given(
    asked: int, number: int, limit: int, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "living", list)
    assert RayExecutor(plan, Workers(number, 900.0, limit=asked), print)._limit == limit


@pytest.mark.parametrize(("processes", "limit"), [(2, 2), (0, 1000)])
def test_on_this_machine_no_more_run_than_there_is_memory_for(
    processes: int, limit: int, plan: Plan, place: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module_of in (module, tasks):
        monkeypatch.setattr(module_of, "living", lambda: [node_of(CPU=8.0)])
    monkeypatch.setattr(module, "ask_all", lambda *arguments: [])
    place.processes_here = processes
    assert place.executor(plan, Workers(2, 900.0), print)._limit == limit


@pytest.mark.parametrize(
    ("device", "resources", "lacking"),
    [("cuda", {"CPU": 4.0}, "a GPU and a core"), ("cuda", {"GPU": 4.0}, "a GPU and a core"), ("cpu", {}, "a core")],
)
def test_a_cluster_without_room_for_any_run_is_refused(
    device: str,
    resources: dict[str, float],
    lacking: str,
    plan: Plan,
    place: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "living", lambda: [node_of(**resources)])
    with pytest.raises(UserError) as refused:
        place.executor(on_gpus(plan) if device == "cuda" else plan, Workers(1, 900.0), print)
    assert str(refused.value) == (
        f"executor: no node of the cluster has {lacking} for a run; `ray status` says what they have"
    )


@pytest.mark.parametrize(
    ("seeing", "asked"), [({"a", "b"}, "a"), ({"b"}, "b"), (set(), "a")], ids=["all", "the second", "none"]
)
def test_a_gpu_that_pytorch_sees_is_measured(seeing: set[str], asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    two = [node_of(CPU=8.0, GPU=2.0) | {"NodeID": name} for name in ("b", "a")]
    monkeypatch.setattr(module, "living", lambda: [node_of(CPU=4.0), *two])

    def answer(nodes: list[nodes.Node], function: object, *arguments: object, **resources: float) -> list[object]:
        assert not resources or resources == {"num_gpus": 0.01}
        names = [node["NodeID"] for node in nodes]
        return [name in seeing for name in names] if function is torch.cuda.is_available else names

    monkeypatch.setattr(module, "ask_all", answer)
    assert Cluster("").call(print) == asked
