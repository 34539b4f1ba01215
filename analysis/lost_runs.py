"""What is said of runs that are missing or ended badly, and of claims that lack them."""

from collections.abc import Iterator

from analysis.ablation import Row, status_text
from analysis.claims import ClaimResult
from analysis.findings import Findings
from analysis.formats import one_line
from analysis.ladder import missing_runs
from ledger.study import Claim


def unfinished(findings: Findings) -> str | None:
    """That runs of the study are still to be made, and how; None for a study that is done."""
    runs = findings.study.runs
    num = int((runs["status"] == "missing").sum()) + sum(not arm.finals for arm in findings.study.arms)
    if not num and not missing_runs(findings.study):
        return None
    return "Unfinished: runs are still missing, so this is not the last word. The same sweep goes on where it was."


def left_out(findings: Findings, claim: Claim) -> Iterator[str]:
    """That runs ended badly, and so have no say: those that are left may be the lucky ones."""
    for variant in (claim.variant, claim.baseline):
        if lost := lost_text(findings.row(claim.pose, variant)):
            yield f"This leaves out {lost} of {one_line(variant)}."


def lost_text(row: Row) -> str:
    """Which final runs ended badly: `2 diverged of 5 runs`; "" where none or all of them did."""
    lost = {end: num for end, num in row.final_statuses.items() if end in ("failed", "diverged")}
    return f"{status_text(lost)} of {len(row.finals)} runs" if lost and sum(lost.values()) < len(row.finals) else ""


def why_untested(findings: Findings, result: ClaimResult) -> str:
    """Why a claim has fewer than two pairs of completed runs: the arm that lacks them, and how its runs ended."""
    claim = result.claim
    for variant in claim.variants:
        is_there = (claim.pose, variant) in findings.study.places
        ends = findings.row(claim.pose, variant).final_statuses if is_there else {}
        if not ends:
            return f"{one_line(variant)} has no final run"
        if "completed" not in ends:
            if len(ends) == 1:
                (end, num), *_ = ends.items()
                ended = end if end in ("failed", "diverged") else f"{'is' if num == 1 else 'are'} {end}"
                return f"{f'all {num} runs' if num > 1 else 'the only run'} of {one_line(variant)} {ended}"
            return f"no run of {one_line(variant)} is completed ({status_text(ends)})"
    all_of = "all four" if claim.interaction else "both"
    return "one seed is no test" if result.difference.num == 1 else f"no seed completed {all_of}"
