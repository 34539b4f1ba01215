"""Hosts in network namespaces: each with an address, processes, disk and home of its own; no files are shared.

Only the head has this program: on the others an empty folder lies in its place. The first process of a host ends with
the pipe that this process holds, and the kernel ends the others with it; then the host's network and mounts go.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.cluster.two_hosts import (
    BASE,
    CHECKOUT,
    HEALTH_CHECKS,
    PORT,
    VENV,
    Hosts,
    Unavailable,
    environment_of,
)
from tests.support.command_line import finish

HERE = Path(__file__).parent
OWN = ("--net", "--uts", "--ipc", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc")
"""What a host has of its own, for `unshare`."""
NETWORK = "10.77.0"
HEAD_COMMANDS = (
    "ray get-auth-token --generate >/dev/null && chmod go= ~/.ray/auth_token",
    f"ray start --head --port={PORT} --include-dashboard=false",
)
"""As docs/cluster.md has them."""
JOIN_COMMANDS = (f"ray start --address={{head}}:{PORT}",)
SMALL = "--num-cpus=1 --object-store-memory=200000000"
START_S = 120.0


@dataclass
class Host:
    """init: its first process, as this machine numbers it. pipe: it ends when this is closed."""

    folder: Path
    address: str
    unshare: "subprocess.Popen[str]"
    init: int

    @property
    def pipe(self) -> IO[str]:
        assert self.unshare.stdin is not None
        return self.unshare.stdin


def why_not() -> str:
    """Why there can be no such hosts here; "" if there can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    bridge = "ip link add bridge type bridge && mount -t tmpfs tmpfs /mnt && hostname elsewhere"
    try:
        tried = subprocess.run(["unshare", *OWN, "sh", "-c", bridge], capture_output=True, text=True, timeout=START_S)
    except OSError as error:
        return str(error)
    return tried.stderr.strip() if tried.returncode else ""


@contextmanager
def hosts(folder: Path) -> Iterator["NetworkNamespaces"]:
    """Raises Unavailable."""
    if reason := why_not():
        raise Unavailable(f"no network namespaces here: {reason}")
    with ExitStack() as stack:
        yield NetworkNamespaces(folder, stack)


class NetworkNamespaces(Hosts):
    kind = "network namespaces"

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._root, self._stack = folder, stack
        self._hosts: dict[str, Host] = {}
        self._addresses = (f"{NETWORK}.{number}" for number in range(2, 255))
        self._switch = self._begin("sh", "-c", "ip link add bridge type bridge; ip link set bridge up; echo ready; cat")
        begun_s = time.monotonic()
        head = self._plug_in("head")
        self.address, self.folder = f"{head.address}:{PORT}", head.folder / "work"
        for command in HEAD_COMMANDS:
            self._must("head", command)
        self.join("second")
        self.start_s = time.monotonic() - begun_s

    def _begin(self, *command: object) -> "subprocess.Popen[str]":
        """The command as the first process in namespaces of its own, when it has said that it is ready."""
        unshare = subprocess.Popen(
            ["unshare", *OWN, *map(str, command)], text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._stack.callback(_end, unshare)
        assert unshare.stdout is not None and unshare.stderr is not None
        assert unshare.stdout.readline() == "ready\n", unshare.stderr.read()
        return unshare

    def _plug_in(self, name: str) -> Host:
        """A new machine on the network, on which nothing runs."""
        folder = self._root / name
        for each in ("home", "tmp", "work", "nothing"):
            (folder / each).mkdir(parents=True)
        program = CHECKOUT if name == "head" else folder / "nothing"
        unshare = self._begin("sh", HERE / "host.sh", name, folder, CHECKOUT, program, VENV, BASE)
        host = Host(folder, next(self._addresses), unshare, _child(unshare.pid))
        self._hosts[name] = host
        self._at_switch(
            f"ip link add {name} type veth peer name eth0 netns {host.init} && ip link set {name} master bridge up"
        )
        self._must(
            name, f"ip address add {host.address}/24 dev eth0 && ip link set eth0 up && ip route add default dev eth0"
        )
        return host

    def _at_switch(self, command: str) -> None:
        inside = ["nsenter", f"--net=/proc/{_child(self._switch.pid)}/ns/net", "sh", "-c", command]
        subprocess.run(inside, check=True, timeout=START_S)

    def _must(self, name: str, command: str) -> None:
        if command.startswith("ray start"):
            command = f"{command} {SMALL}"
        done = finish(self.popen(name, ["sh", "-c", command], **HEALTH_CHECKS), START_S)
        assert done.returncode == 0, f"{name}: {command}: {done.stdout} {done.stderr}"

    def popen(self, host: str, command: Sequence[object], **environment: str) -> "subprocess.Popen[str]":
        there = self._hosts[host]
        return subprocess.Popen(
            [sys.executable, HERE / "enter.py", str(there.init), *map(str, command)], cwd=there.folder / "work",
            env=environment_of(there.folder / "home") | environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def join(self, host: str) -> None:
        there, head = self._plug_in(host), self._hosts["head"]
        token = Path("home", ".ray", "auth_token")
        (there.folder / token).parent.mkdir(mode=0o700)
        (there.folder / token).write_bytes((head.folder / token).read_bytes())
        for command in JOIN_COMMANDS:
            self._must(host, command.format(head=head.address))

    def lose(self, host: str, *, silently: bool = False) -> None:
        if silently:
            self.cut(host)
        gone = self._hosts.pop(host)
        os.kill(gone.init, signal.SIGKILL)
        gone.unshare.wait()

    def cut(self, host: str) -> None:
        """Part the host from all others; it goes on."""
        self._at_switch(f"ip link set {host} down")

    def mend(self, host: str) -> None:
        self._at_switch(f"ip link set {host} up")

    def cache(self, host: str) -> Path:
        return self._root / host / "home" / ".cache" / "stn-bench"


def _child(parent: int) -> int:
    return int(Path(f"/proc/{parent}/task/{parent}/children").read_text())


def _end(unshare: "subprocess.Popen[str]") -> None:
    for pipe in (unshare.stdin, unshare.stdout, unshare.stderr):
        assert pipe is not None
        pipe.close()
    unshare.wait(START_S)
