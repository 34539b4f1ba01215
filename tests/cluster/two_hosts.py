"""A Ray cluster of two hosts, on this machine.

`network_namespaces.py` makes hosts that share neither network nor files; it needs Linux and root. `one_machine.py` has
two nodes of Ray on one machine, as anyone may. Tests use both in the same way.
"""

import importlib
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests.support.command_line import PATIENCE_S, finish
from tests.support.project import ROOT

CHECKOUT = ROOT
VENV, BASE = Path(sys.prefix), Path(sys.base_prefix)
Kind = Literal["network namespaces", "one machine"]
KINDS: tuple[Kind, ...] = ("network namespaces", "one machine")
PORT = 6379
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "COLUMNS")
HEALTH_CHECKS = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
}
"""For the head: a host that vanishes is taken for dead after a quarter of a minute; else after a whole one."""


class Unavailable(Exception):
    """Such hosts cannot be made here; the message says why."""


class Hosts(ABC):
    """Hosts `head` and `second`, a core each, and those that join.

    kind: which of KINDS. address: of the cluster, as RAY_ADDRESS takes it. folder: the working folder of commands on
    the head; here it has the same path. start_s: seconds until both hosts were up.
    """

    kind: Kind
    address: str
    folder: Path
    start_s: float

    @abstractmethod
    def popen(self, host: str, command: Sequence[object], **environment: str) -> "subprocess.Popen[str]":
        """The command on that host, under way, in `folder` or, on other hosts, in one of their own.

        Its signals and status are those of a process that was started here.
        """

    @abstractmethod
    def join(self, host: str) -> None:
        """Come back when it is one of the cluster's."""

    @abstractmethod
    def lose(self, host: str, *, silently: bool = False) -> None:
        """Kill all that runs there, at once.

        silently: nobody hears of it, as when power is cut. On one machine somebody always does.
        """

    @abstractmethod
    def cache(self, host: str) -> Path:
        """Its decoded images, as seen from here."""

    def start(self, *arguments: object, **environment: str) -> "subprocess.Popen[str]":
        """`python -m experiments ...` on the head, under way, with RAY_ADDRESS set."""
        ours = {"RAY_ADDRESS": self.address, "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
        return self.popen("head", [sys.executable, "-m", "experiments", *arguments], **(ours | environment))

    def run(
        self, *arguments: object, patience_s: float = PATIENCE_S, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """`python -m experiments ...` on the head to its end, with RAY_ADDRESS set."""
        return finish(self.start(*arguments, **environment), patience_s)

    def on(
        self, host: str, *command: object, patience_s: float = PATIENCE_S, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """The command on that host to its end."""
        return finish(self.popen(host, command, **environment), patience_s)

    def nodes(self) -> set[str]:
        """Identities of the nodes that the cluster takes for alive."""
        said = self.on("head", sys.executable, "-c", ASK_FOR_NODES, self.address)
        assert said.returncode == 0, said.stderr
        return set(said.stdout.split())

    def wait_for_nodes(self, number: int) -> float:
        """Seconds until the cluster takes so many for alive."""
        begun_s = time.monotonic()
        while len(self.nodes()) != number:
            assert time.monotonic() - begun_s < PATIENCE_S, f"not {number} nodes: {self.nodes()}"
        return time.monotonic() - begun_s


ASK_FOR_NODES = """
import sys
from ray._raylet import GcsClient
print(*(key.hex() for key, node in GcsClient(address=sys.argv[1]).get_all_node_info().items() if node.state == 0))
"""
"""Without joining the cluster, which would take seconds."""


@contextmanager
def two_hosts(folder: Path, kind: Kind) -> Iterator[Hosts]:
    """Up and running; gone without a trace at the end, and when this process ends in whatever way.

    folder: the disks of the hosts are made there. Raises Unavailable.
    """
    module = importlib.import_module(f"tests.cluster.{kind.replace(' ', '_')}")
    with module.hosts(folder) as hosts:
        yield hosts


def environment_of(home: Path) -> dict[str, str]:
    """Of processes on a host: nothing of ours that Ray or stn-bench would go by."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    ours = {"HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    return passed_on | ours | {"PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
