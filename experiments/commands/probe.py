"""`probe`: say whether a spatial transformer would help on a folder of images."""

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console

from experiments.commands.options import choose_budget, count_workers, other_budget
from experiments.commands.sweep import carry_out
from experiments.display import count, print_advice, print_place, say_to
from experiments.errors import STATUS_INCOMPLETE
from experiments.estimate import rates_of_arms
from experiments.executors import Workers
from experiments.executors.local import STALL_S, ThisMachine
from experiments.ledger import Ledger
from experiments.plan import Plan, load, make_plan
from experiments.probe import (
    FAILS,
    REPORT_S,
    advice,
    check_enough,
    earlier_sizes,
    fit_to_time,
    load_probe,
    wall_seconds,
)
from experiments.settled import begun_budget
from experiments.tasks.cache import cache_folder

if TYPE_CHECKING:
    from analysis.findings import Findings


def main(options: Namespace) -> int:
    """Say whether a spatial transformer would help on a folder of images."""
    started, console = time.monotonic(), Console()
    place, ledger, say, cache = ThisMachine(), Ledger(options.runs, read_only=True), say_to(console), cache_folder()
    study = load_probe(options.path, options.minutes, choose_budget("auto"))
    loaded = load(study, label=options.label, cache=cache, say=say)
    other = load_probe(options.path, options.minutes, other_budget(study.budget))
    study, begun = begun_budget(ledger, study, other, loaded.task.label, place.call)
    if begun:
        say(begun)
    plan = make_plan(study, label=options.label, cache=cache, say=say, ledger=ledger, loaded=loaded)
    check_enough(plan)
    num_workers = count_workers(options, plan, place, say)
    rates, fitted = None, earlier_sizes(plan, ledger)
    if fitted is None:
        rates = rates_of_arms(plan, ledger, say=say_to(console))
        left_s = 60 * options.minutes - REPORT_S - (time.monotonic() - started)
        fitted = fit_to_time(plan, rates, left_s, num_workers)
        missing_s = wall_seconds(fitted, rates, num_workers) - left_s
        if missing_s > 0:
            text = time_text(options.minutes, missing_s, fitted.study.final_seeds)
            console.print(text, style="yellow", highlight=False)
    workers = Workers(num_workers, STALL_S)
    findings = carry_out(fitted, options.runs, options.reports, console, place, workers, rates=rates)
    decided = {(result.claim.variant, result.claim.baseline): result.decision for result in findings.claims}
    decisions = (decided["cnn+affine", "cnn"], decided["stn_affine", "cnn"], decided["stn_affine+affine", "cnn+affine"])
    from analysis.wording import size_text

    advised = advice(*decisions, size_text(findings.study))
    found = " ".join(filter(None, (advised, scope(decisions, fitted, findings))))
    print_advice(console, found, how_sure(fitted, findings))
    print_place(console, "\nReport", str(options.reports / fitted.name / "report.html"))
    return STATUS_INCOMPLETE if findings.faults else 0


def time_text(minutes: float, missing_s: float, num_seeds: int) -> str:
    """That the minutes are too few, by missing_s, even for the smallest sizes; and how many would do."""
    asked = f"{minutes:g} minute is" if minutes == 1 else f"{minutes:g} minutes are"
    return f"{asked} too short for {num_seeds} seeds; about {math.ceil(minutes + missing_s / 60)} are needed."


def scope(decisions: Sequence[str], plan: Plan, findings: "Findings") -> str:
    """How small the test was that found no gain: "" where it found none such."""
    if not set(FAILS) & set(decisions):
        return ""
    from analysis.wording import plain_points

    margin = plain_points(findings.study.claims.margin)
    return f"Seen on {plan.protocol.test_images:,} test images; a gain of less than {margin} counts as none."


def how_sure(plan: Plan, findings: "Findings") -> str:
    """What the advice rests on, and what could change it."""
    protocol, claims = plan.protocol, findings.study.claims
    return (
        f"How sure: each variant was trained {count(plan.study.final_seeds, 'time')} for "
        f"{count(protocol.epochs, 'epoch')} on {protocol.train_images:,} images of {protocol.image_px} px and tested "
        f"on {protocol.test_images:,}, paired by seed and scarcely tuned. That something helps or harms is said with "
        f"at most {100 * claims.alpha:g} % risk that it is luck with seeds or test images; differences below "
        f"{100 * claims.margin:.1f} percentage points count as none. "
        "Larger images, longer training and more tuning may change it: more --minutes make it "
        "surer, and `make sweep DATA=...` is the full study."
    )
