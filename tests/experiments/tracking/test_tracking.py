"""Replaying runs to W&B without an account: what its offline files hold, and that no fault of it holds anybody up."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from experiments.tracking.dashboard import dashboard
from experiments.tracking.tracker import Tracker, resolve_mode, sync
from ledger.errors import UserError
from ledger.markers import read_marker
from tests.support.project import ROOT
from tests.support.wandb_runs import API_KEY, Offline, commit, flat

FINAL, DIVERGED, BROKEN = "0123456789abcdef", "1123456789abcdef", "2123456789abcdef"


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and no W&B variables: what the machine is logged in to has no say."""
    home = tmp_path / "home-of-somebody"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    return home


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
from experiments.tracking.tracker import Tracker, resolve_mode
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
    assert run.run["display_name"] == "stn_affine@lenet+affine at R s03"
    assert run.run["tags"] == ["Pets (JPEG)", "stn_affine", "pose R", "policy affine", "completed", "cpu"]
    assert run.config["optim"] == {"lr": 0.1, "weight_decay": 0.0005}
    assert run.config["model"] == {"loc_lr_factor": 0.1}
    assert run.config["names"] == {"model": "stn_affine", "backbone": "lenet", "policy": "affine"}
    assert run.config["task"] == {"name": "folder", "label": "Pets (JPEG)", "content_hash": "ab" * 32, "num_classes": 3}
    assert run.config["protocol_hash"] == "1a2b3c4d"
    left_out = {"fit": "crop", "class_weights": "none"}  # as they came later
    assert run.config["protocol"] == {"epochs": 3, "batch_size": 128, "schedule": "one_cycle", **left_out}
    assert run.config["device_name"] == "Abacus 9"
    assert run.config["versions"] == {"torch": "2.14.1"}

    epochs = run.history[:3]
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    assert [row["val/accuracy"] for row in epochs] == [0.35, 0.45, 0.55]
    assert [row["train/loss"] for row in epochs] == pytest.approx([2, 1, 2 / 3])
    assert (run.history[3]["epoch"], run.history[3]["test/accuracy"]) == (3, 0.54)
    assert [set(row) & {"test/accuracy", "transformer.path"} for row in epochs] == [set()] * 3
    assert "transformer.path" in flat(run.history[3])
    rest = [{name: value for name, value in row.items() if not name.startswith("_")} for row in run.history[4:]]
    assert rest == [
        {"rotation/deg": -90, "rotation/accuracy": 0.25, "rotation/agreement": 0.5},
        {"rotation/deg": 0, "rotation/accuracy": 0.5, "rotation/agreement": 1},
        {"scale/factor": 1.5, "scale/accuracy": 0.4, "scale/agreement": 0.6},
        {"corruption/severity": 1, "corruption/photometric": 0.4, "corruption/geometric": 0.2},
        {"corruption/severity": 2, "corruption/photometric": 0.2, "corruption/geometric": 0.1},
    ]
    assert all("val/loss" not in row for row in run.history)  # null in the ledger: not measured
    steps = {metric.get("name") or metric["glob_name"]: metric.get("step_metric") for metric in run.all("metric")}
    curves = {"rotation": "deg", "scale": "factor"}
    assert steps == {
        "epoch": None,
        "*": "epoch",
        "lr": "epoch",
        "corruption/severity": None,
        **{f"{curve}/{unit}": None for curve, unit in curves.items()},
        **{f"{curve}/{score}": f"{curve}/{curves[curve]}" for curve in curves for score in ("accuracy", "agreement")},
        **{f"corruption/{kind}": "corruption/severity" for kind in ("photometric", "geometric")},
    }
    assert not {"lr", *steps} - {"epoch", "*"} & set(run.summary)  # the last value of a curve says nothing
    for name, value in {
        "status": "completed",
        "val/accuracy": 0.55,
        "val/loss": 1.3,
        "test/accuracy": 0.54,
        "test/loss": 1.4,
        "test/ece": 0.04,
        "test/rotation_accuracy": 0.3,
        "test/corruption_accuracy": 0.4,
        "test/worst_of_grid_accuracy": 0.1,
        "num_parameters": 243146,
        "train_flops": 3.2e12,
        "seconds": 24.0,
        "images_per_s": 1410.0,
        "peak_memory_mib": 512.0,
        "transformer/verdict": "idle",
        "transformer/zoom": 0.9,
        "transformer/angle_r2": 0.25,
    }.items():
        assert run.summary[name] == value
    assert not {"error", "transformer/pose", "transformer/shift_r2"} & set(run.summary)

    table = json.loads((run.folder / "files" / run.summary["class_accuracy.path"]).read_text())
    assert table["columns"] == ["class", "val_accuracy", "test_accuracy"]
    assert table["data"] == [["cat", 0.5, 0.4], ["dog", 0.6, 0.5], ["owl", 0.7, 0.72]]
    table = json.loads((run.folder / "files" / run.summary["robustness.path"]).read_text())
    assert table["columns"] == ["kind", "name", "value", "accuracy", "agreement"]
    assert table["data"][0] == ["rotation", "rotation", -90.0, 0.25, 0.5]
    assert table["data"][-1] == ["geometric", "shear", 2.0, 0.1, None]
    table = json.loads((run.folder / "files" / run.summary["confusion_table.path"]).read_text())
    assert table["columns"] == ["Actual", "Predicted", "nPredictions"]
    counts = {(actual, predicted): num for actual, predicted, num in table["data"] if num}
    assert counts == {
        ("cat", "cat"): 1, ("cat", "dog"): 1, ("dog", "dog"): 2, ("owl", "owl"): 1, ("owl", "cat"): 1
    }  # fmt: skip
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
    assert diverged.run["display_name"] == f"stn_affine@lenet+affine at R trial {DIVERGED[:6]}"
    assert not {"val/accuracy", "test/accuracy", "val_accuracy", "confusion_table.path"} & set(diverged.summary)
    assert diverged.exit_code == 1


def test_the_terminal_dashboard_shows_names_and_curves(logged: Logged) -> None:
    """It lists folders, and draws every number of the history: also how many rows and columns a table has."""
    final, diverged = (Offline(logged.ledger, key) for key in (FINAL, DIVERGED))
    assert re.fullmatch(rf"offline-run-stn_affine@lenet\+affine_s03_R-run-\d{{8}}_\d{{6}}-{FINAL}", final.folder.name)
    assert diverged.folder.name.startswith(f"offline-run-stn_affine@lenet+affine_trial_{DIVERGED[:6]}_R-run-")
    tables = {"class_accuracy", "robustness", "confusion_table"}
    assert not tables & {name.partition(".")[0] for row in final.history for name in row}
    assert tables <= {name.partition(".")[0] for name in final.summary}
    (chart,) = (update["update"] for update in final.all("config"))
    assert chart["_wandb.visualize.confusion"]["panel_config"]["panelDefId"] == "wandb/confusion_matrix/v1"


def test_offline_files_name_neither_machine_nor_user(logged: Logged) -> None:
    run = Offline(logged.ledger, FINAL)
    assert not {"host", "settings", "git"} & set(run.run)
    assert not run.all("environment")  # W&B's record of machine, user, program, arguments and folders
    files = [file for file in (logged.ledger / "wandb").rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".wandb", ".json", ".png", ""}  # no logs
    for file in files:
        content = file.read_bytes()
        for secret in (logged.home, logged.ledger, ROOT, sys.executable, "experiments.tracking.replay"):
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

    with pytest.raises(UserError, match="the dashboard needs a terminal"):
        dashboard(logged.ledger)
    monkeypatch.setattr(os, "isatty", lambda file: True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb/settings").write_text("[default]\nof_another_version = 1\n")
    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(Replaced) as replaced:
        dashboard(logged.ledger)
    _, command, env = replaced.value.args
    assert command[1:] == ["-P", "-m", "wandb", "leet", str(logged.ledger / "wandb")]
    (run,) = (logged.ledger / "wandb").glob(f"offline-run-*-{FINAL}")
    inspect = [*command[:-1], "inspect", "--summary", "--json", str(run)]
    done = subprocess.run(inspect, env=env, capture_output=True, check=True)
    assert done.stderr == b""
    summary = json.loads(done.stdout)
    assert "val/accuracy" in json.dumps(summary)


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
from experiments.tracking.tracker import Tracker
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
