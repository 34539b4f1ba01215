"""`plan`: say what a sweep would do, and whether its seeds can decide what it is made for."""

from jsonargparse import Namespace
from rich.console import Console
from rich.text import Text

from experiments.claims import Claim, Claims
from experiments.commands.options import count_workers, place_of, plan_study
from experiments.disk_space import disk_need
from experiments.display import count, print_plan
from experiments.estimate import Estimate, runs_left
from experiments.ledger import Ledger
from experiments.plan import Plan
from experiments.sweep import Sweep

MAX_CLAIMS_NAMED = 8


def main(options: Namespace) -> int:
    """Say what a sweep would do."""
    console = Console()
    with place_of(options) as place:
        plan = plan_study(options, console, place)
        ledger = Ledger(options.runs, read_only=True)
        num_workers = count_workers(options, plan, place)
        under_way = Sweep(plan, ledger, store=False)
        under_way.replay()
        need = disk_need(plan, runs_left(plan, under_way, ledger), num_workers)
        estimate = Estimate(plan, under_way, ledger, num_workers, call=place.call)
    show_plan(console, plan, estimate, num_workers, need.text(ledger.root))
    return 0


def show_plan(console: Console, plan: Plan, estimate: Estimate, num_workers: int, disk: str) -> None:
    """Print the plan and its prospects. disk: what it will write there."""
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
    print_plan(
        console, plan, estimate.runs, num_workers, estimate.num_done, estimate.kept_epochs, estimate.wall_s,
        listed, seeds, disk,
    )  # fmt: skip


def claim_text(claim: Claim, *, several_poses: bool) -> str:
    """Such as `stn_affine over cnn at R`."""
    kind = "interaction of " if claim.interaction else ""
    pose = f" at {claim.pose}" if several_poses else ""
    return f"{kind}{claim.variant} over {claim.baseline}{pose}"


def prospects(claims: Claims, num_seeds: int) -> tuple[str, bool]:
    """Whether so many seeds can make a difference significant, in words, and as such.

    The smallest p of an exact paired test must stand Holm's correction over the family, however clear the difference.
    """
    from analysis.statistics import seeds_needed_for_significance, smallest_p

    num_claims = len(claims.family)
    if not num_claims:
        return "", True
    best, bar = float(smallest_p(num_seeds)), claims.alpha / num_claims
    seeds, what = count(num_seeds, "seed"), count(num_claims, "claim")
    if best <= bar:
        can = f"{seeds} can decide {what}: an exact paired test reaches p = {best:.3g}, and {bar:.3g} is needed."
        return can, True
    needed = seeds_needed_for_significance(num_claims, claims.alpha) or "no number that is ever run"
    cannot = f"{seeds} cannot decide {'any of ' if num_claims > 1 else ''}{what}"
    reached = f"{seeds} {'reaches' if num_seeds == 1 else 'reach'} {best:.3g} at best"
    return f"{cannot}: an exact paired test needs p <= {bar:.3g}, and {reached}; {needed} could.", False
