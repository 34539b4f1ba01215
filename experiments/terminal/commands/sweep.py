"""`sweep`: carry out a study."""

import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console

from experiments.runs.run import Job, begun_record
from experiments.study.disk_space import check_room, disk_need
from experiments.study.plan import Plan
from experiments.sweep.estimate import Estimate, estimate, runs_left
from experiments.sweep.executors import Place, Workers
from experiments.sweep.stale import CHOICES, remove_stale
from experiments.sweep.sweep import Sweep, check_same_device, check_same_task, remove_failed
from experiments.terminal.commands.contact_sheets import write_contact_sheet
from experiments.terminal.commands.options import count_workers, find_study, place_of, plan_studies
from experiments.terminal.commands.plan import show_plan
from experiments.terminal.commands.tables import renew_report, write_and_show_tables
from experiments.terminal.display import SweepProgress, print_place, print_tracking, say_to
from experiments.tracking.sink import find_place
from experiments.tracking.tracker import TRACKING_WAIT_S, Tracker
from ledger.errors import STATUS_INCOMPLETE, UserError, nearest, remedy
from ledger.ledger import Ledger
from ledger.wording import count

if TYPE_CHECKING:
    from analysis.findings import Findings

HINTS = {
    "failed": "; `make sweep RETRY=1` makes them again",
    "diverged": ": a smaller learning rate may help; RETRY=1 repeats them as they were",
}
ROWS_STAY = " Rows of them that W&B's server has already stay there, beside the new numbers."
"""Of runs that are made again."""
MIN_STALL_S = 10.0
"""Less than this a step, or a batch of an evaluation, may well take."""


def main(options: Namespace) -> int:
    console = Console()
    if options.stall_s != 0 and not MIN_STALL_S <= options.stall_s < math.inf:
        raise UserError(f"stall_s: {options.stall_s:g} is neither 0 nor at least {MIN_STALL_S:g}")
    if options.stale not in CHOICES:
        raise UserError(f"stale: {options.stale!r} is unknown; {nearest(options.stale, CHOICES)}")
    with place_of(options) as place:
        plans, found = plan_studies(options, console, place), []
        for plan in plans[1:]:  # of the first one it is found out at once
            check_same_task(Ledger(options.runs, read_only=True), plan)
        for plan in plans:
            number = count_workers(options, plan, place, say_to(console))
            workers = Workers(number, options.stall_s, limit=options.jobs, per_gpu=max(1, options.workers_per_gpu))
            findings = carry_out_study(
                plan,
                options.runs,
                options.reports,
                console,
                place,
                workers,
                retry_failed=options.retry_failed,
                stale_again=options.stale == "again",
            )
            found.append(findings)
    for number, plan in enumerate(plans[:-1]):  # what compares the values can say all only now
        say_to(console)(f"Comparing all values in the report of {plan.name}, too ...")
        found[number] = find_study(Ledger(options.runs, read_only=True), plan.name)
        renew_report(found[number], options.reports)
    return max(map(status_of, found))


def status_of(findings: "Findings") -> int:
    """The exit status of a study that was carried out."""
    return STATUS_INCOMPLETE if findings.faults or findings.completed.empty else 0


def carry_out_study(
    plan: Plan,
    runs: Path,
    reports: Path | None,
    console: Console,
    place: Place,
    workers: Workers,
    *,
    retry_failed: bool = False,
    stale_again: bool = False,
    rates: Sequence[float] | None = None,
) -> "Findings":
    """Make the runs of a plan that the ledger at `runs` lacks, log them, write and show what came out.

    reports: where tables go; None for runs that only choose what another study does: nothing is written or shown.
    rates: training images/s of each arm in one worker, where they are known.
    """
    mode, why = find_place(plan.study.tracker, plan.study.wandb.mode)
    ledger = Ledger(runs)
    if reports is not None:
        check_reports(reports)
    ledger.sweep_up()
    check_same_task(ledger, plan)
    if plan.missing_device:
        look = Sweep(plan, ledger, store=False)
        look.replay()
        check_same_device(look)
    under_way = Sweep(plan, ledger, store=True)
    under_way.replay()
    need = disk_need(plan, runs_left(plan, under_way, ledger), workers.number)
    check_room(need, ledger.root, reports or ledger.root)
    kept = ROWS_STAY if mode == "online" else ""
    if retry_failed and (num := remove_failed(under_way)):
        say_to(console)(f"{count(num, 'failed or diverged run')} will be made again.{kept}")
        under_way = Sweep(plan, ledger, store=True)
        under_way.replay()
    if stale_again and (stale := remove_stale(under_way)).keys:
        say_to(console)(f"{stale.text()} They will be made again.{kept}")
        under_way = Sweep(plan, ledger, store=True)
        under_way.replay()
    expected = estimate(plan, under_way, ledger, workers.number, rates, place.call, say_to(console))
    if reports is not None:
        show_plan(console, under_way, expected, workers.number, need.text(ledger.root))
    with Tracker(
        ledger.root,
        project=plan.study.wandb.project,
        group=plan.name,
        mode=mode,
        tags=[f"budget {plan.study.budget}"],
        keys=under_way.finished(),
        tracker=plan.study.tracker,
    ) as tracker:
        if expected.left_s > 0:
            make_missing_runs(under_way, expected, tracker, console, place, workers)
        else:
            under_way.write_manifest()
        findings = find_study(ledger, plan.name)
        if reports is not None:
            draw_images(plan, findings, reports)
            write_and_show_tables(findings, reports, console, report=True, told=not plan.study.asked)
        unlogged = tracker.close(TRACKING_WAIT_S)
    if reports is None:
        return findings
    print_tracking(console, ledger, mode, why, tracker.problem, unlogged, plan.study.tracker)
    statuses = Counter(ledger.read(key)["status"] for key in under_way.finished())
    for status, hint in HINTS.items():
        if num := statuses[status]:
            print_place(console, status.capitalize(), f"{count(num, 'run')}{'' if plan.study.asked else hint}")
    if plan.study.budget == "smoke" and not any(statuses[status] for status in HINTS):
        console.print("\nIt works here: so small a study shows that, and no more.", highlight=False)
    return findings


def draw_images(plan: Plan, findings: "Findings", reports: Path) -> None:
    """The contact sheet, of what networks see and no more; that it could not be drawn is a note.

    Results come after it, and nothing that is wrong with a picture may cost them.
    """
    try:
        write_contact_sheet(plan.study, plan.task, plan.arms, reports, whole_files=False)
    except Exception as error:
        findings.notes.append(f"contact sheet: could not be drawn ({type(error).__name__}: {error})")


def check_reports(reports: Path) -> None:
    """Raises UserError if tables could not be written there, before anything trains."""
    try:
        reports.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=reports).close()
    except OSError as error:
        raise UserError(f"reports: {reports} cannot be written ({error.strerror}){remedy(error)}") from None


def make_missing_runs(
    under_way: Sweep, expected: Estimate, tracker: Tracker, console: Console, place: Place, workers: Workers
) -> None:
    """Train what the ledger lacks, with progress."""
    plan, ledger = under_way.plan, under_way.ledger
    progress = SweepProgress(
        console,
        ledger,
        expected,
        num_runs=plan.num_runs,
        num_workers=workers.number,
        study=plan.name,
        tuned={(arm.pose, arm.variant): [each.name for each in arm.parameters] for arm in plan.arms},
    )

    def submitted(job: Job) -> None:
        tracker.follow(begun_record(job, plan.task))

    def tick() -> None:
        progress.tick()
        tracker.tick()

    def finished(job: Job) -> None:
        progress.finish(job, under_way.num_finished)
        tracker.log(job.key)

    with progress, place.executor(plan, workers, say_to(console)) as executor:
        under_way.run(executor, on_finish=finished, on_tick=tick, on_submit=submitted)
