"""Runs for W&B: put into a ledger, and read back from W&B's offline files by W&B itself."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors.numpy
from PIL import Image

from experiments.tracking.settings import Mode
from experiments.tracking.tracker import WAIT_S, Tracker
from ledger.markers import is_uploaded
from tests.support.wandb_server import Server

CLASSES = ["cat", "dog", "owl"]
API_KEY = "0123456789abcdef" * 3


def log_run(ledger: Path, key: str, *, project: str, group: str, mode: Mode) -> str | None:
    """Replay one run and wait for it. What went wrong, in one line, or None."""
    with Tracker(ledger, project=project, group=group, mode=mode) as tracker:
        tracker.log(key)
        missing = tracker.close(WAIT_S)
    return tracker.problem or (f"run {key} was not logged within {WAIT_S:g} s" if missing else None)


def commit(
    ledger: Path, key: str, *, stage: str = "final", status: str = "completed", epochs: int = 3, seed: int = 3
) -> None:
    """Put a run into the ledger, as docs/ledger.md describes it."""
    folder = ledger / "runs" / key
    folder.mkdir(parents=True)
    scored, final = epochs > 0, stage == "final" and epochs > 0
    run = {
        "format": 4,
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
            "test_ece": 0.04 if final else None,
            "rotation_accuracy": 0.3 if final else None,
            "corruption_accuracy": 0.4 if final else None,
            "worst_of_grid_accuracy": 0.1 if final else None,
            "transformer": {"verdict": "idle", "zoom": 0.9, "pose": {"angle_r2": 0.25, "shift_r2": None}}
            if final
            else None,
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
        write_robustness(folder)
        arrays = {"label": [0, 0, 1, 1, 2, 2], "predicted": [0, 1, 1, 1, 2, 0]}
        safetensors.numpy.save_file(
            {name: np.array(values, np.int16) for name, values in arrays.items()}, folder / "predictions.safetensors"
        )


def write_robustness(folder: Path) -> None:
    """A run's accuracy over two angles, and over two corruptions at two severities."""
    points = [
        {"kind": "rotation", "value": value, "accuracy": accuracy, "agreement": 2 * accuracy}
        for value, accuracy in ((-90.0, 0.25), (0.0, 0.5))
    ]
    points.append({"kind": "scale", "value": 1.5, "accuracy": 0.4, "agreement": 0.6})
    corruptions = [
        {"name": name, "kind": kind, "severity": severity, "accuracy": start / severity}
        for name, kind, start in (
            ("blur", "photometric", 0.5),
            ("fog", "photometric", 0.3),
            ("shear", "geometric", 0.2),
        )
        for severity in (1, 2)
    ]
    worst = {"max_deg": 30.0, "max_px": 3.0, "num_points": 63, "accuracy": 0.1}
    record = {"num_images": 6, "points": points, "worst_of_grid": worst, "corruptions": corruptions}
    (folder / "robustness.json").write_text(json.dumps(record))


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
        return {name: value for record in self.all("summary") for name, value in flat(record["update"]).items()}


def flat(values: dict[str, Any], within: str = "") -> dict[str, Any]:
    """Names of what is in dictionaries of dictionaries are joined by dots."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{within}{name}.") if isinstance(value, dict) else {f"{within}{name}": value}
    return found


def check_delivered_once(server: Server, ledger: Path) -> None:
    """Each run of the ledger is on the server, whole, and nothing of it twice."""
    keys = {folder.name for folder in (ledger / "runs").iterdir()}
    assert set(server.runs) == keys
    for key in keys:
        run, folder = server.runs[key], ledger / "runs" / key
        assert sorted(run["lines"]) == list(range(len(run["lines"])))
        steps = [line["_step"] for line in run["history"]]
        assert steps == sorted(set(steps))
        epochs = [line["epoch"] for line in run["history"] if "train/loss" in line]
        assert epochs == [row["epoch"] for row in json.loads((folder / "history.json").read_text())]
        assert run["exit_code"] is not None
        assert run["files"]
        if (folder / "weights.safetensors").exists():
            weights = server.artifacts[f"weights-{key}"]
            assert [*weights["versions"].values()] == ["COMMITTED"]
            assert weights["files"]["weights.safetensors"] == (folder / "weights.safetensors").read_bytes()
        assert is_uploaded(ledger, key)
