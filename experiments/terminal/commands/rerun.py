"""`verify --rerun`: make some of the ledger's runs again, and say whether they are what it says."""

import secrets
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from experiments.images.tasks.cache import cache_folder
from experiments.sweep.executors.local import LocalExecutor, default_num_workers
from experiments.sweep.rerun import (
    DEVICE,
    Candidates,
    Compared,
    chance_of_meeting,
    draws_needed,
    find_candidates,
    make_again,
)
from experiments.terminal.commands.options import check_counts
from experiments.terminal.display import run_name, say_to
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.plain_text import as_markup
from ledger.wording import count, duration

if TYPE_CHECKING:
    from experiments.runs.run import Job
    from ledger.audit import Audit
    from ledger.run_audit import CheckedRun

FORGED = 0.1
"""The share of forged runs for which the last line says how likely the draw would have met one."""
SURE = 0.95
MAX_SEED = 2**32


def rerun(console: Console, options: Namespace, audit: "Audit") -> bool:
    """Whether all runs that were drawn are the same bytes again. Raises UserError where none can be made here."""
    check_counts(options)
    say = say_to(console)
    say("Looking for runs that can be made again here ...")
    with tempfile.TemporaryDirectory(prefix="stn-bench-rerun-", ignore_cleanup_errors=True) as scratch:
        ledger = Ledger(options.ledger, read_only=True)
        keys = [key for key, run in audit.runs.items() if _is_comparable(run)]
        candidates = find_candidates(
            ledger, keys, Path(scratch), data=options.data, group=options.group, cache=cache_folder(), say=say
        )
        reasons = [f"{count(num, 'run')} {why}" for why, num in sorted(candidates.others.items())]
        if not candidates.jobs:
            why = "; ".join(reasons) or "none of its runs is well"
            raise UserError(f"rerun: no run of {options.ledger} can be made again here: {why}")
        for reason in reasons:
            console.print(f"[cyan]note[/]     {as_markup(reason)}: not drawn", highlight=False, soft_wrap=True)
        seed = secrets.randbelow(MAX_SEED) if options.seed is None else options.seed
        jobs = candidates.draw(options.rerun, seed)
        compared = _make_and_show(console, candidates, jobs, ledger, options.jobs, seed)
    problems = [each for each in compared if each.problem]
    different = [each for each in compared if each.different]
    _conclude(console, len(candidates.jobs), len(compared) - len(problems), len(different))
    return not problems and not different


def _is_comparable(run: "CheckedRun") -> bool:
    """Whether all that is there of it is what was committed; weights and pictures need not be there."""
    return all(
        each.kind == "extra" or (each.kind == "missing" and not each.path.endswith(".json")) for each in run.findings
    )


def _make_and_show(
    console: Console, candidates: Candidates, jobs: "list[Job]", ledger: Ledger, asked: int, seed: int
) -> list[Compared]:
    """Make the runs, with progress, and a line or more for each."""
    num_workers = min(asked or default_num_workers(DEVICE), len(jobs))
    seconds = {job.key: candidates.seconds[job.key] for job in jobs}
    total_s = sum(seconds.values())
    drawn = f"{count(len(jobs), 'run')} of {len(candidates.jobs):,}, drawn with --seed={seed}"
    say_to(console)(f"Making {drawn}: about {duration(total_s / num_workers)} with {count(num_workers, 'worker')}")
    columns = (TextColumn("{task.completed:.0%}"), BarColumn(), TextColumn("{task.fields[text]}"))
    compared, start_s, made = list[Compared](), time.perf_counter(), Ledger(jobs[0].ledger)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=1.0, text="")

        def tick() -> None:
            share = _share_done(made, seconds, {each.job.key for each in compared})
            passed_s = time.perf_counter() - start_s
            left_s = passed_s * (1 - share) / share if share > 0 else total_s / num_workers
            text = f"{len(compared)} of {len(jobs)} runs, {duration(left_s)} left"
            progress.update(bar, completed=share, text=text)

        tick()
        with LocalExecutor(DEVICE, num_workers) as executor:
            for each in make_again(executor, jobs, ledger, tick):
                compared.append(each)
                _show(console, each)
    return compared


def _share_done(made: Ledger, seconds: dict[str, float], done: Collection[str]) -> float:
    """Of all the work, by how long the runs took when they were made first, and how many epochs they have."""
    shares = dict.fromkeys(seconds, 0.0)
    for key, mark in made.running().items():
        shares[key] = mark["epoch"] / max(1, mark["epochs"])
    shares |= dict.fromkeys(done, 1.0)
    weights = seconds if all(seconds.values()) else dict.fromkeys(seconds, 1.0)
    return sum(weights[key] * share for key, share in shares.items()) / sum(weights.values())


def _show(console: Console, each: Compared) -> None:
    def say(kind: str, path: str, text: str) -> None:
        console.print(f"{kind} {as_markup(path)} {text}", highlight=False, soft_wrap=True)

    run, folder = each.job.run, f"runs/{each.job.key}"
    name = as_markup(f"({run_name(run.variant, run.pose)}, {run.stage}, seed {run.seed})")
    if each.problem:
        say("[bold yellow]not made[/]", folder, f"{name}: {as_markup(each.problem)}")
    elif not each.different:
        say("[green]same[/]    ", folder, name)
    for file, what in each.different:
        say("[bold red]differs[/] ", f"{folder}/{file}", f"{name}: {as_markup(what)}")


def _conclude(console: Console, num_runs: int, num_compared: int, num_different: int) -> None:
    """What the draw shows of the runs that it was made from."""
    if not num_compared:
        return
    same = f"{num_compared - num_different} of {count(num_compared, 'run')} made again came to the same bytes"
    colour, hint = ("red", ": others were edited, or made by other code than this") if num_different else ("green", "")
    console.print(f"[bold {colour}]{same}[/]{hint}.", highlight=False, soft_wrap=True)
    num_forged = max(1, round(FORGED * num_runs))
    chance, needed = chance_of_meeting(num_runs, num_forged, num_compared), draws_needed(num_runs, num_forged, SURE)
    say_to(console)(
        f"If {num_forged:,} of the {count(num_runs, 'run')} were forged, {num_compared:,} drawn would have met one "
        f"with a probability of {_percent(chance)}; for {_percent(SURE)} it takes {needed:,}."
    )


def _percent(share: float) -> str:
    """Only what is certain is 100 %."""
    percent = round(share * 100)
    return f"over {percent - 1} %" if share < 1 and percent == 100 else f"{percent} %"
