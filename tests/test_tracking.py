"""Replaying runs to W&B: its offline files are read back by W&B itself; online against a server on this machine."""

import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from experiments.errors import UserError
from experiments.tracking import Tracker, dashboard, log_run, read_marker, resolve_mode, sync

CLASSES = ["cat", "dog", "owl"]
FINAL, DIVERGED, BROKEN = "0123456789abcdef", "1123456789abcdef", "2123456789abcdef"
API_KEY = "0123456789abcdef" * 3
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and no W&B variables: what the machine is logged in to has no say."""
    home = tmp_path / "home-of-somebody"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    return home


def commit(
    ledger: Path, key: str, *, stage: str = "final", status: str = "completed", epochs: int = 3, seed: int = 3
) -> None:
    """Put a run into the ledger, as docs/architecture.md describes it."""
    folder = ledger / "runs" / key
    folder.mkdir(parents=True)
    scored, final = epochs > 0, stage == "final" and epochs > 0
    run = {
        "format": 1,
        "key": key,
        "status": status,
        "error": None if status in ("completed", "pruned") else "the loss is not a number in epoch 1",
        "config": {
            "variant": "stn_affine@lenet+affine",
            "seed": seed,
            "stage": stage,
            "pose": "R",
            "protocol": {"epochs": 3, "batch_size": 128, "schedule": "one_cycle"},
            "optim": {"lr": 0.1, "weight_decay": 0.0005},
            "model": {"loc_lr_factor": 0.1},
            "policy": {"max_deg": 30.0},
            "prune_below": [0.2],
        },
        "task": {"name": "folder", "label": "Pets (JPEG)", "content_hash": "ab" * 32, "classes": CLASSES},
        "protocol_hash": "1a2b3c4d",
        "result": {
            "epochs": epochs,
            "num_parameters": 243146 if scored else None,
            "train_flops": 3.2e12 if scored else None,
            "val_accuracy": 0.25 + 0.1 * epochs if scored else None,
            "val_loss": 1.3 if scored else None,
            "val_class_accuracy": [0.5, 0.6, 0.7] if scored else None,
            "test_accuracy": 0.54 if final else None,
            "test_loss": 1.4 if final else None,
            "test_class_accuracy": [0.4, 0.5, 0.72] if final else None,
        },
    }
    history = [
        {
            "epoch": e,
            "lr": 0.1 / e,
            "train_loss": 2 / e,
            "train_accuracy": 0.3,
            "val_loss": None,
            "val_accuracy": 0.25 + 0.1 * e,
        }
        for e in range(1, epochs + 1)
    ]
    cost = {
        "train_seconds": 21.3,
        "seconds": 24.0,
        "images_per_s": 1410.0,
        "peak_memory_mib": 512.0,
        "threads": 1,
        "started": "2026-11-22T10:00:00Z",
        "device": "cpu",
        "device_name": "Abacus 9",
        "versions": {"torch": "2.14.1"},
    }
    for name, content in (("run", run), ("history", history), ("cost", cost)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    if final:
        Image.new("RGB", (64, 32), (9, 80, 7)).save(folder / "transformer.png")
        (folder / "weights.safetensors").write_bytes(key.encode() * 100)


@functools.cache
def inspect(folder: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-P", "-m", "wandb", "leet", "inspect", str(folder), "--json"]
    env = {**os.environ, "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    read = subprocess.run(command, capture_output=True, text=True, env=env, check=True, cwd=folder)
    return [json.loads(line) for line in read.stdout.splitlines()]


class Offline:
    """What W&B's own reader finds in one run's offline files."""

    def __init__(self, ledger: Path, key: str) -> None:
        (self.folder,) = (ledger / "wandb").glob(f"offline-run-*-{key}")
        self.records = inspect(self.folder)

    def all(self, kind: str) -> list[Any]:
        return [record[kind] for record in self.records if record["type"] == kind]

    @property
    def run(self) -> dict[str, Any]:
        return cast(dict[str, Any], self.all("run")[0])

    @property
    def exit_code(self) -> int:
        (record,) = self.all("exit")
        return cast(int, record["exit_code"])

    @property
    def config(self) -> dict[str, Any]:
        return cast(dict[str, Any], self.run["config"]["update"])

    @property
    def history(self) -> list[dict[str, Any]]:
        return [record["item"] for record in self.all("history")]

    @property
    def summary(self) -> dict[str, Any]:
        return {name: value for record in self.all("summary") for name, value in record["update"].items()}


@dataclass(frozen=True)
class Logged:
    """A ledger whose runs were logged offline by a program of its own, and what that program said and did."""

    ledger: Path
    home: Path
    said: dict[str, Any]
    sockets: str | None


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    folder = tmp_path_factory.mktemp("offline")
    ledger, home, trace = folder / "runs", folder / "home-of-somebody", folder / "trace"
    home.mkdir()
    commit(ledger, FINAL)
    commit(ledger, DIVERGED, stage="trial", status="diverged", epochs=0)
    commit(ledger, BROKEN)
    (ledger / "runs" / BROKEN / "transformer.png").write_bytes(b"not a picture")
    for leftover in (f"offline-run-20200101_000000-{FINAL}", f"offline-run-20200101_000000-{FINAL}-1"):
        (ledger / "wandb" / leftover).mkdir(parents=True)
        (ledger / "wandb" / leftover / f"run-{FINAL}.wandb").write_bytes(b"half")
    (ledger / "wandb" / f"offline-run-20200101_000000-{FINAL}0").mkdir()  # of another run
    program = f"""
import json, sys
from pathlib import Path
from experiments.tracking import Tracker, resolve_mode
mode = resolve_mode("auto")
keys = {[FINAL, DIVERGED, BROKEN, "not-in-the-ledger"]}
with Tracker(Path({str(ledger)!r}), project="proj", group="study-cpu", mode=mode, tags=["cpu"], keys=keys) as tracker:
    missing = tracker.close(60)
print(json.dumps(dict(mode=mode, missing=missing, problem=tracker.problem, imported="wandb" in sys.modules)))"""
    command = [sys.executable, "-c", program]
    strace = shutil.which("strace")
    traced = strace is not None and subprocess.run([strace, "-f", "true"], capture_output=True).returncode == 0
    if traced:
        calls = "trace=socket,connect,sendto,sendmsg"
        command = [str(strace), "-f", "-e", calls, "-s", "0", "-o", str(trace), *command]
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_") and name != "NETRC"}
    done = subprocess.run(command, env={**env, "HOME": str(home)}, cwd=ROOT, capture_output=True, text=True, check=True)
    return Logged(ledger, home, json.loads(done.stdout), trace.read_text() if traced else None)


def test_without_an_account_runs_are_logged_offline(logged: Logged) -> None:
    assert logged.said["mode"] == "offline"
    assert logged.said["imported"] is False  # a fault in wandb stays in the tracker's process
    marker = read_marker(logged.ledger, FINAL)
    assert marker is not None
    assert (marker["project"], marker["group"], marker["tags"]) == ("proj", "study-cpu", ["cpu"])
    assert marker["uploaded"] is False
    assert marker["folder"] == Offline(logged.ledger, FINAL).folder.name  # one: what an attempt left over is gone
    assert (logged.ledger / "wandb" / f"offline-run-20200101_000000-{FINAL}0").exists()


def test_offline_run_read_back(logged: Logged) -> None:
    run = Offline(logged.ledger, FINAL)
    assert run.run["run_id"] == FINAL
    assert run.run["project"] == "proj"
    assert run.run["run_group"] == "study-cpu"
    assert run.run["job_type"] == "final"
    assert run.run["display_name"] == "stn_affine@lenet+affine s3"
    assert run.run["tags"] == ["Pets (JPEG)", "stn_affine", "pose R", "policy affine", "completed", "cpu"]
    assert run.config["optim"] == {"lr": 0.1, "weight_decay": 0.0005}
    assert run.config["model"] == {"loc_lr_factor": 0.1}
    assert run.config["names"] == {"model": "stn_affine", "backbone": "lenet", "policy": "affine"}
    assert run.config["task"] == {"name": "folder", "label": "Pets (JPEG)", "content_hash": "ab" * 32, "num_classes": 3}
    assert run.config["protocol_hash"] == "1a2b3c4d"
    assert run.config["device_name"] == "Abacus 9"
    assert run.config["versions"] == {"torch": "2.14.1"}

    assert [row["epoch"] for row in run.history] == [1, 2, 3]
    assert [row["val/accuracy"] for row in run.history] == [0.35, 0.45, 0.55]
    assert [row["train/loss"] for row in run.history] == pytest.approx([2, 1, 2 / 3])
    assert all("val/loss" not in row for row in run.history)  # null in the ledger: not measured
    steps = {metric.get("name") or metric["glob_name"]: metric.get("step_metric") for metric in run.all("metric")}
    assert steps == {"epoch": None, "*": "epoch"}
    for name, value in {
        "status": "completed",
        "val_accuracy": 0.55,
        "test_accuracy": 0.54,
        "test_loss": 1.4,
        "num_parameters": 243146,
        "train_flops": 3.2e12,
        "seconds": 24.0,
        "images_per_s": 1410.0,
        "peak_memory_mib": 512.0,
    }.items():
        assert run.summary[name] == value
    assert "error" not in run.summary

    table = json.loads((run.folder / "files" / run.summary["class_accuracy.path"]).read_text())
    assert table["columns"] == ["class", "val_accuracy", "test_accuracy"]
    assert table["data"] == [["cat", 0.5, 0.4], ["dog", 0.6, 0.5], ["owl", 0.7, 0.72]]
    picture = run.folder / "files" / run.summary["transformer.path"]
    assert picture.read_bytes() == (logged.ledger / "runs" / FINAL / "transformer.png").read_bytes()
    (weights,) = [artifact for artifact in run.all("artifact") if artifact["type"] == "model"]
    assert weights["name"] == f"weights-{FINAL}"
    assert weights["manifest"]["contents"][0]["local_path"] == f"runs/{FINAL}/weights.safetensors"
    assert run.exit_code == 0

    diverged = Offline(logged.ledger, DIVERGED)
    assert diverged.run["job_type"] == "trial"
    assert "diverged" in diverged.run["tags"]
    assert diverged.history == []
    assert diverged.summary["status"] == "diverged"
    assert diverged.summary["error"] == "the loss is not a number in epoch 1"
    assert "val_accuracy" not in diverged.summary
    assert diverged.exit_code == 1


def test_offline_files_name_neither_machine_nor_user(logged: Logged) -> None:
    run = Offline(logged.ledger, FINAL)
    assert not {"host", "settings", "git"} & set(run.run)
    assert not run.all("environment")  # W&B's record of machine, user, program, arguments and folders
    files = [file for file in (logged.ledger / "wandb").rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".wandb", ".json", ".png", ""}  # no logs
    for file in files:
        content = file.read_bytes()
        for secret in (logged.home, logged.ledger, ROOT, sys.executable, "experiments.tracking"):
            assert str(secret).encode() not in content, f"{secret} in {file}"
    assert list(logged.home.iterdir()) == []


def test_offline_opens_no_connection(logged: Logged) -> None:
    if logged.sockets is None:
        pytest.skip("needs strace")
    assert "AF_UNIX" in logged.sockets  # between wandb and wandb-core
    assert "AF_INET" not in logged.sockets


def test_run_that_cannot_be_read_costs_only_itself(logged: Logged) -> None:
    assert logged.said["missing"] == 1
    assert f"run {BROKEN} was not logged" in logged.said["problem"]
    assert "\n" not in logged.said["problem"]
    assert read_marker(logged.ledger, BROKEN) is None
    assert not list((logged.ledger / "wandb").glob(f"*-{BROKEN}"))


def test_logged_runs_start_no_process(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started for a run that is logged")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with Tracker(logged.ledger, project="p", group="g", mode="offline", keys=[FINAL]) as tracker:
        tracker.log(FINAL)
        assert tracker.close() == 0
    with Tracker(logged.ledger, project="p", group="g", mode="disabled", keys=[BROKEN]) as tracker:
        assert tracker.close() == 0
    assert tracker.problem is None


def test_dashboard(logged: Logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no runs to show"):
        dashboard(tmp_path)

    class Replaced(Exception):
        """What this process would have become."""

    def execve(*arguments: object) -> None:
        raise Replaced(*arguments)

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(Replaced) as replaced:
        dashboard(logged.ledger)
    _, command, env = replaced.value.args
    assert command[1:] == ["-P", "-m", "wandb", "leet", str(logged.ledger / "wandb")]
    (run,) = (logged.ledger / "wandb").glob(f"offline-run-*-{FINAL}")
    inspect = [*command[:-1], "inspect", "--summary", "--json", str(run)]
    summary = json.loads(subprocess.run(inspect, env=env, capture_output=True, check=True).stdout)
    assert "val_accuracy" in json.dumps(summary)


def test_tracker_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, project="p", group="g", mode="offline")
    with tracker:
        tracker.log("k")
        assert tracker._process
        os.kill(tracker._process.pid, signal.SIGSTOP)
        started = time.monotonic()
        for i in range(5000):  # more than the pipe holds
            tracker.log(f"k{i}")
        assert time.monotonic() - started < 5
        os.kill(tracker._process.pid, signal.SIGINT)  # Ctrl-C is not for it
        started = time.monotonic()
        assert tracker.close(0.1) == 5001
        assert time.monotonic() - started < 5


def test_tracker_ends_with_its_program(tmp_path: Path) -> None:
    commit(tmp_path, "k1")
    program = f"""
import os, signal
from pathlib import Path
from experiments.tracking import Tracker
tracker = Tracker(Path({str(tmp_path)!r}), project="p", group="g", mode="offline")
tracker.log("k1")
print(tracker._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    pid = done.stdout.strip()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert read_marker(tmp_path, "k1") is None


def test_mode(logged: Logged, no_account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_mode("auto") == "offline"
    assert resolve_mode("disabled") == "disabled"
    with pytest.raises(UserError, match="not logged in"):
        resolve_mode("online")
    with pytest.raises(UserError, match="did you mean 'offline'"):
        resolve_mode("ofline")
    with pytest.raises(UserError, match="not logged in"):
        sync(logged.ledger, print)

    # A netrc entry counts for its own server only.
    (no_account / ".netrc").write_text(f"machine 127.0.0.1:9 login user password {API_KEY}\n")
    assert resolve_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode("auto") == "disabled"
    monkeypatch.setenv("WANDB_MODE", "fast")
    with pytest.raises(UserError, match="WANDB_MODE"):
        resolve_mode("auto")
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_BASE_URL")
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    assert resolve_mode("auto") == "online"


class Server:
    """Enough of W&B's protocol, on this machine, to take runs: GraphQL, file_stream and uploads.

    runs: by id, what arrived: the arguments of the run, `config`, `history`, `summary`, `exit_code`, `files`.
    artifacts: by name, type and content. status: what every request is answered with, if not 200.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.status = 200
        self.num_requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.num_requests += 1
                answer = server.answer(self.path, body) if server.status == 200 else {}
                content = json.dumps(answer).encode()
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_PUT = do_GET = do_POST

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None: ...  # W&B hangs up as it likes

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/graphql":
            query = json.loads(body)
            return {"data": getattr(self, query["operationName"], lambda **_: {})(**(query.get("variables") or {}))}
        if match := re.fullmatch(r"/files/team/[^/]+/([^/]+)/file_stream", path):
            run, sent = self.runs[match[1]], json.loads(body)
            for name, chunk in sent.get("files", {}).items():
                lines = [json.loads(line) for line in chunk["content"]]
                if name == "wandb-history.jsonl":
                    run["history"][chunk["offset"] :] = lines
                elif name == "wandb-summary.json":
                    run["summary"] = lines[-1]
            run["exit_code"] = sent.get("exitcode", run["exit_code"])
        elif path.startswith("/upload/run/"):
            _, _, _, run_id, name = path.split("/", 4)
            self.runs[run_id]["files"][name] = body
        elif path.startswith("/upload/artifact/"):
            _, _, _, name, file = path.split("/", 4)
            self.artifacts[name]["files"][file] = body
        return {}

    def UpsertBucket(self, **run: Any) -> dict[str, Any]:
        known = self.runs.setdefault(
            run["name"], {"config": {}, "history": [], "summary": {}, "exit_code": None, "files": {}, "upserts": 0}
        )
        known["upserts"] += 1
        known["config"] |= {name: part["value"] for name, part in json.loads(run.pop("config") or "{}").items()}
        known.update({name: value for name, value in run.items() if value is not None})
        project = {"id": "p", "name": known["project"], "entity": {"id": "e", "name": run["entity"] or "team"}}
        bucket = {"id": run["name"], "name": run["name"], "displayName": known.get("displayName"), "description": ""}
        bucket |= {"config": "{}", "sweepName": None, "historyLineCount": 0, "project": project}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def ServerFeaturesQuery(self) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def CreateRunFiles(self, run: str, files: list[str], **_: Any) -> dict[str, Any]:
        links = [{"name": name, "uploadUrl": f"{self.url}/upload/run/{run}/{name}"} for name in files]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": links}}

    def CreateArtifact(self, input: dict[str, Any]) -> dict[str, Any]:
        name = input["artifactCollectionName"]
        self.artifacts[name] = {"type": input["artifactTypeName"], "run": input["runName"], "files": {}}
        artifact = {"id": name, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def CreateArtifactManifest(self, artifactID: str, name: str, **_: Any) -> dict[str, Any]:
        file = {"id": "f", "uploadUrl": f"{self.url}/upload/artifact/{artifactID}/{name}", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def CreateArtifactFiles(self, input: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for file in input["artifactFiles"]:
            artifact = file["artifactID"]
            url = f"{self.url}/upload/artifact/{artifact}/{file['name']}"
            node: dict[str, Any] = {
                "storagePath": "s",
                "uploadUrl": url,
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
            }
            edges.append({"node": {**node, "artifact": {"id": artifact}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def CommitArtifact(self, artifactID: str) -> dict[str, Any]:
        self.artifacts[artifactID]["committed"] = True
        return {"commitArtifact": {"artifact": {"id": artifactID, "digest": "d"}}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    yield server
    server.close()


def test_online_run_arrives(tmp_path: Path, server: Server) -> None:
    commit(tmp_path, "k1")
    commit(tmp_path, "k2", stage="trial", status="failed", epochs=0)
    mode = resolve_mode("auto")
    assert mode == "online"
    with Tracker(tmp_path, project="proj", group="study-cpu", mode=mode, keys=["k1", "k2"]) as tracker:
        assert tracker.close(60) == 0
    assert tracker.problem is None
    assert set(server.runs) == {"k1", "k2"}

    run = server.runs["k1"]
    assert run["project"] == "proj"
    assert run["groupName"] == "study-cpu"
    assert run["jobType"] == "final"
    assert run["displayName"] == "stn_affine@lenet+affine s3"
    assert run["tags"] == ["Pets (JPEG)", "stn_affine", "pose R", "policy affine", "completed"]
    assert run["config"]["optim"] == {"lr": 0.1, "weight_decay": 0.0005}
    assert run["program"] == "stn-bench"
    assert not run.get("host")
    assert [(row["epoch"], row["val/accuracy"]) for row in run["history"]] == [(1, 0.35), (2, 0.45), (3, 0.55)]
    assert run["summary"]["test_accuracy"] == 0.54
    assert run["exit_code"] == 0
    assert run["files"][run["summary"]["transformer"]["path"]].startswith(b"\x89PNG")
    assert json.loads(run["files"][run["summary"]["class_accuracy"]["path"]])["data"][0] == ["cat", 0.5, 0.4]
    weights = server.artifacts["weights-k1"]
    assert (weights["type"], weights["run"], weights["committed"]) == ("model", "k1", True)
    assert weights["files"]["weights.safetensors"] == (tmp_path / "runs/k1/weights.safetensors").read_bytes()

    assert server.runs["k2"]["exit_code"] == 1
    assert server.runs["k2"]["summary"]["status"] == "failed"
    for content in (json.dumps(server.runs, default=repr), json.dumps(server.artifacts, default=repr)):
        for secret in (str(tmp_path), str(ROOT), sys.executable, API_KEY):
            assert secret not in content
    assert not list((tmp_path / "wandb").rglob("debug-cli*"))  # named for the user

    num_requests = server.num_requests
    assert log_run(tmp_path, "k1", project="proj", group="study-cpu", mode="online") is None
    assert sync(tmp_path, print) == 0
    assert server.num_requests == num_requests


def test_faults_leave_runs_offline_for_sync(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("k1", "k2", "k3"):
        commit(tmp_path, key)
    with socket.socket() as taken, monkeypatch.context() as away:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        away.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        started = time.monotonic()
        with Tracker(tmp_path, project="proj", group="g", mode="online", tags=["cpu"], keys=["k1"]) as tracker:
            assert tracker.close(60) == 1
        assert time.monotonic() - started < 45
    assert tracker.problem is not None
    assert "connection refused" in tracker.problem
    assert "\n" not in tracker.problem
    assert len(Offline(tmp_path, "k1").history) == 3
    marker = read_marker(tmp_path, "k1")
    assert marker is not None
    assert not marker["uploaded"]

    # One whose files are gone.
    (tmp_path / "wandb" / "logged" / "k2").write_text(json.dumps({**marker, "folder": "offline-run-x-k2"}))
    server.status = 500
    started = time.monotonic()
    with pytest.raises(UserError, match=r"500.*\(0 of 2 runs uploaded\)"):
        sync(tmp_path, print)
    assert time.monotonic() - started < 45

    # These, one whose files are damaged and a study's run that was never logged are uploaded from the ledger.
    server.status = 200
    (file,) = (tmp_path / "wandb").glob("offline-run-*-k1/*.wandb")
    file.write_bytes(file.read_bytes()[:500])
    arm = {"pose": "R", "variant": "cnn", "trials": [], "finals": ["k3", "k9"]}
    study = {"study": "s-gpu", "budget": "gpu", "wandb_project": "other", "arms": [arm]}
    (tmp_path / "studies" / "s-gpu").mkdir(parents=True)
    (tmp_path / "studies" / "s-gpu" / "study.json").write_text(json.dumps(study))
    assert sync(tmp_path, print) == 3
    assert {key: (run["project"], run["groupName"], len(run["history"])) for key, run in server.runs.items()} == {
        "k1": ("proj", "g", 3),
        "k2": ("proj", "g", 3),
        "k3": ("other", "s-gpu", 3),
    }
    assert server.runs["k1"]["tags"][-1] == "cpu"
    assert server.runs["k3"]["tags"][-1] == "gpu"
    assert all(server.artifacts[f"weights-{key}"]["committed"] for key in ("k1", "k2", "k3"))
    said: list[str] = []
    assert sync(tmp_path, said.append) == 0
    assert said == [f"W&B: nothing to upload from {tmp_path}"]


def test_run_of_a_sweep_agent_is_the_agents(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(tmp_path, "k1")
    parameters = tmp_path / "config-agentsrun.yaml"
    parameters.write_text("wandb_version: 1\noptim.lr:\n  value: 0.1\n")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep7")
    monkeypatch.setenv("WANDB_RUN_ID", "agentsrun")
    monkeypatch.setenv("WANDB_PROJECT", "agents-project")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(parameters))
    assert log_run(tmp_path, "k1", project="p", group="g", mode="online") is None
    run = server.runs["agentsrun"]
    assert run["sweep"] == "sweep7"
    assert run["project"] == "agents-project"
    assert run["config"]["key"] == "k1"
    assert run["config"]["optim.lr"] == 0.1
    assert run["summary"]["val/accuracy"] == 0.55
