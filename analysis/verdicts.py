"""What a study says of each question that it asks: a verb, by the decisions of its claims and by nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from analysis.claims import ClaimResult, Decision
from analysis.findings import Findings
from analysis.formats import one_line
from analysis.lost_runs import why_untested
from analysis.questions import Question, question_of
from analysis.statistics.sign_flip import smallest_p
from analysis.wording import cost_text, level, plain_points, points, risk_text
from ledger.study import Claim
from ledger.wording import count

_SUBJECTS: dict[Question, str] = {
    "augmentation": "showing transformed copies in training",
    "transformer": "learning where to look (a spatial transformer)",
    "both": "adding a spatial transformer to augmentation",
    "together": "augmentation together with a spatial transformer",
    "instead": "a spatial transformer in place of augmentation",
    "ceiling": "undoing each image's true pose",
    "other": "another change",
    "control": "a control",
}
"""What the headline is about."""


class Words(NamedTuple):
    """How a decision is told: verb: in the headline; tally: of how many claims; badge: before a sentence; cell: in
    tables."""

    verb: str
    tally: str
    badge: str
    cell: str


WORDS: dict[Decision, Words] = {
    "better": Words("helps", "better", "better", "better"),
    "worse": Words("hurts", "worse", "worse", "worse"),
    "negligible": Words(
        "differs, by less than matters", "different by less than matters", "too small", "differs, by less than matters"
    ),
    "equivalent": Words("adds nothing that matters", "no different", "equivalent", "no difference that matters"),
    "behind": Words(
        "gains, yet stays behind the plain network", "better, yet behind the plain network", "behind",
        "better, yet behind the plain network",
    ),
    "undecided": Words("cannot tell yet", "undecided", "undecided", "cannot tell yet"),
    "untested": Words("cannot tell yet", "not tested yet", "untested", "not tested"),
    "idle": Words(
        "is untested", "untested, as no transformer learned to look", "untested", "did not learn to look; untested"
    ),
    "unripe": Words(
        "trained too short to tell", "trained too short to tell", "cannot tell", "trained too short to tell"
    ),
}  # fmt: skip
BADGES: dict[Decision, str] = {decision: words.badge for decision, words in WORDS.items()}

SHOWN: tuple[Decision, ...] = ("better", "worse", "negligible", "equivalent")
"""Decisions that say how large a difference is."""


@dataclass(frozen=True)
class Verdict:
    """What all claims on one question at one pose come to.

    decision: `better` where one of them is; another where all of them are; None where they are of several minds.
    subject, verb: such as `adding a spatial transformer to augmentation`, `helps`; detail: the numbers in words.
    risk: how often such a run may collapse for all that was seen; "" where nothing is decided.
    best: the claim of that decision with the largest difference.
    """

    pose: str
    decision: Decision | None
    subject: str
    verb: str
    detail: str
    risk: str
    best: ClaimResult
    results: tuple[ClaimResult, ...]


def verdicts(findings: Findings) -> tuple[Verdict, ...]:
    """What each pose says of each question that the study asks, in the order of poses and questions.

    Controls are left out where anything else is asked, and other questions where one of the main ones is. Interactions
    are always: that a lead grows does not say that anything helps.
    """
    found: dict[tuple[str, Question], list[ClaimResult]] = {}
    for result in findings.claims:
        found.setdefault((result.claim.pose, question_of(result.claim, findings.study.roles)), []).append(result)
    main = any(question in _SUBJECTS and question not in ("other", "control") for _, question in found)
    poses = dict.fromkeys(result.claim.pose for result in findings.claims)
    asked: list[Question] = [question for question in _SUBJECTS if question != "control"]
    if main:
        asked.remove("other")
    if not any((pose, question) in found for pose in poses for question in asked):
        asked = ["control"]
    return tuple(
        _verdict(findings, pose, question, found[pose, question])
        for pose in poses
        for question in asked
        if (pose, question) in found
    )


def _verdict(findings: Findings, pose: str, question: Question, results: list[ClaimResult]) -> Verdict:
    decisions = {result.decision for result in results}
    decision: Decision | None = "better" if "better" in decisions else None
    decision = next(iter(decisions)) if len(decisions) == 1 else decision
    best = max((r for r in results if r.decision == (decision or r.decision)), key=_value)
    if decision is None:
        helps_not = decisions <= {"worse", "negligible", "equivalent"}
        open_ones = [result for result in results if result.decision == "undecided"]
        detail = f"of {count(len(results), 'way')}, {_tally(results)}"
        detail += f"; {needed(findings, open_ones)}" if open_ones else ""
        verb = "does not help" if helps_not else "is not shown to help"
    else:
        verb, detail = _told(findings, decision, best, results)
    risk = risk_text(best) if decision in SHOWN else ""
    return Verdict(pose, decision, _SUBJECTS[question], verb, detail, risk, best, tuple(results))


_DETAILS: dict[Decision, str] = {
    "better": "by {size}: {one} over {other}{cost}{but}",
    "worse": "by {size}: {one} against {other}{cost}",
    "negligible": "by {size}: {one} against {other}{cost}; {margin} would matter",
    "equivalent": "within {margin}: {one} against {other}{cost}",
    "behind": "by {size}: {one} over {other}, but {why}",
    "undecided": "so far {one} is {level} {other}; {needed}",
    "idle": "the transformer of {one} {why}: in every run it {still}",
}
_DETAILS_OF_SEVERAL = _DETAILS | {
    "better": "by up to {mean}, the most of {num} ways: {one} over {other}{cost}{but}; {tally}",
    "worse": "by at least {size}: {one} against {other}{cost}",
    "negligible": "all {num} ways; {margin} would matter",
    "equivalent": "within {margin}: all {num} ways",
    "undecided": "of {num} ways, the best so far: {one} is {level} {other}; {needed}",
}


def _told(findings: Findings, decision: Decision, best: ClaimResult, results: list[ClaimResult]) -> tuple[str, str]:
    """The verb of claims on one question, and its numbers in words."""
    if decision == "unripe":
        verb, _, why = best.why.partition(": ")
        return verb, why
    if decision == "untested":
        return WORDS[decision].verb, why_untested(findings, best)
    details = _DETAILS_OF_SEVERAL if len(results) > 1 else _DETAILS
    look = findings.look(best.claim.pose, best.claim.variant)
    return WORDS[decision].verb, details[decision].format(
        one=one_line(best.claim.variant),
        other=one_line(best.claim.baseline),
        cost=cost_of(findings, best.claim),
        size=points(best.difference),
        mean=points(best.difference._replace(half_width=math.nan)),
        level=level(best.difference),
        margin=plain_points(findings.study.claims.margin),
        but="; its turns do not follow those of the images" if look and look.follows_turns is False else "",
        still=look.stillness if look else "",
        why=best.why,
        num=len(results),
        tally=_tally(results),
        needed=needed(findings, results) if decision == "undecided" else "",
    )


def _tally(results: Sequence[ClaimResult]) -> str:
    counts = {words.tally: sum(r.decision == decision for r in results) for decision, words in WORDS.items()}
    return ", ".join(f"{num} {'is' if num == 1 else 'are'} {words}" for words, num in counts.items() if num)


def needed(findings: Findings, results: Sequence[ClaimResult]) -> str:
    """`5 seeds cannot decide this, 8 could if what they show is the truth`.

    They cannot where the exact test has no p that is small enough. Small enough is what Holm's method asks of the next
    claim, after those that were found better or worse. Where seeds are not what is wanting, what is.
    """
    if all(result.why for result in results):
        return results[0].why
    num = min(result.difference.num for result in results)
    level = findings.study.claims.alpha
    num_left = sum(not result.p_holm <= level for result in findings.claims)
    wanted = [result.seeds_needed for result in results if result.seeds_needed is not None]
    clear = all(abs(result.difference.value) > result.difference.half_width for result in results)
    verb = "cannot" if smallest_p(num) > level / num_left else "do not"
    text = f"{count(num, 'seed')} {verb} decide this"
    if clear and verb == "cannot":
        text = f"clear of zero, yet {text}"
    if not wanted or min(wanted) <= num:
        return text
    same = len(wanted) == len(results) and min(wanted) == max(wanted)
    return f"{text}, {min(wanted)}{'' if same else ' or more'} could if what they show is the truth"


def cost_of(findings: Findings, claim: Claim) -> str:
    rows = (findings.row(claim.pose, variant) for variant in (claim.variant, claim.baseline))
    return cost_text(findings.study, *rows)


def _value(result: ClaimResult) -> float:
    return result.difference.value
