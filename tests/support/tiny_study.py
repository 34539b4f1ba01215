"""A study of a few seconds, as a sweep file, and what a sweep of it leaves in its folder."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import yaml

from experiments.runs.run import Job, make_run
from experiments.study.plan import Plan, make_plan
from experiments.study.study import load_study
from experiments.sweep.executors import WorkerDied
from experiments.sweep.sweep import Sweep
from ledger.ledger import Ledger

STUDY = "tiny-sprites-smoke"
NUM_RUNS = 8

TINY: dict[str, Any] = {
    "name": "tiny",
    "task": "sprites",
    "variants": [{"variant": "cnn", "baseline": "cnn"}, {"variant": "stn_affine+affine", "baseline": "cnn"}],
    "protocol": {
        "train_images": 96,
        "val_images": 64,
        "test_images": 100,
        "epochs": 2,
        "batch_size": 32,
        "optimiser": "muon",
        "averaging": True,
        "precision": "fp32",
        "device": "cpu",
        "robustness": "none",
    },
    "search": {
        "trials": 2,
        "wave_size": 1,
        "space": {"optim.lr": {"distribution": "log_uniform_values", "min": 0.02, "max": 0.5}},
        "extras": {
            "stn_affine": {"model.loc_lr_factor": {"distribution": "log_uniform_values", "min": 0.01, "max": 1}}
        },
    },
    "final_seeds": 2,
}


def write_sweep(folder: Path, **changes: Any) -> Path:
    """The study as sweep.yaml in the folder, with other values for keys of its top level."""
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


def write_changed_sweep(folder: Path, dotted: Sequence[str | int], value: Any) -> Path:
    """The same with another value in the place that the keys lead to."""
    study = json.loads(json.dumps(TINY))
    place: Any = study
    for key in dotted[:-1]:
        place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
    place[dotted[-1]] = value
    return write_sweep(folder, **study)


def tables(folder: Path) -> dict[str, bytes]:
    """The ablation tables of the folder's study."""
    out = folder / "reports" / STUDY
    return {name: (out / name).read_bytes() for name in ("ablation.md", "ablation.tex", "ablation.csv")}


class HereAndNow:
    """An executor that makes each run at once in this process, and lets the last one given be known first."""

    def __init__(self, *, fails: Callable[[Job], bool] = lambda job: False) -> None:
        self.fails = fails
        self.made: list[Job] = []

    def submit(self, job: Job) -> "Future[str]":
        future: Future[str] = Future()
        self.made.insert(0, job)
        if self.fails(job):
            future.set_exception(WorkerDied("the worker was killed by SIGSEGV (2 attempts)"))
        else:
            future.set_result(make_run(job, torch.device("cpu")))
        return future


def sweep_here(folder: Path, executor: HereAndNow, **changes: Any) -> Sweep:
    under_way = Sweep(plan_of(folder, **changes), Ledger(folder / "runs"), store=True)
    under_way.replay()
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers have it
    try:
        under_way.run(executor, on_finish=lambda job: None, on_tick=lambda: None)
    finally:
        torch.set_num_threads(num_threads)
    return under_way


def plan_of(folder: Path, **changes: Any) -> Plan:
    study = load_study(write_sweep(folder, **changes), "smoke")
    return make_plan(study, label="", cache=Path(os.environ["STN_BENCH_CACHE"]), say=lambda line: None)
