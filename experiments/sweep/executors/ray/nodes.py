"""The cluster's nodes: who is there, what they have, and what they answer."""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray import exceptions
from ray._private import worker as internals
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from experiments.sweep.executors.node import Misfit
from ledger.errors import UserError

T = TypeVar("T")
Node = dict[str, Any]
"""What `ray.nodes` says of one."""
ANSWER_S = 300.0
"""In which each node answers: it may have to read torch from a slow disk."""
LOOK_S = 5.0
DEAD = "have not registered within the timeout. The process is dead"
"""What a node says in its log of a worker process that has ended before it began, a minute after its start."""


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
    questions = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=there, **resources)
        questions.append(task.remote(*arguments))
    logs, end_s = Logs(), time.monotonic() + ANSWER_S
    while (left_s := end_s - time.monotonic()) > 0:
        _, silent = ray.wait(questions, num_returns=len(questions), timeout=min(LOOK_S, left_s))
        if not silent:
            break
        logs.check(node for node, answer in zip(nodes, questions, strict=True) if answer in silent)
    answers = []
    for node, answer in zip(nodes, questions, strict=True):
        try:
            answers.append(ray.get(answer, timeout=0))
        except exceptions.RayTaskError as error:
            why = f" cannot run stn-bench: {last_line(error)}"
            if isinstance(error.cause, UserError | Misfit):
                why = f"{':' if isinstance(error.cause, UserError) else ''} {error.cause}"
            raise UserError(f"executor: {name_of(node)}{why}") from None
        except exceptions.GetTimeoutError:
            hint = "do others use its GPUs?" if resources else f"Ray's logs there are in {logs.folder}"
            raise UserError(f"executor: {name_of(node)} has not answered for {ANSWER_S:g} s; {hint}") from None
        except exceptions.RayError as error:
            raise UserError(f"executor: {name_of(node)}: {last_line(error)}") from None
    return answers


class Logs:
    """What Ray writes on this machine from now on, as far as it tells why no worker process starts."""

    def __init__(self) -> None:
        self.folder, self._begin = Path("/tmp/ray/session_latest/logs"), dict[str, int]()
        with suppress(AttributeError, OSError):  # another version of Ray may have neither
            self.folder = Path(internals._global_node.get_logs_dir_path())  # type: ignore[attr-defined]
            self._begin = {name: (self.folder / name).stat().st_size for name in ("raylet.out", "raylet.err")}

    def check(self, silent: Iterable[Node]) -> None:
        """Raises UserError if this machine is among the silent nodes, and its worker processes end as they start."""
        here = next((node for node in silent if node["NodeID"] == ray.get_runtime_context().get_node_id()), None)
        if here is None or DEAD not in self._new("raylet.out"):
            return
        lines = re.findall(r"^(?!\[)\S.*(?:rror|xception|denied|not found).*", self._new("raylet.err"), re.MULTILINE)
        why = f" ({lines[-1]:.300})" if lines else ""
        raise UserError(
            f"executor: {name_of(here)}: Ray's worker processes end as they start{why}; its logs are in {self.folder}"
        )

    def _new(self, name: str) -> str:
        with suppress(OSError), open(self.folder / name, encoding="utf-8", errors="replace") as file:
            file.seek(self._begin.get(name, 0))
            return file.read()
        return ""


def last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
