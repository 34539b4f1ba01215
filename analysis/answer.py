"""The answer of a study in plain words, generated from its claims and true to their numbers.

`headline` is what one would say in passing; `statements` go through the claims. Words are chosen by the decision of
each claim, never by its mean alone: what is not decided is not called better, worse or the same.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from analysis.ablation import status_text
from analysis.claims import ClaimResult, Decision
from analysis.findings import Findings
from analysis.formats import one_line
from analysis.lost_runs import left_out, row_of, why_untested
from analysis.questions import Question, aside, question_of
from analysis.records import Claim
from analysis.statistics import smallest_p
from analysis.wording import (
    capital,
    cost_text,
    count,
    level,
    p_text,
    percent,
    plain_points,
    points,
    pose_words,
    signed_points,
)

MAX_ALIKE = 4
"""Claims of one pose, baseline and decision that are told one by one; of more, one sentence tells."""

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

_VERBS: dict[Decision, str] = {
    "better": "helps",
    "worse": "hurts",
    "equivalent": "adds nothing that matters",
    "undecided": "cannot tell yet",
    "untested": "cannot tell yet",
}
_TALLY: dict[Decision, str] = {
    "better": "better",
    "worse": "worse",
    "equivalent": "no different",
    "undecided": "undecided",
    "untested": "not tested yet",
}
_BAD_ENDS = ("failed", "diverged", "missing", "pruned")


@dataclass(frozen=True)
class Statement:
    """A sentence or a few. decision: what they say; pose: None where they are about all; results: their claims."""

    text: str
    decision: Decision
    pose: str | None
    results: tuple[ClaimResult, ...]


@dataclass(frozen=True)
class Verdict:
    """What all claims on one question at one pose come to.

    decision: `better` where one of them is; another where all of them are; None where they are of several minds.
    subject, verb: such as `adding a spatial transformer to augmentation`, `helps`; detail: the numbers in words.
    best: the claim of that decision with the largest difference.
    """

    pose: str
    decision: Decision | None
    subject: str
    verb: str
    detail: str
    best: ClaimResult
    results: tuple[ClaimResult, ...]


def answer(findings: Findings) -> tuple[str, ...]:
    """What the study says, claim by claim, in sentences that stand for themselves. Never empty."""
    said = (*statements(findings), *_of_images(findings))
    several = len({statement.pose for statement in said if statement.pose}) > 1
    return tuple(
        f"{capital(pose_words(statement.pose))}: {statement.text}" if several and statement.pose else statement.text
        for statement in said
    )


def headline(findings: Findings) -> str:
    """The answer in a breath: for each pose, whether augmentation, a transformer, or both together pay."""
    label, found = one_line(findings.study.task_label), verdicts(findings)
    if not found and findings.claims:
        return f"On {label}. " + " ".join(answer(findings))
    if not found:
        return f"On {label}, nothing is compared: each variant is its own baseline."
    poses = dict.fromkeys(verdict.pose for verdict in found)
    said = {pose: "; ".join(_clauses(findings, [v for v in found if v.pose == pose])) for pose in poses}
    if len(poses) == 1:
        (pose,) = poses
        return f"On {label}: {said[pose]}." if pose == "upright" else f"On {label}, {pose_words(pose)}: {said[pose]}."
    return f"On {label}. " + " ".join(f"{capital(pose_words(pose))}: {text}." for pose, text in said.items())


def _clauses(findings: Findings, found: Sequence[Verdict]) -> Iterator[str]:
    """What is known first; then, in one clause, what is not."""
    for verdict in found:
        if verdict.decision not in ("undecided", "untested"):
            yield f"{verdict.subject} {verdict.verb} ({verdict.detail})"
    if unsure := [verdict for verdict in found if verdict.decision == "undecided"]:
        asked = " or ".join(f"{verdict.subject} ({_brief(verdict.best)})" for verdict in unsure)
        yield f"cannot tell yet whether {asked} helps: {_needed(findings, [r for v in unsure for r in v.results])}"
    untested = [verdict for verdict in found if verdict.decision == "untested"]
    for why, unknown in groupby(untested, key=lambda verdict: verdict.detail):
        yield f"cannot tell yet whether {' or '.join(verdict.subject for verdict in unknown)} helps: {why}"


def _brief(result: ClaimResult) -> str:
    return f"so far {one_line(result.claim.variant)} {_signed(result)}"


def verdicts(findings: Findings) -> tuple[Verdict, ...]:
    """What each pose says of each question that the study asks, in the order of poses and questions.

    Controls are left out where anything else is asked, and other questions where one of the main ones is. Interactions
    are always: that a lead grows does not say that anything helps.
    """
    found: dict[tuple[str, Question], list[ClaimResult]] = {}
    for result in findings.claims:
        found.setdefault((result.claim.pose, question_of(result.claim)), []).append(result)
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


def statements(findings: Findings) -> tuple[Statement, ...]:
    """The claims in the order of the study, pose by pose; many alike in one sentence; then what may mislead.

    Without the warnings of the images, which the report has in a box of their own.
    """
    said = [*_of_claims(findings), *_of_overlap(findings), *_of_losses(findings)]
    if not findings.claims:
        said.insert(0, Statement("The study compares nothing: each variant is its own baseline.", "untested", None, ()))
    return tuple(said)


def _of_claims(findings: Findings) -> Iterator[Statement]:
    alike: dict[tuple[str, str, Question, Decision], list[ClaimResult]] = {}
    for result in findings.claims:
        claim = result.claim
        alike.setdefault((claim.pose, claim.baseline, question_of(claim), result.decision), []).append(result)
    for pose in dict.fromkeys(result.claim.pose for result in findings.claims):
        for (of_pose, *_, decision), results in alike.items():
            if of_pose != pose:
                continue
            if len(results) > MAX_ALIKE:
                yield Statement(capital(_many(findings, results)), decision, pose, tuple(results))
                continue
            for result in results:
                text = " ".join([_sentence(findings, result), *_remarks(findings, result)])
                yield Statement(text, decision, pose, (result,))


def _sentence(findings: Findings, result: ClaimResult) -> str:
    claim, difference = result.claim, result.difference
    one, other = one_line(claim.variant), one_line(claim.baseline)
    if result.decision == "untested":
        what = f"{one} against {other} yet"
        if claim.interaction:
            what = f"what augmentation changes yet for {one} beside {other}"
        return f"Nothing can be said of {what}: {why_untested(findings, result)}."
    if claim.interaction:
        return _interaction(findings, result)
    subject, cost, tests = one + aside(claim), _cost(findings, claim), _tests(result)
    margin, comma = plain_points(findings.study.claims.margin), "," if cost else ""
    if result.decision in ("better", "worse"):
        verb, link = ("gains", "over") if result.decision == "better" else ("loses", "against")
        text = f"{subject} {verb} {points(difference)} {link} {other}{cost} {tests}."
        too_small = result.p_equivalent <= findings.study.claims.alpha
        return f"{text} That is less than the {margin} that would matter here." if too_small else text
    if result.decision == "equivalent":
        if difference.value == 0 == difference.half_width:
            return f"{subject} is exactly as good as {other}, seed by seed{comma}{cost} {tests}."
        return f"{subject} is as good as {other} to within {margin}: {signed_points(difference)}{comma}{cost} {tests}."
    return (
        f"Cannot tell yet whether {subject} is better or worse than {other}: so far it is {level(difference)} it "
        f"{tests}; {_needed(findings, [result])}."
    )


def _interaction(findings: Findings, result: ClaimResult) -> str:
    """What the variant has over its baseline with their policies, beside what it has without."""
    one, other, size = one_line(result.claim.variant), one_line(result.claim.baseline), points(result.difference)
    tests = _tests(result)
    if result.decision == "better":
        return f"With augmentation, {one} stands {size} better beside {other} than the two do without it {tests}."
    if result.decision == "worse":
        return f"With augmentation, {one} stands {size} worse beside {other} than the two do without it {tests}."
    if result.decision == "equivalent":
        margin = plain_points(findings.study.claims.margin)
        return f"Augmentation changes what {one} has over {other} by less than {margin}: {_signed(result)} {tests}."
    return (
        f"Cannot tell yet whether augmentation changes what {one} has over {other}: so far by {_signed(result)} "
        f"{tests}; {_needed(findings, [result])}."
    )


def _remarks(findings: Findings, result: ClaimResult) -> Iterator[str]:
    """What explains the result: how much there is to be won, how much of it was, what the transformer does."""
    claim, question = result.claim, question_of(result.claim)
    if question == "ceiling" and result.decision == "better":
        yield "That much is there to be won by undoing each image's pose."
    row = row_of(findings, claim.pose, claim.variant)
    share = row.gap_closed if row else None
    if question == "transformer" and share is not None and not math.isnan(share.low):
        span = f"{percent(share.value)} % [{percent(share.low)}, {percent(share.high)}]"
        gap = "the gap to a network that is told each image's true pose"
        # The interval is not corrected for the number of claims: the decision comes first
        if result.decision == "better" and share.low > 0:
            yield f"It closes {span} of {gap}."
        elif result.decision == "worse" and share.high < 0:
            yield f"It widens {gap}: {span} of it is closed."
        elif result.decision == "equivalent":
            yield f"Of {gap}, {span} is closed."
        else:
            yield f"Whether it closes any of {gap} is open: so far {span}."
    if question in ("transformer", "both", "together", "instead", "other"):
        yield from _idleness(findings, claim)
    if result.decision != "untested":
        yield from left_out(findings, claim)


def _idleness(findings: Findings, claim: Claim) -> Iterator[str]:
    looks = findings.transformers
    if looks is None or looks.stage != "final":
        return
    for look in (look for section in looks.sections for look in section.rows):
        if (look.pose, look.variant) != (claim.pose, claim.variant):
            continue
        num = sum(look.verdicts.get(verdict, 0) for verdict in ("working", "idle", "collapsed"))
        if idle := look.verdicts.get("idle", 0):
            left = look.means["identity_fraction"].value > 0.5
            what = "leaves images as they are" if left else "moves all images alike"
            often = "" if idle == num else "often " if 2 * idle > num else "sometimes "
            yield f"Its transformer {often}{what}: idle in {idle} of {num} runs."
        if collapsed := look.verdicts.get("collapsed", 0):
            yield f"Its transformer loses most of the image: collapsed in {collapsed} of {num} runs."


def _of_images(findings: Findings) -> Iterator[Statement]:
    for text in findings.study.images.warnings if findings.study.images else ():
        yield Statement(f"Warning: {one_line(text)}", "untested", None, ())


def _of_overlap(findings: Findings) -> Iterator[Statement]:
    overlap = findings.study.overlap
    if overlap and overlap.num_test:
        num, other = overlap.num_test, overlap.num_other_label
        text = f"{count(num, 'test image')} {'is a training image' if num == 1 else 'are training images'} too, pixel "
        text += f"for pixel{f' ({other:,} of them with another label there)' if other else ''}. What a network scores "
        text += "on these shows what it remembers, not what it can do, and they count in every test accuracy."
        yield Statement(text, "untested", None, ())


def _of_losses(findings: Findings) -> Iterator[Statement]:
    runs = findings.study.runs
    finals = runs[runs["stage"] == "final"]
    counts = finals["status"].value_counts()
    lost = {status: int(counts[status]) for status in _BAD_ENDS if status in counts}
    if lost:
        num = sum(lost.values())
        verbs = ("is", "it is") if num == 1 else ("are", "they are")
        text = f"{num:,} of {count(len(finals), 'final run')} {verbs[0]} not completed "
        yield Statement(f"{text}({status_text(lost)}); {verbs[1]} in no mean.", "untested", None, ())


def _many(findings: Findings, results: Sequence[ClaimResult]) -> str:
    """One sentence on claims of one pose, baseline and decision."""
    decision, claim = results[0].decision, results[0].claim
    what = "comparisons of what augmentation changes beside" if claim.interaction else "variants against"
    all_of = f"{len(results)} {what} {one_line(claim.baseline)}"
    if decision == "untested":
        arms = "all four" if claim.interaction else "both"
        return f"Nothing can be said of {all_of} yet: fewer than two seeds completed {arms}."
    low, high = min(results, key=_value), max(results, key=_value)
    span = f"from {_signed(low)} ({one_line(low.claim.variant)}) to {_signed(high)} ({one_line(high.claim.variant)})"
    if decision == "undecided":
        return f"Cannot tell yet of {all_of}: so far {span}; {_needed(findings, results)}."
    if decision == "equivalent":
        return f"{all_of} make no difference beyond {plain_points(findings.study.claims.margin)}: {span}."
    return f"{all_of} are {decision}: {span}."


def _verdict(findings: Findings, pose: str, question: Question, results: list[ClaimResult]) -> Verdict:
    decisions = {result.decision for result in results}
    tally = f"of {count(len(results), 'way')}, {_tally(results)}"
    decision: Decision | None = "better" if "better" in decisions else None
    decision = next(iter(decisions)) if len(decisions) == 1 else decision
    best = max((r for r in results if r.decision == (decision or r.decision)), key=_value)
    one, other, cost = one_line(best.claim.variant), one_line(best.claim.baseline), _cost(findings, best.claim)
    verb = _VERBS[decision] if decision else "is not shown to help"
    if decision is None and decisions == {"worse", "equivalent"}:
        verb = "does not help"
    if decision is None:
        open_ones = [result for result in results if result.decision == "undecided"]
        detail = tally + (f"; {_needed(findings, open_ones)}" if open_ones else "")
    elif decision == "better":
        detail = f"by {'up to ' if len(results) > 1 else ''}{points(best.difference)}: {one} over {other}{cost}"
        detail += f"; {tally}" if len(results) > 1 else ""
    elif decision == "worse":
        detail = f"by {'at least ' if len(results) > 1 else ''}{points(best.difference)}: {one} against {other}{cost}"
    elif decision == "equivalent":
        who = f"{one} against {other}{cost}" if len(results) == 1 else f"all {len(results)} ways"
        detail = f"within {plain_points(findings.study.claims.margin)}: {who}"
    elif decision == "undecided":
        so_far = "so far" if len(results) == 1 else f"of {len(results)} ways, the best so far:"
        detail = f"{so_far} {one} is {level(best.difference)} {other}; {_needed(findings, results)}"
    else:
        detail = why_untested(findings, best)
    return Verdict(pose, decision, _SUBJECTS[question], verb, detail, best, tuple(results))


def _tally(results: Sequence[ClaimResult]) -> str:
    counts = {words: sum(result.decision == decision for result in results) for decision, words in _TALLY.items()}
    return ", ".join(f"{num} {'is' if num == 1 else 'are'} {words}" for words, num in counts.items() if num)


def _needed(findings: Findings, results: Sequence[ClaimResult]) -> str:
    """`5 seeds cannot decide this, 8 could`. They cannot where the exact test has no p that is small enough.

    Small enough is what Holm's method asks of the next claim, after those that were found better or worse.
    """
    num = min(result.difference.num for result in results)
    num_left = sum(result.decision not in ("better", "worse") for result in findings.claims)
    needed = [result.seeds_needed for result in results if result.seeds_needed is not None]
    clear = all(abs(result.difference.value) > result.difference.half_width for result in results)
    verb = "cannot" if smallest_p(num) > findings.study.claims.alpha / num_left else "do not"
    text = f"{count(num, 'seed')} {verb} decide this"
    if clear and verb == "cannot":
        text = f"clear of zero, yet {text}"
    if not needed or min(needed) <= num:
        return text
    same = len(needed) == len(results) and min(needed) == max(needed)
    return f"{text}, {min(needed)} could" if same else f"{text}, {min(needed)} or more could"


def _tests(result: ClaimResult) -> str:
    """`(5 seeds, Holm p = 0.031)`."""
    equivalent = result.decision == "equivalent"
    p = p_text("equivalence p", result.p_equivalent) if equivalent else p_text("Holm p", result.p_holm)
    return f"({count(result.difference.num, 'seed')}, {p})"


def _signed(result: ClaimResult) -> str:
    return signed_points(result.difference)


def _cost(findings: Findings, claim: Claim) -> str:
    return cost_text(*(row_of(findings, claim.pose, variant) for variant in (claim.variant, claim.baseline)))


def _value(result: ClaimResult) -> float:
    return result.difference.value
