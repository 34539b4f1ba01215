"""The real `sweep` command in this process alone, on a study of four runs of a moment, so that it can be had often."""

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

import analysis.figures.registry
from experiments.runs import checkpoints
from experiments.sweep import estimate
from experiments.sweep.executors import local
from experiments.terminal.cli import main
from tests.support.tiny_study import TINY, HereAndNow, write_sweep

SMALLEST: dict[str, Any] = {
    "protocol": TINY["protocol"] | {"train_images": 32, "val_images": 16, "test_images": 20},
    "search": TINY["search"] | {"trials": 1, "extras": {}},
    "final_seeds": 1,
    "wandb": {"mode": "disabled"},
}
NUM_RUNS = 4


class InThisProcess(HereAndNow):
    """Takes the place of LocalExecutor."""

    def __init__(self, *arguments: object) -> None:
        super().__init__()

    def __enter__(self) -> "InThisProcess":
        return self

    def __exit__(self, *arguments: object) -> None:
        pass


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the study, and have this process make its runs: a checkpoint after each epoch, one plain figure."""
    write_sweep(folder, **SMALLEST)
    torch.set_num_threads(1)
    monkeypatch.setattr(local, "LocalExecutor", InThisProcess)
    monkeypatch.setattr(estimate, "measure_images_per_s", lambda *arguments: 1000.0)
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    monkeypatch.setattr(checkpoints, "COST_SHARE", 1e9)
    monkeypatch.setattr(analysis.figures.registry, "builders", lambda: {"forest": ("A line.", plain_figure)})


def plain_figure(findings: object) -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([0, 1])
    return figure


def sweep_here(*options: str) -> int:
    """The command's exit status."""
    return main(["sweep", "--budget", "smoke", "--jobs", "1", *options])


def results(folder: Path) -> dict[str, bytes]:
    """What is the same bytes however often a sweep was disturbed: the tables, and the runs' own files."""
    found = {f"table {path.name}": path.read_bytes() for path in folder.glob("reports/*/*.*")}
    found |= {f"{path.parent.name}/{path.name}": path.read_bytes() for path in folder.glob("runs/runs/*/*")}
    volatile = ("times.", "cost.json", "SHA256SUMS", "report.html")
    return {name: content for name, content in found.items() if not any(part in name for part in volatile)}


def half_written(folder: Path) -> list[str]:
    """Files and folders that have not got their name yet."""
    paths = [*folder.rglob(".*"), *folder.glob("runs/running/*.[0-9]*"), *folder.glob("runs/studies/*/*.lock*")]
    return sorted(str(path.relative_to(folder)) for path in paths)
