"""`plan`: say what a sweep would do, and whether its seeds can decide what it is made for."""

import dataclasses
import math
from collections.abc import Collection, Iterator
from itertools import groupby

from jsonargparse import Namespace
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.images.tasks import Task
from experiments.study.disk_space import disk_need
from experiments.study.ladder import size_text
from experiments.study.plan import Plan
from experiments.study.shown import image_facts, image_warnings
from experiments.sweep.estimate import Estimate, estimate, runs_left
from experiments.sweep.stale import find_stale
from experiments.sweep.sweep import Sweep, check_same_device, check_same_task
from experiments.terminal.commands.options import count_workers, place_of, plan_studies
from experiments.terminal.display import folded, say_to
from ledger.config import Protocol
from ledger.errors import UserError
from ledger.files import to_json
from ledger.ledger import Ledger
from ledger.options import option_text
from ledger.overrides import overrides_text
from ledger.plain_text import as_markup
from ledger.study import Claims
from ledger.wording import count, duration

MAX_CLAIMS_NAMED = 8
FOR_CLEAR_DIFFERENCES = "That is for the clearest differences; the answer counts anew, from those that were seen."


def main(options: Namespace) -> int:
    console = Console()
    with place_of(options) as place:
        plans = plan_studies(options, console, place)
        ledger, left_s = Ledger(options.runs, read_only=True), 0.0
        for plan in plans:
            num_workers = count_workers(options, plan, place, say_to(console))
            under_way = Sweep(plan, ledger, store=False)
            under_way.replay()
            need = disk_need(plan, runs_left(plan, under_way, ledger), num_workers)
            expected = estimate(plan, under_way, ledger, num_workers, call=place.call, say=say_to(console))
            show_plan(console, under_way, expected, num_workers, need.text(ledger.root))
            left_s += expected.wall_s
    if len(plans) > 1:
        runs = count(sum(plan.num_runs for plan in plans), "run")
        left = f"about {duration(left_s)}" if left_s else "nothing is left to train"
        console.print(f"All {len(plans)} values of {plans[0].study.factor.key}: {runs}; {left}.", highlight=False)
    return 0


def show_plan(console: Console, under_way: Sweep, expected: Estimate, num_workers: int, disk: str) -> None:
    """Print the plan and its prospects. disk: what it will write there."""
    plan = under_way.plan
    study, protocol = plan.study, plan.protocol
    console.print(
        f"[bold]Study[/] {as_markup(plan.name)}   [bold]budget[/] {study.budget}   "
        f"[bold]protocol[/] {plan.protocol_hash}"
    )
    if study.factor.key:
        values = ", ".join(map(option_text, study.factor.values))
        what = f"{study.factor.text(study.name)}, of {values}: each value is a study of its own"
        console.print(f"[bold]Factor[/] {what}", highlight=False)
    show_images(console, plan.task, protocol)
    if not study.asked:  # it is no probe, whose study is in no sweep file
        console.print("[bold]Look[/]  `make look` draws some images, as networks see them and under poses and policies")
    if tested := plan.arms[0].test_pose:
        console.print(f"[bold]Tested[/] under the pose {tested}, and beside that as the others are", highlight=False)
    weighted = ", all classes count the same in the loss" if protocol.class_weights == "balanced" else ""
    from_seed = f" from seed {study.first_seed}" if study.first_seed > 1 else ""
    console.print(
        f"[bold]Runs[/]  {count(protocol.epochs, 'epoch')}, batch {protocol.batch_size}, width {protocol.width:g}, "
        f"{protocol.precision} on {protocol.device}{weighted}; "
        f"each variant {count(study.final_seeds, 'final run')}{from_seed}"
    )
    if study.overrides:
        console.print(f"[bold]Set[/]   {as_markup(overrides_text(study.overrides))}", highlight=False)
    console.print(f"[bold]Tuning[/] {tuning_text(plan)}", highlight=False)
    if plan.rungs:
        sizes = ", ".join(map(size_text, plan.rungs))
        console.print(f"[bold]Ladder[/] the final runs also at {sizes}: does the answer still change?", highlight=False)
    console.print(f"[bold]Claims[/] {as_markup(claims_text(plan))}", highlight=False)
    chances, decidable = prospects(plan.claims, study.final_seeds)
    if chances:
        console.print("[bold]Seeds[/] ", Text(chances, style="" if decidable else "yellow"), highlight=False)
    name_width = max(24, (console.width - 20) // 3)
    for pose, arms in groupby(zip(plan.arms, expected.runs, strict=True), key=lambda pair: pair[0].pose):
        table = Table(box=box.SIMPLE_HEAD, title=f"Pose {pose}", title_justify="left")
        table.add_column("variant", no_wrap=True)
        table.add_column("compared with", no_wrap=True)
        table.add_column("s a run", justify="right", no_wrap=True)
        for arm, seconds in arms:
            baseline = "" if arm.baseline == arm.variant else folded(arm.baseline, name_width)
            table.add_row(folded(arm.variant, 2 * name_width), baseline, f"{seconds[1]:.0f}")
        console.print(table)
    console.print(work_text(plan, expected, num_workers))
    console.print(f"{as_markup(disk)}\n", highlight=False, soft_wrap=True)
    for note in notes(under_way):
        console.print(f"{as_markup(note)}\n", style="yellow", highlight=False)


def show_images(console: Console, task: Task, protocol: Protocol) -> None:
    """Print what is known of a study's images. protocol: fitted to the task."""
    console.print(
        f"[bold]Task[/]  {as_markup(task.label)}: "
        f"{protocol.train_images:,} training, {protocol.val_images:,} validation, "
        f"{protocol.test_images:,} test images; {len(task.classes)} classes; {protocol.image_px} px"
    )
    about = [(heading, text, "") for heading, text in image_facts(task, protocol)]
    about += [("Warning", text, "yellow") for text in image_warnings(task, protocol)]
    for heading, text, colour in about:
        console.print(f"[bold]{as_markup(heading):6}[/] {as_markup(text)}", style=colour, highlight=False)


def tuning_text(plan: Plan) -> str:
    search = plan.study.search
    text = f"{count(search.trials, 'trial')} a variant by {search.sampler} on validation accuracy"
    if search.tuning == "per_seed":
        text = f"anew for each final run: {text}, with a seed and a split of its own"
    elif plan.trials_an_arm > search.trials:
        text += f", and {plan.trials_an_arm - search.trials} runs of the best settings with other seeds"
    at_size = f", at {size_text(plan.tuning_protocol)}" if plan.tuning_protocol != plan.protocol else ""
    return text + at_size


def claims_text(plan: Plan) -> str:
    """What is to be decided, such as `stn_affine over cnn at R`."""
    family = plan.claims.family
    if not family:
        return "none: no variant has another one as its baseline"
    if not plan.claims.declared:
        return f"{len(family)}, none declared: each variant over its baseline"
    if len(family) > MAX_CLAIMS_NAMED:
        return str(len(family))
    return "; ".join(
        f"{'interaction of ' if claim.interaction else ''}{claim.variant} over {claim.baseline}"
        f"{f' at {claim.pose}' if len(plan.study.poses) > 1 else ''}"
        for claim in family
    )


def work_text(plan: Plan, expected: Estimate, num_workers: int) -> str:
    """How many runs there are, how many of them are made or begun, and how long the rest takes."""
    done = f", {expected.num_done} of them in the ledger already" if expected.num_done else ""
    if kept_epochs := expected.kept_epochs:
        goes = "goes on where it was" if len(kept_epochs) == 1 else "go on where they were"
        done += f", {len(kept_epochs)} {goes} (epoch {first_few(kept_epochs)} of {plan.protocol.epochs})"
    workers = count(num_workers, "worker")
    left = f"about {duration(expected.wall_s)} with {workers}" if expected.wall_s else "nothing is left to train"
    return f"{plan.num_trials} trials and {plan.num_finals * (1 + len(plan.rungs))} final runs{done}; {left}."


def first_few(numbers: Collection[int]) -> str:
    return ", ".join(map(str, sorted(numbers)[:8])) + ", ..." * (len(numbers) > 8)


def notes(under_way: Sweep) -> Iterator[str]:
    """Why this study may not be the fresh one that its author expects."""
    plan, study, about, ledger = under_way.plan, under_way.plan.study, under_way.about, under_way.ledger
    yield from plan.notes
    stale = find_stale(under_way)
    if stale.keys:
        yield f"{stale.text()} They count as they are; `make sweep STALE=again` makes them again."
    if stale.num_unknown:
        yield f"What code made {count(stale.num_unknown, 'finished run')} is not known: older versions did not say."
    yield from changes(under_way)
    if any(to_json(about[name]) != to_json(value) for name, value in about["first"].items()):
        yield (
            "This study was begun with other claims, seeds, training or search, and its report will say so. "
            "Under another name it is one of its own."
        )
    yield from repeats(under_way.plan)
    if study.first_seed == 1:
        return
    missing = sum(key not in ledger for arm in under_way.arms for key in arm.trials)
    is_tuned = not missing and all(arm.finals for arm in under_way.arms)
    if study.search.tuning == "once" and not is_tuned:
        yield (
            "Not all of its tuning is in this ledger: it will be made. "
            "To confirm an earlier study, RUNS and all else but name and first_seed are that one's."
        )
    of_this_study = {key for arm in under_way.known.get("arms", []) for key in arm["finals"]}
    finals = [pair for arm in under_way.arms for pair in enumerate(arm.finals, start=study.first_seed)]
    if seen := sorted({seed for seed, key in finals if key in ledger and key not in of_this_study}):
        yield (
            f"Another study has final runs of seed{'s' * (len(seen) > 1)} {first_few(seen)}: they confirm nothing. "
            "A higher first_seed leads to fresh ones."
        )


def repeats(plan: Plan) -> Iterator[str]:
    """Variants whose search has fewer settings than trials."""
    trials, variants_by_num = plan.study.search.trials, dict[int, dict[str, None]]()
    for arm in plan.arms:
        num = math.prod(parameter.num_values for parameter in arm.parameters)
        if num < trials:
            variants_by_num.setdefault(int(num), {})[arm.variant] = None
    for num, variants in variants_by_num.items():
        few = len(variants) <= MAX_CLAIMS_NAMED
        yield (
            f"{', '.join(variants) if few else count(len(variants), 'variant')}: the search space has "
            f"{count(num, 'different setting')}; {count(trials - num, 'trial')} or more of {trials} repeat "
            f"{'it' if num == 1 else 'them'}."
        )


def changes(under_way: Sweep) -> Iterator[str]:
    """What a sweep refuses to do to the study in the ledger, or which of its runs will not count."""
    plan, ledger = under_way.plan, under_way.ledger
    try:
        check_same_task(ledger, plan)
        check_same_device(under_way)
    except UserError as error:
        yield f"A sweep is refused: {error}"
        return
    if num := under_way.left_behind():
        was, now = (dataclasses.asdict(each) for each in (plan.settled or plan.protocol, plan.protocol))
        changed = [f"{name} {was[name]} -> {value}" for name, value in now.items() if was[name] != value]
        tested = [(each.get("test_pose") or {}).get("name", "none") for each in (under_way.known, under_way.about)]
        why = f"protocol: {', '.join(changed)}" if changed else "its search, variants or seeds are not what they were"
        if not changed and tested[0] != tested[1]:
            why = f"test_pose: {' -> '.join(tested)}"
        yield (
            f"{count(num, 'finished run')} of this study will not count in it any more ({why}). "
            "Under another name, or with RUNS=, the study is one of its own."
        )


def prospects(claims: Claims, num_seeds: int) -> tuple[str, bool]:
    """Whether so many seeds can make a difference significant, in words, and as such.

    The smallest p of an exact paired test must stand Holm's correction over the family, however clear the difference.
    """
    from analysis.statistics.seeds import seeds_needed_for_significance
    from analysis.statistics.sign_flip import smallest_p

    num_claims = len(claims.family)
    if not num_claims:
        return "", True
    best, bar = float(smallest_p(num_seeds)), claims.alpha / num_claims
    seeds, what = count(num_seeds, "seed"), count(num_claims, "claim")
    if best <= bar:
        can = f"{seeds} can decide {what}: an exact paired test reaches p = {best:.3g}, and {bar:.3g} is needed."
        return f"{can} {FOR_CLEAR_DIFFERENCES}", True
    needed = seeds_needed_for_significance(num_claims, claims.alpha) or "no number that is ever run"
    cannot = f"{seeds} cannot decide {'any of ' if num_claims > 1 else ''}{what}"
    reached = f"{seeds} {'reaches' if num_seeds == 1 else 'reach'} {best:.3g} at best"
    return (
        f"{cannot}: an exact paired test needs p <= {bar:.3g}, and {reached}; {needed} could. {FOR_CLEAR_DIFFERENCES}",
        False,
    )
