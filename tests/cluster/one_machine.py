"""Nodes of Ray on one machine: they share its address and its files, but for the cache of decoded images.

Drivers have the head's cache. Needs no rights that others lack.
"""

import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from experiments.machine.parent_death import PR_SET_PDEATHSIG
from tests.cluster.two_hosts import HEALTH_CHECKS, Hosts, environment_of

HERE = Path(__file__).parent
END_S = 60.0


@contextmanager
def hosts(folder: Path) -> Iterator["OneMachine"]:
    for name in ("home", "work"):
        (folder / name).mkdir(parents=True)
    said = folder / "nodes.txt"
    token = ["ray", "get-auth-token", "--generate"]
    environment = environment_of(folder / "home")
    subprocess.run(token, env=environment, check=True, stdout=subprocess.DEVNULL)
    with said.open("w") as log:
        nodes = subprocess.Popen(
            [sys.executable, HERE / "one_machine_nodes.py"], cwd=folder, env=environment | HEALTH_CHECKS, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield OneMachine(folder, nodes, said)
    finally:
        assert nodes.stdin is not None and nodes.stdout is not None
        nodes.stdin.close()
        nodes.wait(END_S)
        nodes.stdout.close()


def die_with_us() -> None:
    """Between fork and exec: Linux kills this process with the one that forked it."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))


class OneMachine(Hosts):
    kind = "one machine"

    def __init__(self, folder: Path, nodes: "subprocess.Popen[str]", said: Path) -> None:
        assert nodes.stdin is not None and nodes.stdout is not None
        self._root, self._said = folder, said
        self._environment = environment_of(folder / "home")
        self._orders: IO[str] = nodes.stdin
        self._answers: IO[str] = nodes.stdout
        self.folder = folder / "work"
        begun_s = time.monotonic()
        self.address = self._order(do="join", name="head")["address"]
        self.join("second")
        self.start_s = time.monotonic() - begun_s

    def _order(self, **order: str) -> dict[str, Any]:
        print(json.dumps(order | {"cache": str(self.cache(order["name"]))}), file=self._orders, flush=True)
        answer = self._answers.readline()
        assert answer, self._said.read_text()
        return dict(json.loads(answer))

    def popen(self, host: str, command: Sequence[object], **environment: str) -> "subprocess.Popen[str]":
        own = {"STN_BENCH_CACHE": str(self.cache(host))}
        return subprocess.Popen(
            [str(word) for word in command], cwd=self.folder, env=self._environment | own | environment,
            text=True, start_new_session=True, preexec_fn=die_with_us,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def join(self, host: str) -> None:
        self._order(do="join", name=host)

    def lose(self, host: str, *, silently: bool = False) -> None:
        self._order(do="lose", name=host)

    def cache(self, host: str) -> Path:
        return self._root / f"cache-{host}"
