"""Runs of a second that keep a checkpoint after each epoch, and how to stop them there."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.runs import checkpoints, training
from experiments.runs.run import Job, make_run
from ledger.config import Optim, Protocol, RunConfig
from ledger.ledger import Ledger
from tests.support.trained_runs import job_on_sprites

EPOCHS = 4
PROTOCOL = Protocol(
    train_images=48, val_images=16, test_images=16, epochs=EPOCHS, batch_size=16, precision="fp32", device="cpu",
    robustness="none",
)  # fmt: skip
CPU = torch.device("cpu")


class Stopped(Exception):
    """The run is stopped from outside; no result of its own."""


def as_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, and every epoch is kept, whatever it costs."""
    torch.set_num_threads(1)
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    monkeypatch.setattr(checkpoints, "COST_SHARE", 1e9)


def job_of(cache: Path, ledger: Path, *, protocol: dict[str, Any] | None = None, **changes: Any) -> Job:
    """A run on sprites under pose R, with other values for fields of its configuration."""
    run = RunConfig(seed=1, pose="R", protocol=dataclasses.replace(PROTOCOL, **(protocol or {})), optim=Optim(lr=0.05))
    return job_on_sprites(dataclasses.replace(run, **changes), cache, ledger)


def stop_in(epoch: int) -> Callable[[training.Row], None]:
    """Stops the run at the end of that epoch, before it is kept."""

    def on_epoch(row: training.Row) -> None:
        if row["epoch"] == epoch:
            raise Stopped

    return on_epoch


def make_run_with_stops(job: Job, epochs: int) -> int:
    """The run to its end, stopped in each epoch from the second on, each time with other random numbers in the process.

    Returns how many stops there were. Raises AssertionError where one left no checkpoint of the epoch before.
    """
    ledger = Ledger(job.ledger)
    for epoch in range(2, epochs + 1):
        torch.manual_seed(epoch)
        with pytest.raises(Stopped):
            make_run(job, CPU, stop_in(epoch))
        kept = sorted(path.name[:11] for path in ledger.checkpoints(job.key).iterdir())
        assert kept[-1] == f"epoch-{epoch - 1:05}" and job.key not in ledger
    torch.manual_seed(99)
    make_run(job, CPU)
    return epochs - 1


def files_of(job: Job) -> dict[str, bytes]:
    """What must be the same bytes on every repetition."""
    folder = Ledger(job.ledger).folder(job.key)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("cost.json", "SHA256SUMS")}
