"""Final runs of a second, for tests of what is made of a trained network."""

from pathlib import Path
from typing import Any, Literal

import torch

from experiments.images.tasks import Task, load_task
from experiments.runs.run import Job, Source, make_run
from ledger.config import Protocol, RunConfig, run_key
from ledger.ledger import Ledger

TINY = Protocol(
    train_images=64, val_images=32, test_images=50, epochs=1, batch_size=32, precision="fp32", device="cpu",
    robustness="none",
)  # fmt: skip


def sprites_in(cache: Path) -> Task:
    return load_task("sprites", image_px=32, cache=cache, say=lambda line: None)


def job_on_sprites(run: RunConfig, cache: Path, ledger: Path) -> Job:
    key = run_key(run, sprites_in(cache).content_hash)
    return Job(run=run, key=key, source=Source("sprites", "", 32, cache), ledger=ledger)


def train_on_sprites(
    ledger: Ledger, cache: Path, variant: str, stage: Literal["trial", "final"] = "final", **settings: Any
) -> str:
    """The key of a run of the variant, which is in the ledger then. settings: further ones of its configuration."""
    run = RunConfig(**{"variant": variant, "stage": stage, "seed": 3, "protocol": TINY, **settings})
    return make_run(job_on_sprites(run, cache, ledger.root), torch.device("cpu"))
