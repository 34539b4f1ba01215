"""Clusters that cannot be had: one line that says why and what to do, and no process that hangs."""

import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from experiments.sweep.executors import open_place
from experiments.terminal.cli import main
from ledger.errors import UserError
from tests.support.command_line import PATIENCE_S
from tests.support.project import ROOT
from tests.support.tiny_study import write_sweep


@pytest.fixture
def module() -> Any:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'stn-bench[cluster]'")
    from experiments.sweep.executors.ray import cluster

    return cluster


@pytest.fixture
def settings(module: Any) -> Any:
    from experiments.sweep.executors.ray import settings

    return settings


@pytest.fixture
def closed_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Something listens, takes what comes, and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as listener:
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://head:10001", "'ray://head:10001': run this on a machine of the cluster, and give HOST:PORT"),
        ("http://head:8265", "'http://head:8265': run this on a machine of the cluster, and give HOST:PORT"),
        *(
            (address, f"{address!r} is not of the form HOST:PORT, such as 10.0.0.1:6379")
            for address in ("head", "head:", ":6379", "head:ray", "head:65536", "head:-1", "head: 1", "local", " ")
        ),
    ],
)
def test_addresses_that_cannot_be_right(address: str, said: str, module: Any) -> None:
    with pytest.raises(UserError) as refused:
        module.check_address(address)
    assert str(refused.value) == f"RAY_ADDRESS: {said}"


def test_where_nobody_listens(closed_port: int, module: Any) -> None:
    with pytest.raises(UserError) as refused:
        module.connect(f"127.0.0.1:{closed_port}", threading.Event())
    assert str(refused.value) == (
        f"RAY_ADDRESS: no cluster answers at 127.0.0.1:{closed_port} (Connection refused); `ray start --head` there "
        "starts one, and without RAY_ADDRESS this machine is used alone"
    )


def test_a_name_that_nobody_has(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    with pytest.raises(UserError, match=r"no cluster answers at nobody:1 \(Name or service not known\);"):
        module.check_address("nobody:1")


def test_a_machine_that_says_nothing(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", silent)
    with pytest.raises(UserError, match=r"no cluster answers at 10\.0\.0\.1:6379 \(timed out\);"):
        module.check_address("10.0.0.1:6379")


def test_where_somebody_listens_who_is_no_cluster(silent_port: int, module: Any, here: Path) -> None:
    """And the process, of which a thread still waits for an answer, comes to its end."""
    write_sweep(here)
    program = textwrap.dedent(
        """
        import sys
        from experiments.sweep.executors.ray import cluster
        from experiments.terminal.cli import main
        cluster.JOIN_S = 1.0
        sys.exit(main(["sweep", "--budget", "smoke", "--executor", "ray"]))
        """
    )
    began_s = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": f"127.0.0.1:{silent_port}"},
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"error: RAY_ADDRESS: 127.0.0.1:{silent_port}: has not answered as a Ray cluster for 1 s; is it one?\n"
    )
    assert time.monotonic() - began_s < 60


def test_what_ray_says_of_a_cluster_is_one_line(module: Any, monkeypatch: pytest.MonkeyPatch, silent_port: int) -> None:
    def refuse(**options: object) -> None:
        assert options["address"] == f"127.0.0.1:{silent_port}"
        raise RuntimeError("Version mismatch:\n    The cluster was started with:\n        Ray: 2.9.0")

    monkeypatch.setattr(module.ray, "init", refuse)
    with pytest.raises(UserError) as refused:
        module.connect(f"127.0.0.1:{silent_port}", threading.Event())
    said = "Version mismatch: The cluster was started with: Ray: 2.9.0"
    assert str(refused.value) == f"RAY_ADDRESS: 127.0.0.1:{silent_port}: {said}"


def test_without_ray_its_command_is_one_line(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(here)
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    for name in [name for name in sys.modules if name.startswith("experiments.sweep.executors.ray")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["sweep", "--budget", "smoke", "--executor", "ray"]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (
        "",
        "error: executor: Ray is not installed; pip install 'stn-bench[cluster]'\n",
    )
    assert not (here / "runs").exists()


@pytest.mark.long
def test_who_stays_on_this_machine_does_without_ray(here: Path) -> None:
    write_sweep(here)
    program = textwrap.dedent(
        """
        import sys
        from experiments.terminal.cli import main
        for options in ([], ["--executor", "local"]):
            assert main(["plan", "--budget", "smoke", *options]) == 0
            assert not [name for name in sys.modules if name.split(".")[0] == "ray" or "executors.ray" in name]
        """
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=PATIENCE_S
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(("name", "hint"), [("rya", "did you mean 'ray'?"), ("kubernetes", "known: local, ray")])
def test_a_place_that_nobody_knows(name: str, hint: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(here)
    assert main(["sweep", "--budget", "smoke", "--executor", name]) == 2
    assert capsys.readouterr().err == f"error: executor: {name!r} is unknown; {hint}\n"
    with pytest.raises(UserError, match=re.escape(hint)):
        open_place(name)


def test_a_cluster_of_our_own_starts_from_defaults(settings: Any) -> None:
    """And one of others as they have set it; what `uv run` would do to workers is done in neither."""
    theirs = {"RAY_OVERRIDE_RESOURCES": '{"CPU": 64}', "RAY_RUNTIME_ENV_HOOK": "theirs.hook", "RAY_JOB_ID": "1"}
    own, other = dict(theirs), theirs | {"RAY_ADDRESS": "head:6379"}
    for environment in (own, other):
        settings.prepare(environment)
        assert environment["RAY_ENABLE_AUTO_CONNECT"] == environment["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] == "0"
    assert theirs.items() <= other.items()
    assert theirs.keys() & own.keys() == {"RAY_JOB_ID"}
    assert len(own["RAY_AUTH_TOKEN"]) == 64 and "RAY_AUTH_TOKEN" not in other


def test_a_temporary_folder_that_ray_cannot_use_is_passed_over(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MAX_BYTES", 10_000)
    assert settings.choose_folder({"TMPDIR": str(tmp_path)}) == tmp_path
    assert settings.choose_folder({"RAY_TMPDIR": str(tmp_path / "new"), "TMPDIR": "/tmp"}) == tmp_path / "new"
    monkeypatch.setattr(settings, "MAX_BYTES", len(os.fsencode(tmp_path)) - 1)
    assert settings.choose_folder({"TMPDIR": str(tmp_path)}) == Path("/tmp")
    (tmp_path / "file").touch()
    assert settings.choose_folder({"TMPDIR": str(tmp_path / "file")}) == Path("/tmp")


def test_where_ray_can_have_no_folder(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as refused:
        settings.choose_folder({"RAY_TMPDIR": "/" + 50 * "x"})
    said = f"/{50 * 'x'} has a name of more than {settings.MAX_BYTES} bytes"
    hint = "set RAY_TMPDIR to a short folder with room"
    assert str(refused.value) == f"executor: Ray on this machine: {said}: {hint}"
    monkeypatch.setattr(settings, "ROOM", 2**62)
    with pytest.raises(UserError, match=rf"/tmp has only .*B of room; /var/tmp has only .*: {hint}$"):
        settings.choose_folder({})


def test_sockets_fit_where_the_folder_does(settings: Any) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as one:
        longest = f"{settings.MAX_BYTES * 'x'}{settings.SOCKET}"
        with pytest.raises(OSError, match="No such file"):  # and not: path too long
            one.bind(longest)


BROKEN_WORKERS = """
import os, sys
from pathlib import Path
from experiments.sweep.executors.ray import cluster as module
from experiments.terminal.cli import main
real = module.ray.init
def init(**options):
    options["runtime_env"]["py_executable"] = sys.argv[1]
    return real(**options)
module.ray.init = init
sys.exit(main(["sweep", "--budget", "smoke", "--executor", "ray"]))
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "said"), [("ImportError: no such module", r" \(ImportError: no such module\)"), ("", "")]
)
def test_workers_that_cannot_start_are_told_from_slow_ones(words: str, said: str, here: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'stn-bench[cluster]'")
    write_sweep(here)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {words!r} >&2\nexit 1\n")
    python.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_worker_register_timeout_seconds": "5"}
    ended = subprocess.run(
        [sys.executable, "-c", BROKEN_WORKERS, python], capture_output=True, text=True, env=environment,
        timeout=PATIENCE_S,
    )  # fmt: skip
    assert ended.returncode == 2
    where = r"executor: \S+ \(\S+\): Ray's worker processes end as they start"
    assert re.fullmatch(rf"error: {where}{said}; its logs are in \S+/logs\n", ended.stderr)
