"""The comparisons that the study was made for, each with its difference, how sure that is, and what follows."""

import math
from collections.abc import Iterator
from dataclasses import astuple

from analysis.claims import ClaimResult, Decision
from analysis.findings import Findings
from analysis.formats import Cell
from analysis.means import Mean, percent_text
from analysis.statistics import CONFIDENCE
from analysis.tables.building import table
from analysis.tables.columns import RUN_KEYS, Column, Draft, mean_column, pose_sections
from analysis.verdicts import SHOWN, WORDS
from analysis.wording import risk_of, tuning_text
from ledger.study import Claim

_MIN_IMPROVEMENT_SEEDS = 3
"""With fewer, the probability of improvement is nearly always 0, 50 or 100 %, and says nothing."""
_INTERACTION_WORDS: dict[Decision, str] = {"better": "more with the policy", "worse": "less with the policy"}


@table("claims", "Claims")
def claims(findings: Findings) -> Draft[ClaimResult] | None:
    """A section a pose; None where the study compares nothing."""
    study, results = findings.study, findings.claims
    if not results:
        return None
    declared = study.tuning, study.claims.alpha, study.claims.margin, study.claims.declared
    columns: list[Column[ClaimResult]] = [
        Column(
            "Claim", "pose variant baseline interaction", "l", lambda result: claim_text(result.claim),
            lambda result: astuple(result.claim),
        ),
        mean_column("Difference", "difference", lambda result: result.difference, num="num_pairs", signed=True),
        Column("Decision", "", "l", _decision_cell),
        Column("n", cell=lambda result: result.difference.num),
        Column(
            "BCa interval", "bca_low bca_high", "r", lambda result: _interval_cell(result.bca),
            lambda result: result.bca,
        ),
        Column(
            "Seeds × images", "images_low images_high", "r", lambda result: _interval_cell(result.images),
            lambda result: result.images,
        ),
        Column("p", "p", "r", lambda result: p_cell(result.p)),
        Column("Holm p", "p_holm", "r", lambda result: p_cell(result.p_holm)),
        Column("Equivalence p", "p_equivalent", "r", lambda result: p_cell(result.p_equivalent)),
        Column(
            "P(better) %", "probability_of_improvement", "r", _improvement_cell, lambda result: result.improvement
        ),
        Column("", "decision", value=lambda result: result.decision),
        Column("Seeds needed", "seeds_needed", "r", lambda result: result.seeds_needed),
        Column("May collapse %", cell=_risk_cell),
        Column("", "why num_lost num_runs", value=lambda result: (result.why, *result.lost)),
        Column("", "tuning alpha margin declared", value=lambda result: declared),
        RUN_KEYS,
    ]  # fmt: skip
    return Draft(pose_sections(study, columns, results), _notes(findings), columns, results)


def _decision_cell(result: ClaimResult) -> Cell:
    words = _INTERACTION_WORDS if result.claim.interaction else {}
    text = words.get(result.decision, decision_words(result))
    return Cell(text, strong=result.decision in ("better", "worse"))


def _risk_cell(result: ClaimResult) -> Cell | None:
    return Cell(f"{100 * risk_of(result):.0f}", risk_of(result)) if result.decision in SHOWN else None


def decision_words(result: ClaimResult) -> str:
    """What follows, in the words of the answer."""
    return result.why.partition(": ")[0] if result.decision == "unripe" else WORDS[result.decision].cell


def _improvement_cell(result: ClaimResult) -> Cell | None:
    if math.isnan(result.improvement) or result.difference.num < _MIN_IMPROVEMENT_SEEDS:
        return None
    return Cell(f"{100 * result.improvement:.0f}", result.improvement)


def claim_text(claim: Claim) -> str:
    text = f"{claim.variant} against {claim.baseline}"
    return f"{text}, with the policy and without" if claim.interaction else text


def _interval_cell(ends: tuple[float, float]) -> Cell | None:
    if any(map(math.isnan, ends)):
        return None
    low, high = (percent_text(Mean(end, math.nan, 1), signed=True) for end in ends)
    return Cell(f"[{low}, {high}]", sum(ends) / 2)


def p_cell(p: float) -> Cell | None:
    return None if math.isnan(p) else Cell("< 0.001" if p < 0.001 else f"{p:.3f}", p)


def _notes(findings: Findings) -> tuple[str, ...]:
    claims, confidence = findings.study.claims, f"{100 * CONFIDENCE:g} %"
    family = "declared in the sweep file" if claims.declared else "every variant against its baseline"
    num = len(claims.family)
    return (
        f"The family of {num} claim{'' if num == 1 else 's'}: {family}. Differences are in percentage points of test "
        f"accuracy, paired by seed over the n seeds that all arms of a claim completed, ± the half width of the "
        f"{confidence} Student-t interval.",
        f"BCa interval: {confidence} bootstrap interval over seeds, bias-corrected and accelerated; with few seeds it "
        "is too narrow (with 5 it covers some 84 %), so read the skew from it, not the certainty. Seeds × images: "
        f"{confidence} interval that resamples seeds and test images both. A dash: fewer than three seeds, or for the "
        "second no predictions are kept.",
        "p: exact two-sided sign-flip test over the pairs. Holm p: corrected for the family. Equivalence p: of the two "
        f"one-sided t tests that the difference lies within ± {100 * claims.margin:g} points, corrected likewise.",
        "P(better): how probable it is that a run of the first beats one of the second; a dash with fewer than "
        f"{_MIN_IMPROVEMENT_SEEDS} seeds, too few to tell.",
        f"Decision: better or worse where Holm p is at most {claims.alpha:g}; no difference that matters where "
        "equivalence p is, unless the margin is below one test image; by less than matters where both are. Where "
        "predictions are kept, a test over seeds and images must agree. Whatever p is, nothing is decided of networks "
        "that were trained too short to tell or of a transformer that was idle in every run.",
        "Seeds needed: with so many the claim could probably be decided, if what was seen so far is the truth; a dash "
        "where it is decided, or no number of seeds is likely to do. May collapse: how many runs of the first may "
        "fail or collapse for all that was seen, at 95 %; the p-values know nothing of collapses that no seed met.",
        *(f"Every p is {given}: what another tuning would change is in none of them." for given in _given(findings)),
    )


def _given(findings: Findings) -> Iterator[str]:
    if text := tuning_text(findings.study):
        yield "that of variants without tuning" if text == "untuned" else text
