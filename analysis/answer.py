"""The answer of a study in plain words, generated from its claims and true to their numbers.

`headline` is what one would say in passing; `statements` go through the claims. Words are chosen by the decision of
each claim, never by its mean alone: what is not decided is not called better, worse or the same.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from analysis.ablation import status_text
from analysis.chance import majority
from analysis.claims import ClaimResult, Decision
from analysis.dependence import dependence_texts
from analysis.findings import Findings
from analysis.formats import one_line
from analysis.leader import best_text
from analysis.lost_runs import left_out, why_untested
from analysis.means import percent
from analysis.questions import Question, aside, question_of
from analysis.verdicts import SHOWN, Verdict, cost_of, needed, verdicts
from analysis.wording import (
    capital,
    level,
    p_text,
    plain_points,
    points,
    pose_words,
    risk_of,
    risk_text,
    signed_points,
    size_text,
    tuning_text,
)
from ledger.wording import count

MAX_ALIKE = 4
"""Claims of one pose, baseline and decision that are told one by one; of more, one sentence tells."""

_BAD_ENDS = ("failed", "diverged", "missing", "pruned")


@dataclass(frozen=True)
class Statement:
    """A sentence or a few. decision: what they say; pose: None where they are about all; results: their claims."""

    text: str
    decision: Decision
    pose: str | None
    results: tuple[ClaimResult, ...]


def answer(findings: Findings) -> tuple[str, ...]:
    """What the study says, claim by claim, in sentences that stand for themselves. Never empty."""
    warnings = findings.study.images.warnings if findings.study.images else ()
    of_images = (Statement(f"Warning: {one_line(text)}", "untested", None, ()) for text in warnings)
    said = (*statements(findings), *of_images)
    several = len({statement.pose for statement in said if statement.pose}) > 1
    return tuple(
        f"{capital(pose_words(findings.study, statement.pose))}: {statement.text}"
        if several and statement.pose
        else statement.text
        for statement in said
    )


def headline(findings: Findings) -> str:
    """The answer in a breath: for each pose, whether augmentation, a transformer, or both together pay, and the best.

    It begins with the images and the size of training that it holds for.
    """
    label, found = one_line(findings.study.task_label), verdicts(findings)
    poses = list(dict.fromkeys(verdict.pose for verdict in found))
    about = (
        f"On {label}, {pose_words(findings.study, poses[0])}"
        if len(poses) == 1 and (poses != ["upright"] or findings.study.test_pose)
        else f"On {label}"
    )
    if size := size_text(findings.study):
        about += f", trained on {size}"
    if not found and findings.claims:
        return f"{about}. " + " ".join(answer(findings))
    if not found:
        return f"On {label}, nothing is compared: each variant is its own baseline."
    said = {
        pose: "; ".join([*_clauses(findings, [v for v in found if v.pose == pose]), *best_text(findings, pose)])
        for pose in poses
    }
    risk = max((risk_of(verdict.best) for verdict in found if verdict.decision in SHOWN), default=0.0)
    end = f". Up to {percent(risk)} % of such runs may collapse, for all that was seen." if risk else "."
    if len(poses) == 1:
        return f"{about}: {said[poses[0]]}{end}"
    return (
        f"{about}. "
        + ". ".join(f"{capital(pose_words(findings.study, pose))}: {text}" for pose, text in said.items())
        + end
    )


def _clauses(findings: Findings, found: Sequence[Verdict]) -> Iterator[str]:
    """What is known first; then, each in one clause, what is not and why."""
    for verdict in found:
        if verdict.decision not in ("undecided", "untested", "unripe"):
            yield f"{verdict.subject} {verdict.verb} ({verdict.detail})"
    yield from _unknown(found, "unripe")
    if unsure := [verdict for verdict in found if verdict.decision == "undecided"]:
        asked = " or ".join(
            f"{verdict.subject} (so far {one_line(verdict.best.claim.variant)} {_signed(verdict.best)})"
            for verdict in unsure
        )
        yield f"cannot tell yet whether {asked} helps: {needed(findings, [r for v in unsure for r in v.results])}"
    yield from _unknown(found, "untested")


def _unknown(found: Sequence[Verdict], decision: Decision) -> Iterator[str]:
    unknown = [verdict for verdict in found if verdict.decision == decision]
    for (verb, why), alike in groupby(unknown, key=lambda verdict: (verdict.verb, verdict.detail)):
        yield f"{verb} whether {' or '.join(verdict.subject for verdict in alike)} helps: {why}"


def statements(findings: Findings) -> tuple[Statement, ...]:
    """The claims in the order of the study, pose by pose; many alike in one sentence; then what may mislead.

    Without the warnings of the images, which the report has in a box of their own.
    """
    of_study = (_of_claims, _of_factor, _of_uneven, _of_overlap, _of_losses)
    said = [statement for part in of_study for statement in part(findings)]
    if not findings.claims:
        said.insert(0, Statement("The study compares nothing: each variant is its own baseline.", "untested", None, ()))
    return tuple(said)


def _of_factor(findings: Findings) -> Iterator[Statement]:
    for pose, text in dependence_texts(findings.study, findings.dependences):
        yield Statement(text, "untested", pose, ())


def _of_claims(findings: Findings) -> Iterator[Statement]:
    alike: dict[tuple[str, str, Question, str, Decision], list[ClaimResult]] = {}
    for result in findings.claims:
        claim = result.claim
        kind = claim.pose, claim.baseline, question_of(claim, findings.study.roles), result.why, result.decision
        alike.setdefault(kind, []).append(result)
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


_GAINS = "{subject} {verb} {size} {link} {other}{cost} {tests}."
_STANDS = "With augmentation, {one} stands {size} {word} beside {other} than the two do without it {tests}."
_TOO_SMALL = " That is less than the {margin} that would matter here."
_SENTENCES: dict[Decision, str] = {
    "better": _GAINS,
    "worse": _GAINS,
    "negligible": _GAINS + _TOO_SMALL,
    "behind": f"{_GAINS} Yet {{why}}, more than both.",
    "equivalent": "{subject} is as good as {other} to within {margin}: {signed}{comma}{cost} {tests}.",
    "idle": "Whether looking pays is untested: {subject} did not learn to look. So far it is {level} {other} {tests}.",
    "unripe": "{short} whether {subject} is better or worse than {other}: {why}. So far it is {level} {other} {tests}.",
    "undecided": "Cannot tell yet whether {subject} is better or worse than {other}: so far it is {level} it {tests}; "
    "{needed}.",
}
_INTERACTIONS: dict[Decision, str] = {
    "better": _STANDS,
    "worse": _STANDS,
    "negligible": _STANDS + _TOO_SMALL,
    "equivalent": "Augmentation {changes} by less than {margin}: {signed} {tests}.",
    "idle": "Whether augmentation {changes} is untested: it did not learn to look. So far by {signed} {tests}.",
    "unripe": "{short} whether augmentation {changes}: {why}. So far by {signed} {tests}.",
    "undecided": "Cannot tell yet whether augmentation {changes}: so far by {signed} {tests}; {needed}.",
}
"""What the variant has over its baseline with their policies, beside what it has without."""
_MANY: dict[Decision, str] = {
    "better": "{all_of} are better: {span}.",
    "worse": "{all_of} are worse: {span}.",
    "negligible": "{all_of} differ by less than the {margin} that matters: {span}.",
    "behind": "{all_of} are better, yet {why}, more than both: {span}.",
    "equivalent": "{all_of} make no difference beyond {margin}: {span}.",
    "idle": "Whether looking pays is untested: {all_of} did not learn to look. So far {span}.",
    "unripe": "{short} of {all_of}: {why}. So far {span}.",
    "undecided": "Cannot tell yet of {all_of}: so far {span}; {needed}.",
    "untested": "Nothing can be said of {all_of} yet: fewer than two seeds completed {arms}.",
}


def _sentence(findings: Findings, result: ClaimResult) -> str:
    claim, difference = result.claim, result.difference
    one, other = one_line(claim.variant), one_line(claim.baseline)
    if result.decision == "untested":
        what = f"{one} against {other} yet"
        if claim.interaction:
            what = f"what augmentation changes yet for {one} beside {other}"
        return f"Nothing can be said of {what}: {why_untested(findings, result)}."
    subject, cost, tests = one + aside(claim, findings.study.roles), cost_of(findings, claim), _tests(findings, result)
    comma, is_gain = "," if cost else "", difference.value > 0
    if result.decision == "equivalent" and difference.value == 0 == difference.half_width and not claim.interaction:
        return f"{subject} is exactly as good as {other}, seed by seed{comma}{cost} {tests}."
    return (_INTERACTIONS if claim.interaction else _SENTENCES)[result.decision].format(
        subject=subject,
        one=one,
        other=other,
        verb="gains" if is_gain else "loses",
        link="over" if is_gain else "against",
        word="better" if is_gain else "worse",
        changes=f"changes what {one} has over {other}",
        size=points(difference),
        signed=_signed(result),
        level=level(difference),
        cost=cost,
        comma=comma,
        tests=tests,
        **_shared(findings, [result]),
    )


def _shared(findings: Findings, results: Sequence[ClaimResult]) -> dict[str, str]:
    """What sentences on one claim and on many may say. short, why: of what was trained too short to tell."""
    short, colon, why = results[0].why.partition(": ")
    margin = plain_points(findings.study.claims.margin)
    needs = needed(findings, results) if results[0].decision == "undecided" else ""
    return {"margin": margin, "needed": needs, "short": capital(short), "why": why if colon else short}


def _remarks(findings: Findings, result: ClaimResult) -> Iterator[str]:
    """What explains the result: how much there is to be won, how much of it was, what the transformer does."""
    claim, question = result.claim, question_of(result.claim, findings.study.roles)
    if result.decision in SHOWN:
        yield f"{capital(risk_text(result))}."
    if question == "ceiling" and result.decision == "better":
        yield "That much is there to be won by undoing each image's pose."
    share = findings.row(claim.pose, claim.variant).gap_closed
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
        yield from _of_transformer(findings, result)
    if result.decision != "untested":
        yield from left_out(findings, claim)


def _of_transformer(findings: Findings, result: ClaimResult) -> Iterator[str]:
    """That it does nothing or harm, and whether it follows how images are turned."""
    look = findings.look(result.claim.pose, result.claim.variant)
    if look is None:
        return
    num = sum(look.verdicts.get(verdict, 0) for verdict in ("working", "idle", "collapsed"))
    if idle := look.verdicts.get("idle", 0):
        often = "" if idle == num else "often " if 2 * idle > num else "sometimes "
        yield f"Its transformer {often}{look.stillness}: idle in {idle} of {num} runs."
    if collapsed := look.verdicts.get("collapsed", 0):
        yield f"Its transformer loses most of the image: collapsed in {collapsed} of {num} runs."
    angle_r2 = look.means["angle_r2"]
    known = f"(R² {angle_r2.value:.2f} ± {angle_r2.half_width:.2f})".replace("-", "−")
    if look.follows_turns:
        yield f"Its turns follow those of the images {known}."
    elif look.follows_turns is False:
        so = "; what it gains need not come from undoing them" if result.decision == "better" else ""
        yield f"Its turns, over all classes, do not follow those of the images {known}{so}."


def _of_uneven(findings: Findings) -> Iterator[Statement]:
    """How far variants are right where each class counts the same, if classes are uneven; controls are left out."""
    study, scores = findings.study, findings.scores
    score = next(iter(scores.uneven), None)
    found = majority(study)
    if score is None or found is None:
        return
    score_AS = scores.array(score.name)
    for pose in dict.fromkeys(arm.pose for arm in study.arms):
        mean_of = {
            one_line(arm.variant): float(np.nanmean(score_S))
            for arm, score_S in zip(study.arms, score_AS, strict=True)
            if arm.pose == pose and not arm.is_control and not np.isnan(score_S).all()
        }
        if mean_of:
            ends = dict.fromkeys((min(mean_of, key=mean_of.__getitem__), max(mean_of, key=mean_of.__getitem__)))
            text = " to ".join(f"{100 * mean_of[name]:.1f} % ({name})" for name in ends)
            yield Statement(
                f"Classes are uneven: always naming {one_line(found[0])} is right for {100 * found[1]:.1f} % of the "
                f"test images. Where each class counts the same, accuracy is {text}.",
                "untested",
                pose,
                (),
            )


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
    claim = results[0].claim
    what = "comparisons of what augmentation changes beside" if claim.interaction else "variants against"
    low, high = (pick(results, key=lambda result: result.difference.value) for pick in (min, max))
    return _MANY[results[0].decision].format(
        all_of=f"{len(results)} {what} {one_line(claim.baseline)}",
        arms="all four" if claim.interaction else "both",
        span=f"from {_signed(low)} ({one_line(low.claim.variant)}) to {_signed(high)} ({one_line(high.claim.variant)})",
        **_shared(findings, results),
    )


def _tests(findings: Findings, result: ClaimResult) -> str:
    """`(5 seeds, Holm p = 0.031, given one tuning)`."""
    equivalent = result.decision == "equivalent"
    p = p_text("equivalence p", result.p_equivalent) if equivalent else p_text("Holm p", result.p_holm)
    tuned = f", {given}" if (given := tuning_text(findings.study)) else ""
    return f"({count(result.difference.num, 'seed')}, {p}{tuned})"


def _signed(result: ClaimResult) -> str:
    return signed_points(result.difference)
