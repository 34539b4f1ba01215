"""A study of many runs that take no time, on many workers that do not exist, in a ledger that does.

Plan, search, sweep, progress and ledger are the program's own. The images, of which there are hardly any, the results,
which follow from a run's setting, and the seconds that runs take, which do not really pass, are made up. A worker is an
entry in a heap of the times at which runs end. All happens in one thread: each time the supervisor has nothing more to
do, the next run ends. So what the supervisor takes can be told from what the simulation takes.
"""

import heapq
import json
import math
import os
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from experiments.images.tasks import Images, Task
from experiments.runs.costs import PeakMemory, environment
from experiments.runs.run import Job, Outcome, Source, record_files
from experiments.study.arms import check_arms
from experiments.study.disk_space import disk_need
from experiments.study.plan import Plan
from experiments.study.study import load_study
from experiments.study.tuning import num_runs
from experiments.sweep.estimate import Estimate, estimate, runs_left
from experiments.sweep.sweep import Sweep, check_same_task
from experiments.terminal.display import SweepProgress
from ledger.checksums import SUMS
from ledger.files import to_json
from ledger.ledger import Ledger

CPU = torch.device("cpu")
NUM_TRIALS, NUM_FINALS, NUM_EPOCHS = 14, 5, 30
RUNS_OF_ARM = num_runs(NUM_TRIALS, repeats=True) + NUM_FINALS
MODELS = ("cnn", "stn_rotation", "stn_similarity", "stn_affine")
POLICIES = ("none", "affine", "rotate", "translate", "scale")
MEDIAN_S, SPREAD = 600.0, 0.7
"""The seconds that a run is said to take: their median, and the standard deviation of their logarithm."""
STARTS = ("first", "half", "full")
"""With an empty ledger, one that has half of the runs, and one that has them all."""


def made_up_plan(folder: Path, number: int) -> Plan:
    """A study of so many runs, in arms of RUNS_OF_ARM: up to 20 variants under as many poses as it takes.

    folder: for its sweep file.
    """
    num_arms = number // RUNS_OF_ARM
    names = [model if policy == "none" else f"{model}+{policy}" for policy in POLICIES for model in MODELS]
    num_variants = max(num for num in range(1, len(names) + 1) if num_arms % num == 0)
    rate = {"distribution": "log_uniform_values", "min": 0.02, "max": 0.5}
    decay = {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}
    sweep_file = {
        "name": "simulated",
        "task": "sprites",
        "poses": [f"R:max_deg={tenths / 10}" for tenths in range(1, num_arms // num_variants + 1)],
        "variants": [{"variant": name, "baseline": names[0]} for name in names[:num_variants]],
        "protocol": {"epochs": NUM_EPOCHS, "precision": "fp32", "device": "cpu", "val_images": 5000},
        "search": {
            "trials": NUM_TRIALS,
            "pruner": "median",
            "space": {"optim.lr": rate, "optim.weight_decay": decay},
            "extras": {name: {"model.loc_lr_factor": rate} for name in MODELS[1:num_variants]},
        },
        "final_seeds": NUM_FINALS,
    }
    path = folder / "sweep.yaml"
    path.write_text(json.dumps(sweep_file), encoding="utf-8")
    study = load_study(path, "gpu")
    images = Images(np.zeros((1, 32, 32, 3), np.uint8), np.zeros(1, np.int64), np.zeros((1, 2, 3), np.float32))
    task = Task("sprites", "made up", tuple("abcdefghij"), images, images, "0" * 64)
    return Plan(
        name="simulated",
        study=study,
        task=task,
        source=Source("sprites", "made up", 32, folder),
        protocol=study.protocol,
        arms=check_arms(study),
    )


def made_up_files(job: Job, task: Task, machine: dict[str, Any], seconds: float) -> dict[str, bytes]:
    """The files of a run without weights: better the closer its rate is to 0.2; the highest rates diverge."""
    run, epochs = job.run, job.run.protocol.epochs
    status, best = "completed", 0.7 - 0.1 * math.log(run.optim.lr / 0.2) ** 2 - run.seed / 1000
    if run.optim.lr > 0.45:
        status, epochs = "diverged", 2
    rows: list[Any] = []
    for epoch in range(1, epochs + 1):
        accuracy = best * (1 - math.exp(-epoch / 5))
        row = {"epoch": epoch, "lr": run.optim.lr, "train_loss": 1.234567, "train_accuracy": accuracy + 0.0123}
        rows.append({**row, "val_loss": 1.2345678, "val_accuracy": accuracy})
        if status == "completed" and epoch <= len(run.prune_below) and accuracy < run.prune_below[epoch - 1]:
            status = "pruned"
            break
    outcome = Outcome(status, history=rows, train_seconds=seconds)
    outcome.result |= {"epochs": len(rows), "num_train_images": 45000, "num_val_images": 5000}
    outcome.result |= {"val_accuracy": rows[-1]["val_accuracy"], "val_loss": 1.2345678}
    cost = {"train_seconds": round(seconds, 3), "seconds": round(seconds + 2, 3), "images_per_s": 1410.0}
    return {
        **record_files(job, task, outcome),
        "cost.json": to_json({**cost, "peak_memory_mib": 512.0, **machine, "sums": SUMS}),
    }


@dataclass
class Clock:
    """Seconds on the wall and of the processor that a part of the work took, and how often it was done."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    times: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall_s += time.perf_counter() - wall_s
            self.cpu_s += time.process_time() - cpu_s
            self.times += 1

    def without(self, other: "Clock") -> "Clock":
        return Clock(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)


class SimulatedCluster:
    """An executor with workers that only have a time at which they will be done.

    elsewhere: takes the time of all that happens here. commits: of what the ledger takes of that, a run's mark and its
    commit, which a cluster's supervisor has to do as well.
    """

    def __init__(self, plan: Plan, ledger: Ledger, num_workers: int, elsewhere: Clock, commits: Clock) -> None:
        self.plan, self.ledger, self.num_idle = plan, ledger, num_workers
        self.elsewhere, self.commits = elsewhere, commits
        self._machine = environment(CPU)
        self._chance = random.Random(num_workers)
        self._now_s = 0.0
        self._waiting: deque[tuple[Job, Future[str]]] = deque()
        self._ends: list[tuple[float, int, float, Job, Future[str]]] = []
        self._num_begun = 0

    def submit(self, job: Job) -> "Future[str]":
        future: Future[str] = Future()
        with self.elsewhere.running():
            self._waiting.append((job, future))
            self._begin()
        if self._num_begun == 1:  # or the supervisor would wait for it
            self.end_next()
        return future

    def _begin(self) -> None:
        while self._waiting and self.num_idle:
            job, future = self._waiting.popleft()
            seconds = MEDIAN_S * self._chance.lognormvariate(0, SPREAD)
            self.num_idle -= 1
            self._num_begun += 1
            heapq.heappush(self._ends, (self._now_s + seconds, self._num_begun, seconds, job, future))
            run = job.run
            what = {"variant": run.variant, "pose": run.pose, "seed": run.seed, "stage": run.stage}
            with self.commits.running():
                self.ledger.mark_running(job.key, {**what, "epochs": NUM_EPOCHS, "epoch": 1})

    def end_next(self) -> None:
        """The run whose time comes first, if any is under way, is in the ledger now."""
        with self.elsewhere.running():
            if not self._ends:
                return
            self._now_s, _, seconds, job, future = heapq.heappop(self._ends)
            files = made_up_files(job, self.plan.task, self._machine, seconds)
            with self.commits.running():
                self.ledger.commit(job.key, files)
            self.num_idle += 1
            self._begin()
            future.set_result(job.key)

    def give_up(self) -> None:
        """As if all of this had been killed, and its leftovers swept up."""
        for *_, job, _ in self._ends:
            self.ledger.forget_running(job.key)


class _Stopped(Exception):
    """Enough runs have ended."""


class Simulation:
    """One study in one folder, which is empty at first. terminal: whether progress is shown as in a terminal."""

    def __init__(self, folder: Path, number: int, num_workers: int, terminal: bool) -> None:
        torch.set_num_threads(1)
        self.plan, self.ledger_root = made_up_plan(folder, number), folder / "runs"
        self.num_runs, self.num_workers, self.terminal = number, num_workers, terminal
        self.whole, self.elsewhere, self.commits, self.manifests = Clock(), Clock(), Clock(), Clock()

    def measure(self) -> dict[str, Any]:
        """Start, make half of the runs, start again, make the others, start again; what each took."""
        memory, starts = PeakMemory(CPU), [Clock() for _ in range(3)]
        rates: list[float] | None = [1410.0] * len(self.plan.arms)  # which a first start measures
        for start, until in zip(starts, (self.num_runs // 2, self.num_runs, None), strict=True):
            with start.running():
                sweep, expected = self.start(rates)
            if until is not None:
                self.make_runs(sweep, expected, until)
            else:
                sweep.write_manifest()
            rates = None
        if len(sweep.finished()) != self.num_runs or expected.left_s > 0:
            raise RuntimeError(f"{len(sweep.finished())} of {self.num_runs} runs were made")
        size = (self.ledger_root / "studies" / self.plan.name / "study.json").stat().st_size
        own = self.whole.without(self.elsewhere)
        of_a_run = {
            f"{name}_{kind}": round(1e3 * seconds / self.num_runs, 3)
            for name, clock in (("own", own), ("commit", self.commits), ("manifest", self.manifests))
            for kind, seconds in (("ms", clock.wall_s), ("cpu_ms", clock.cpu_s))
        }
        return {
            "num_runs": self.num_runs,
            "num_arms": len(self.plan.arms),
            "num_workers": self.num_workers,
            "terminal": self.terminal,
            **{f"{name}_start_s": round(clock.wall_s, 2) for name, clock in zip(STARTS, starts, strict=True)},
            **of_a_run,
            "num_manifests": self.manifests.times,
            "manifest_kib": round(size / 1024, 1),
            "runs_per_s": round(self.num_runs / own.wall_s, 1),
            "runs_per_s_with_commits": round(self.num_runs / (own.wall_s + self.commits.wall_s), 1),
            "peak_memory_mib": round(memory.mib(), 1),
        }

    def start(self, rates: Sequence[float] | None) -> tuple[Sweep, Estimate]:
        """What the command `sweep` does before it trains, but for W&B. rates: None for the ledger's."""
        ledger = Ledger(self.ledger_root)
        ledger.write_study = self.manifests.running()(ledger.write_study)  # type: ignore[method-assign]
        ledger.sweep_up()
        check_same_task(ledger, self.plan)
        sweep = Sweep(self.plan, ledger, store=True)
        sweep.replay()
        disk_need(self.plan, runs_left(self.plan, sweep, ledger), self.num_workers)
        expected = estimate(self.plan, sweep, ledger, self.num_workers, rates)
        sweep.finished()  # for the tracker
        return sweep, expected

    def make_runs(self, sweep: Sweep, expected: Estimate, until: int) -> None:
        """What the same command does to train, but for W&B, until so many runs are in the ledger."""
        cluster = SimulatedCluster(self.plan, sweep.ledger, self.num_workers, self.elsewhere, self.commits)
        with open(os.devnull, "w", encoding="utf-8") as out:
            console = Console(file=out, force_terminal=self.terminal, width=100)
            progress = SweepProgress(
                console, sweep.ledger, expected, num_runs=self.num_runs, num_workers=self.num_workers
            )

            def finished(job: Job) -> None:
                progress.finish(job, sweep.num_finished)
                if progress.num_finished >= until < self.num_runs:
                    raise _Stopped

            def tick() -> None:
                progress.tick()
                cluster.end_next()

            try:
                with self.whole.running(), progress:
                    sweep.run(cluster, on_finish=finished, on_tick=tick)
            except _Stopped:
                cluster.give_up()
