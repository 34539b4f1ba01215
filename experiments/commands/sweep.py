"""`sweep`: carry out a study."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console

from experiments.commands.options import count_workers, find_study, plan_study
from experiments.commands.plan import show_plan
from experiments.commands.tables import write_and_show_tables
from experiments.disk_space import check_room, disk_need
from experiments.display import (
    SweepProgress,
    print_place,
    print_tracking,
)
from experiments.errors import UserError, remedy
from experiments.estimate import Estimate, runs_left
from experiments.executors.local import STALL_S, LocalExecutor
from experiments.ledger import Ledger
from experiments.plan import Plan
from experiments.runs import Job
from experiments.sweep import BAD, Sweep, check_same_task, remove_failed
from experiments.tracking import TRACKING_WAIT_S, Tracker, resolve_mode

if TYPE_CHECKING:
    from analysis.findings import Findings

MIN_STALL_S = 10.0
"""Less than this a step, or a batch of an evaluation, may well take."""


def main(options: Namespace) -> int:
    """Carry out a study."""
    console = Console()
    if options.stall_s != 0 and not MIN_STALL_S <= options.stall_s < math.inf:
        raise UserError(f"stall_s: {options.stall_s:g} is neither 0 nor at least {MIN_STALL_S:g}")
    plan = plan_study(options, console)
    num_workers = count_workers(options, plan)
    carry_out(
        plan, options.runs, options.reports, console, num_workers,
        retry_failed=options.retry_failed, stall_s=options.stall_s,
    )  # fmt: skip
    return 0


def carry_out(
    plan: Plan,
    runs: Path,
    reports: Path,
    console: Console,
    num_workers: int,
    *,
    retry_failed: bool = False,
    stall_s: float = STALL_S,
    rates: Sequence[float] | None = None,
) -> "Findings":
    """Make the runs of a plan that the ledger at `runs` lacks, log them, write and show what came out.

    stall_s: seconds without a sign of life after which a worker is replaced; 0: never. rates: training images/s of each
    arm in one worker, where they are known.
    """
    mode = resolve_mode(plan.study.wandb.mode)
    ledger = Ledger(runs)
    check_reports(reports)
    ledger.sweep_up()
    check_same_task(ledger, plan)
    if retry_failed:
        remove_failed(ledger, plan.name)
    under_way = Sweep(plan, ledger, store=True)
    under_way.replay()
    need = disk_need(plan, runs_left(plan, under_way, ledger), num_workers)
    check_room(need, ledger.root, reports)
    estimate = Estimate(plan, under_way, ledger, num_workers, rates)
    show_plan(console, plan, estimate, num_workers, need.text(ledger.root))
    with Tracker(
        ledger.root,
        project=plan.study.wandb.project,
        group=plan.name,
        mode=mode,
        tags=[f"budget {plan.study.budget}"],
        keys=under_way.finished(),
    ) as tracker:
        if estimate.left_s > 0:
            make_missing_runs(under_way, estimate, tracker, console, num_workers, stall_s)
        findings = find_study(ledger, plan.name)
        write_and_show_tables(findings, reports, console, report=True)
        unlogged = tracker.close(TRACKING_WAIT_S)
    print_tracking(console, ledger, mode, tracker.problem, unlogged)
    num_bad = sum(ledger.read(key)["status"] in BAD for key in under_way.finished())
    if num_bad:
        again = "" if plan.study.minutes else "; `make sweep RETRY=1` makes them again"
        print_place(console, "Failed or diverged", f"{num_bad} runs{again}")
    return findings


def check_reports(reports: Path) -> None:
    """Raises UserError if tables could not be written there, before anything trains."""
    try:
        reports.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=reports).close()
    except OSError as error:
        raise UserError(f"reports: {reports} cannot be written ({error.strerror}){remedy(error)}") from None


def make_missing_runs(
    under_way: Sweep, estimate: Estimate, tracker: Tracker, console: Console, num_workers: int, stall_s: float
) -> None:
    """Train what the ledger lacks, with progress."""
    plan, ledger = under_way.plan, under_way.ledger
    progress = SweepProgress(
        console,
        ledger,
        estimate.by_run,
        estimate.left_s,
        num_runs=plan.num_trials + plan.num_finals,
        num_done=estimate.num_done,
        num_workers=num_workers,
    )

    def finished(job: Job) -> None:
        progress.finish(job, len(under_way.finished()))
        tracker.log(job.key)

    with progress, LocalExecutor(plan.protocol.device, num_workers, stall_s) as executor:
        under_way.run(executor, on_finish=finished, on_tick=progress.tick)
