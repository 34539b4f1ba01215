"""`plan`: say what a sweep would do, and whether its seeds can decide what it is made for."""

import dataclasses
import math
from collections.abc import Iterator

from jsonargparse import Namespace
from rich.console import Console
from rich.text import Text

from experiments.study.disk_space import disk_need
from experiments.study.plan import Plan
from experiments.study.shown import image_facts, image_warnings
from experiments.sweep.estimate import Estimate, estimate, runs_left
from experiments.sweep.sweep import Sweep, check_same_device, check_same_task
from experiments.terminal.commands.options import count_workers, place_of, plan_study
from experiments.terminal.display import print_plan, say_to
from ledger.errors import UserError
from ledger.files import to_json
from ledger.ledger import Ledger
from ledger.plain_text import as_markup
from ledger.study import Claim, Claims
from ledger.wording import count

MAX_CLAIMS_NAMED = 8
FOR_CLEAR_DIFFERENCES = "That is for the clearest differences; the answer counts anew, from those that were seen."


def main(options: Namespace) -> int:
    """Say what a sweep would do."""
    console = Console()
    with place_of(options) as place:
        plan = plan_study(options, console, place)
        ledger = Ledger(options.runs, read_only=True)
        num_workers = count_workers(options, plan, place, say_to(console))
        under_way = Sweep(plan, ledger, store=False)
        under_way.replay()
        need = disk_need(plan, runs_left(plan, under_way, ledger), num_workers)
        expected = estimate(plan, under_way, ledger, num_workers, call=place.call, say=say_to(console))
    show_plan(console, under_way, expected, num_workers, need.text(ledger.root))
    return 0


def show_plan(console: Console, under_way: Sweep, expected: Estimate, num_workers: int, disk: str) -> None:
    """Print the plan and its prospects. disk: what it will write there."""
    plan = under_way.plan
    about = [(heading, text, "") for heading, text in image_facts(plan.task)]
    about += [("Warning", text, "yellow") for text in image_warnings(plan.task, plan.protocol)]
    family = plan.claims.family
    names = [claim_text(claim, several_poses=len(plan.study.poses) > 1) for claim in family]
    if not names:
        listed = "none: no variant has another one as its baseline"
    elif not plan.claims.declared:
        listed = f"{len(names)}, none declared: each variant over its baseline"
    else:
        listed = "; ".join(names) if len(names) <= MAX_CLAIMS_NAMED else str(len(names))
    text, decidable = prospects(plan.claims, plan.study.final_seeds)
    seeds = Text(text, style="" if decidable else "yellow")
    print_plan(console, plan, expected, num_workers, images=about, claims=listed, prospects=seeds, disk=disk)
    for note in notes(under_way):
        console.print(f"{as_markup(note)}\n", style="yellow", highlight=False)


def notes(under_way: Sweep) -> Iterator[str]:
    """Why this study may not be the fresh one that its author expects."""
    plan, study, about, ledger = under_way.plan, under_way.plan.study, under_way.about, under_way.ledger
    yield from plan.notes
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
    ours = {key for arm in under_way.known.get("arms", []) for key in arm["finals"]}
    seen = sorted(
        {
            study.first_seed + number
            for arm in under_way.arms
            for number, key in enumerate(arm.finals)
            if key in ledger and key not in ours
        }
    )
    if seen:
        yield (
            f"Another study has final runs of {'seeds' if len(seen) > 1 else 'seed'} {', '.join(map(str, seen[:8]))}"
            f"{', ...' if len(seen) > 8 else ''}: they confirm nothing. A higher first_seed leads to fresh ones."
        )


def repeats(plan: Plan) -> Iterator[str]:
    """Variants whose search has fewer settings than trials."""
    trials, found = plan.study.search.trials, dict[int, dict[str, None]]()
    for arm in plan.arms:
        num = math.prod(parameter.num_values for parameter in arm.parameters)
        if num < trials:
            found.setdefault(int(num), {})[arm.variant] = None
    for num, variants in found.items():
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
        why = f"protocol: {', '.join(changed)}" if changed else "its search, variants or seeds are not what they were"
        yield (
            f"{num:,} finished run{'s' if num != 1 else ''} of this study will not count in it any more ({why}). "
            "Under another name, or with RUNS=, the study is one of its own."
        )


def claim_text(claim: Claim, *, several_poses: bool) -> str:
    """Such as `stn_affine over cnn at R`."""
    kind = "interaction of " if claim.interaction else ""
    pose = f" at {claim.pose}" if several_poses else ""
    return f"{kind}{claim.variant} over {claim.baseline}{pose}"


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
