"""Replaying runs to W&B online: the real client against a server on this machine."""

import json
import socket
import sys
import time
from pathlib import Path

import pytest

from experiments.tracking.tracker import Tracker, resolve_mode, sync
from ledger.errors import UserError
from ledger.markers import read_marker
from tests.support.project import ROOT
from tests.support.synthetic_ledger import write_study
from tests.support.wandb_runs import API_KEY, Offline, commit, log_run
from tests.support.wandb_server import Server


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
    assert run["displayName"] == "stn_affine@lenet+affine at R s03"
    assert run["tags"] == ["Pets (JPEG)", "stn_affine", "pose R", "policy affine", "completed"]
    assert run["config"]["optim"] == {"lr": 0.1, "weight_decay": 0.0005}
    assert run["program"] == "stn-bench"
    assert not run.get("host")
    epochs = [row for row in run["history"] if "train/loss" in row]
    assert [(row["epoch"], row["val/accuracy"]) for row in epochs] == [(1, 0.35), (2, 0.45), (3, 0.55)]
    assert [row["rotation/deg"] for row in run["history"] if "rotation/deg" in row] == [-90, 0]
    assert run["summary"]["test/accuracy"] == 0.54
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


@pytest.mark.long
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
    assert len(Offline(tmp_path, "k1").history) == 9
    marker = read_marker(tmp_path, "k1")
    assert marker is not None
    assert not marker["uploaded"]

    # One whose files are gone.
    (tmp_path / "wandb" / "logged" / "k2").write_text(json.dumps({**marker, "folder": "offline-run-x-k2"}))
    server.misbehave("500")
    num_questions = server.num_questions
    with monkeypatch.context() as short:
        short.setattr("experiments.tracking.tracker.PATIENCE_S", 1.0)
        with pytest.raises(UserError, match=r"500.*\(0 of 2 runs uploaded\)"):
            sync(tmp_path, print)
    assert server.num_questions - num_questions >= 4  # twice two of them
    assert server.num_requests == 0

    # These, one whose files are damaged and a study's run that was never logged are uploaded from the ledger.
    server.misbehave(None)
    (file,) = (tmp_path / "wandb").glob("offline-run-*-k1/*.wandb")
    file.write_bytes(file.read_bytes()[:500])
    arm = {"pose": "R", "variant": "cnn", "trials": [], "finals": ["k3", "k9"]}
    write_study(
        tmp_path, [arm | {"baseline": "cnn", "winner": None}], study="s-gpu", budget="gpu", wandb_project="other"
    )
    assert sync(tmp_path, print) == 3
    assert {key: (run["project"], run["groupName"], len(run["history"])) for key, run in server.runs.items()} == {
        "k1": ("proj", "g", 9),
        "k2": ("proj", "g", 9),
        "k3": ("other", "s-gpu", 9),
    }
    assert server.runs["k1"]["tags"][-1] == "cpu"
    assert server.runs["k3"]["tags"][-1] == "budget gpu"
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
