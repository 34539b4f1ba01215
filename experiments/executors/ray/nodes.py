"""The cluster's nodes: who is there, what they have, and what they answer."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from experiments.errors import UserError
from experiments.executors.node import Misfit

T = TypeVar("T")
Node = dict[str, Any]
"""What `ray.nodes` says of one."""
ANSWER_S = 300.0
"""In which each node answers: it may have to read torch from a slow disk."""


def living() -> list[Node]:
    return [node for node in ray.nodes() if node["Alive"]]


def name_of(node: Node) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def num_gpus(node: Node) -> float:
    return float(node["Resources"].get("GPU", 0))


def slots(node: Node, device: str, per_gpu: int) -> int:
    """Runs that the node can make side by side: a core each, and a share of a GPU."""
    cores = int(node["Resources"].get("CPU", 0))
    return min(cores, int(num_gpus(node)) * per_gpu) if device == "cuda" else cores


def ask_all(nodes: Sequence[Node], function: Callable[..., T], *arguments: Any, **resources: float) -> list[T]:
    """What the function answers on each node. Raises UserError where one cannot answer, or is a misfit."""
    asked = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=there, **resources)
        asked.append(task.remote(*arguments))
    ray.wait(asked, num_returns=len(asked), timeout=ANSWER_S)
    answers = []
    for node, answer in zip(nodes, asked, strict=True):
        try:
            answers.append(ray.get(answer, timeout=0))
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                why = f": {error.cause}"
            elif isinstance(error.cause, Misfit):
                why = f" {error.cause}"
            else:
                why = f" cannot run stn-bench: {last_line(error)}"
            raise UserError(f"executor: {name_of(node)}{why}") from None
        except exceptions.GetTimeoutError:
            busy = "; do others use its GPUs?" if resources else ""
            raise UserError(f"executor: {name_of(node)} has not answered for {ANSWER_S:g} s{busy}") from None
        except exceptions.RayError as error:
            raise UserError(f"executor: {name_of(node)}: {last_line(error)}") from None
    return answers


def last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
