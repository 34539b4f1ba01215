"""The hosts that other tests of this room stand on: they are apart, they go when told to, and nothing stays behind."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import network_namespaces
from tests.cluster.network_namespaces import HEAD_COMMANDS, JOIN_COMMANDS, NetworkNamespaces
from tests.cluster.two_hosts import CHECKOUT, Hosts, Kind, Unavailable, two_hosts
from tests.support.command_line import wait_for


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkNamespaces]:
    """For tests that leave them as they were; the last one parts them."""
    try:
        with network_namespaces.hosts(tmp_path_factory.mktemp("hosts")) as made:
            yield made
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.long
@pytest.mark.slow
def test_hosts_join_and_are_lost(hosts: Hosts) -> None:
    first = hosts.nodes()
    assert len(first) == 2
    hosts.join("third")
    assert len(hosts.nodes()) == 3 and hosts.nodes() > first
    hosts.lose("third")
    hosts.wait_for_nodes(2)
    assert hosts.nodes() == first
    hosts.lose("second", silently=True)
    hosts.wait_for_nodes(1)


CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)"


@pytest.mark.long
def test_hosts_share_no_files_and_no_processes(apart: Hosts) -> None:
    assert apart.on("head", "hostname").stdout == "head\n"
    assert apart.on("second", "hostname").stdout == "second\n"
    assert apart.on("head", "sh", "-c", "echo mine >/tmp/file; ls ~/.ray; pwd").stdout.split() == [
        "auth_token",
        str(apart.folder),
    ]
    (apart.folder / "seen").touch()
    assert apart.on("head", "ls").stdout == "seen\n"
    for path in (apart.folder / "seen", "/tmp/file", CHECKOUT / "sweep.yaml"):
        assert apart.on("second", "test", "-e", path).returncode == 1
        assert path == "/tmp/file" or apart.on("head", "test", "-e", path).returncode == 0
    written = "for folder in / /tmp $HOME /var/tmp /root %s %s; do touch $folder/x 2>/dev/null && echo $folder; done"
    allowed = apart.on("second", "sh", "-c", written % (CHECKOUT, sys.prefix)).stdout.split()
    assert sorted(allowed) == sorted(["/tmp", str(apart.cache("second").parents[1])])
    seen = apart.on("second", "ps", "-e", "-o", "args").stdout
    assert "raylet" in seen and "gcs_server" not in seen and sys.argv[0] not in seen


@pytest.mark.long
def test_commands_on_hosts_end_as_they_do_here(apart: Hosts) -> None:
    for shell, status in (("exit 7", 7), ("kill -9 $$", -signal.SIGKILL), ("kill -TERM $$", -signal.SIGTERM)):
        assert apart.on("second", "sh", "-c", shell).returncode == status
    told = apart.popen("second", ["sh", "-c", "trap 'echo told; exit 3' INT; echo ready; while :; do sleep 0.1; done"])
    assert told.stdout is not None
    assert told.stdout.readline() == "ready\n"
    os.killpg(told.pid, signal.SIGINT)
    assert told.stdout.readline() == "told\n" and told.wait() == 3
    told.communicate()


@pytest.mark.long
def test_a_host_that_was_parted_is_lost_to_the_others_and_comes_back(apart: NetworkNamespaces) -> None:
    apart.cut("second")
    apart.wait_for_nodes(1)
    assert apart.on("second", "echo", "alive").stdout == "alive\n"
    apart.mend("second")
    # For some seconds the kernel still holds that there is no way.
    wait_for(lambda: not apart.on("second", sys.executable, "-c", CONNECT, *apart.address.split(":")).returncode)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["network namespaces", "one machine"])
def test_nothing_is_left_when_the_tests_are_killed(kind: Kind, tmp_path: Path) -> None:
    """Neither processes, which name the folder, nor mounts below it."""
    holder = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from tests.cluster.two_hosts import two_hosts
        with two_hosts(Path(sys.argv[1]), sys.argv[2]) as hosts:
            asleep = hosts.popen("second", ["sleep", "4242"])
            print("ready", flush=True)
            time.sleep(600)
        """
    )
    folder = tmp_path / "hosts"
    process = subprocess.Popen(
        [sys.executable, "-c", holder, folder, kind],
        cwd=CHECKOUT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    if process.stdout.readline() != "ready\n":
        said = process.stderr.read()
        assert Unavailable.__name__ in said, said
        pytest.skip(said.splitlines()[-1])
    assert len(processes_with(str(folder))) >= 2
    process.kill()
    process.communicate()
    wait_for(lambda: not processes_with(str(folder)))
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()


def processes_with(word: str) -> list[str]:
    """Command lines or environments of processes that have the word."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            about = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:  # it has just ended
            continue
        if word.encode() in about:
            found.append(f"{process.name}: {about[:100]!r}")
    return found


def test_the_documents_have_the_commands_that_were_tested() -> None:
    said = (CHECKOUT / "docs" / "cluster.md").read_text()
    for command in (*HEAD_COMMANDS, *JOIN_COMMANDS):
        assert command.format(head="HEAD") in said


def test_hosts_that_cannot_be_made_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with (
        pytest.raises(Unavailable, match="no network namespaces here: only root makes"),
        two_hosts(tmp_path, "network namespaces"),
    ):
        raise AssertionError
