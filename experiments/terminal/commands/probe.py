"""`probe`: say whether augmentation or a spatial transformer would help on a folder of images."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jsonargparse import Namespace
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.images.tasks import Say
from experiments.images.tasks.cache import cache_folder
from experiments.probe.advice import NAMES, Answer, advice
from experiments.probe.sizes import TESTED, check_enough, earlier_sizes, fit_to_time, with_sizes, with_sizes_of
from experiments.probe.study import Augmentation, augmentations, compared, load_probe, trying, with_margin
from experiments.study.plan import Plan, load, make_plan
from experiments.study.settled import begun_budget
from experiments.sweep.estimate import rates_of_arms
from experiments.sweep.executors import Workers
from experiments.sweep.executors.local import STALL_S, ThisMachine
from experiments.terminal.commands.options import OTHER, choose_budget, count_workers
from experiments.terminal.commands.sweep import carry_out_study, check_reports, status_of
from experiments.terminal.display import print_place, say_to
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.plain_text import plain
from ledger.wording import count

if TYPE_CHECKING:
    from analysis.findings import Findings

REPORT_S = 25.0
"""Seconds for workers to start, and for tables, figures and the report at the end."""


def main(options: Namespace) -> int:
    console = Console()
    plan, best, findings = compare(options, console)
    answers, num_tried = answers_of(findings, plan), len(augmentations(options.turns, options.mirror))
    asked = {"DATA": str(options.path), "SET": " ".join(options.set or ())}
    asked |= {name.upper(): options[name] for name in ("turns", "mirror", "group", "label")}
    asked |= {name.upper(): str(options[name]) for name in ("runs", "reports") if options[name] != Path(name)}
    asked["JOBS"] = str(options.jobs or "")
    num_test = plan.protocol.test_images if plan.protocol.test_images < TESTED * plan.protocol.train_images else 0
    said = plain(advice(answers, best.words, options.minutes, asked, num_test))
    console.print(Text(f"\n{said}", style="bold"), highlight=False, soft_wrap="`" in said)  # a command is copied whole
    table = Table("", "difference", "", "from a quarter of the epochs to all", box=box.SIMPLE_HEAD)
    for answer in answers:
        table.add_row(answer.question, answer.size, answer.verdict, answer.trend)
    console.print(table)
    console.print(Text(plain(how_sure(plan, findings, num_tried, num_test))), highlight=False)
    console.print()
    print_place(console, "Report", str(options.reports / plan.name / "report.html"))
    return status_of(findings)


def compare(
    options: Namespace, console: Console, rates_of: Callable[[Plan, Ledger], Sequence[float]] | None = None
) -> tuple[Plan, Augmentation, "Findings"]:
    """Try the augmentations, and carry out the comparison with the best of them.

    rates_of: training images/s of each arm in one worker; measured if not given.
    """
    started, say = time.monotonic(), say_to(console)
    place, ledger, cache = ThisMachine(), Ledger(options.runs, read_only=True), cache_folder()
    tried = augmentations(options.turns, options.mirror)
    turns, mirror, given = options.turns, options.mirror, options.set or ()
    ask = partial(
        load_probe, options.path, options.minutes, turns=turns, mirror=mirror, group=options.group, given=given
    )
    study = ask(choose_budget("auto"))
    loaded = load(study, label=options.label, cache=cache, say=say)
    study, begun = begun_budget(ledger, study, ask(OTHER[study.budget]), loaded.task.label, place.call)
    if begun:
        say(begun)
    num_of_class = np.bincount(loaded.task.train.labels_N)
    study = with_margin(study, float(num_of_class.max() / num_of_class.sum()))
    plan_of = partial(make_plan, label=options.label, cache=cache, ledger=ledger, loaded=loaded)
    say("Checking every variant ...")
    plan = plan_of(compared(study, tried[-1].policy), say=say)
    check_enough(plan)
    workers = Workers(count_workers(options, plan, place, say), STALL_S)

    def fit(plan: Plan, num_tried: int = 0) -> tuple[Plan, Sequence[float]]:
        """With the sizes that there is time for, and the rates of its arms."""
        rates = rates_of(plan, ledger) if rates_of else rates_of_arms(plan, ledger, say=say)
        left_s = 60 * options.minutes - REPORT_S - (time.monotonic() - started)
        return fit_to_time(plan, rates, left_s, workers.number, num_tried), rates

    sized: Plan | None = None
    rates: Sequence[float] | None = None
    best = tried[0]
    if len(tried) > 1:
        trials = plan_of(trying(study, tried), say=lambda line: None)  # what is to be said of the images has been
        if (fitted := earlier_sizes(trials, ledger)) is None:
            sized, rates = fit(plan, len(tried))
            fitted = replace(trials, protocol=sized.protocol)
            protocol = fitted.protocol
            say(
                f"First, {len(tried)} kinds of augmentation are tried once each, for {count(protocol.epochs, 'epoch')} "
                f"on {protocol.train_images:,} images; the best on validation images goes on."
            )
        else:  # what was begun goes on, at its sizes
            sized = with_sizes(plan, fitted.protocol.train_images, fitted.protocol.epochs)
        if options.reports is not None:
            check_reports(options.reports)
        slowest = [min(rates)] * len(tried) if rates else None
        findings = carry_out_study(fitted, options.runs, None, console, place, workers, rates=slowest)
        best = find_best(findings, tried, say)
    plan = plan_of(compared(study, best.policy), say=lambda line: None)
    fitted = earlier_sizes(plan, ledger) or (with_sizes_of(plan, sized) if sized else None)
    if fitted is None:
        fitted, rates = fit(plan)
    return fitted, best, carry_out_study(fitted, options.runs, options.reports, console, place, workers, rates=rates)


def find_best(findings: "Findings", tried: Sequence[Augmentation], say: Say) -> Augmentation:
    """The augmentation with the highest accuracy on validation images, the first of equals; `say` hears of all."""
    runs = findings.study.runs
    completed = runs[(runs["stage"] == "trial") & (runs["status"] == "completed")]
    ranked = completed.sort_values(["val_accuracy", "arm"], ascending=[False, True])
    for arm, accuracy in zip(ranked["arm"], ranked["val_accuracy"], strict=True):
        say(f"  {100 * accuracy:5.1f} %  {tried[arm].words}")
    if lost := len(tried) - len(ranked):
        say(f"  {count(lost, 'kind')} of augmentation could not be tried: the run failed or diverged.")
    if ranked.empty:
        raise UserError("path: no run on these images was completed; `make status` says how they ended")
    return tried[ranked["arm"].iloc[0]]


def answers_of(findings: "Findings", plan: Plan) -> list[Answer]:
    """What was decided of augmentation alone and a transformer alone, against neither, and of both together."""
    from analysis.claims import COARSE, OTHER_IMAGES
    from analysis.ladder import TREND_WORDS
    from analysis.ripeness import ALIKE
    from analysis.verdicts import BADGES, SHOWN
    from analysis.wording import signed_points

    by_claim = {(result.claim.variant, result.claim.baseline): result for result in findings.claims}
    answers = []
    for question, claim in zip(NAMES, plan.claims.family, strict=True):
        result = by_claim[claim.variant, claim.baseline]
        trend, size = "", "" if result.decision == "untested" else signed_points(result.difference)
        if result.climb and result.decision in (*SHOWN, "behind", "undecided"):
            trend = TREND_WORDS[result.climb.trend.direction]
        is_solved, lacks_images = result.why.startswith(ALIKE), result.why in (OTHER_IMAGES, COARSE)
        verdict = BADGES[result.decision]
        answers.append(Answer(question, result.decision, verdict, size, trend, result.why, is_solved, lacks_images))
    return answers


def how_sure(plan: Plan, findings: "Findings", num_tried: int, num_test: int) -> str:
    """What the advice rests on, and what could change it. num_tried: augmentations that the best was chosen among.

    num_test: the test images, where more minutes would add none.
    """
    from analysis.wording import plain_points

    protocol, claims = plan.protocol, findings.study.claims
    val_images = f"{protocol.val_images:,} validation images"
    chosen = f"The augmentation was the best of {num_tried} in one run each on {val_images}. " if num_tried > 1 else ""
    return (
        f"How sure: each variant was trained {count(plan.study.final_seeds, 'time')} for "
        f"{count(protocol.epochs, 'epoch')} on {protocol.train_images:,} images of {protocol.image_px} px and tested "
        f"on {protocol.test_images:,}, paired by seed and scarcely tuned. {chosen}"
        "A spatial transformer is stn_affine here; there are others. That something helps or harms is said with "
        f"at most {100 * claims.alpha:g} % risk that it is luck with seeds or test images; differences shown to be "
        f"below {plain_points(claims.margin)} count as none. Larger images, longer training and more tuning may change "
        f"it; more MINUTES{' and more test images' if num_test else ''} make it surer."
    )
