"""The claims of a study, judged: which differences are there, which do not matter, which cannot be told yet."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.chance import chance
from analysis.evaluations import read_predictions
from analysis.formats import one_line
from analysis.ladder import Climb, climbs, still_changes
from analysis.means import Mean, mean_of
from analysis.questions import question_of
from analysis.records import Study
from analysis.ripeness import Trained, nothing_learned, too_short, trained_arms
from analysis.scores import FinalScores, Pairs, final_scores, signed
from analysis.statistics import Floats, mean_interval
from analysis.statistics.bca import Interval, bca_interval
from analysis.statistics.equivalence import equivalence_p
from analysis.statistics.families import holm
from analysis.statistics.improvement import probability_of_improvement
from analysis.statistics.seeds import seeds_to_decide
from analysis.statistics.seeds_by_images import ImageTests, seeds_by_images_interval, seeds_by_images_tests
from analysis.statistics.sign_flip import sign_flip_p
from ledger.names import variant_parts
from ledger.roles import WITH_TRANSFORMER
from ledger.study import Claim, Claims

Decision = Literal["better", "worse", "negligible", "equivalent", "behind", "undecided", "untested", "idle", "unripe"]
"""What a claim comes to; every word, colour, mark and piece of advice follows from it.

better, worse: the difference is there. negligible: it is there, and smaller than the margin. equivalent: it is smaller
than the margin. behind: better than its baseline, and both below the plain network. undecided: none of these is shown.
untested: fewer than two pairs. idle: of a transformer that moved nothing, or all images alike, in all runs.
unripe: trained too short, or on images that cannot tell (analysis/ripeness.py).
"""


@dataclass(frozen=True)
class ClaimResult:
    """A claim and what the completed final runs say of it. Accuracies and their differences are fractions.

    difference: of the test accuracies, paired by seed, with its Student-t interval; of an interaction: the difference
        with the policy minus that without it.
    bca: ends of the bootstrap interval (bias-corrected and accelerated) of the same mean over seeds.
    images: ends of the interval that resamples seeds and test images both; NaN where no predictions are kept.
    p: of the exact sign-flip test, two-sided. p_holm: corrected for the study's family.
    p_equivalent: of the two one-sided tests that the difference lies within the margin, corrected for the family too.
    improvement: probability that a run of the variant beats one of the baseline, of other seeds (ties count half).
    seeds_needed: seeds with which the claim could probably be decided, if what was seen so far is the truth; None where
        it is decided, or where nothing can be said.
    keys: of the runs that this is over.
    why: what keeps the claim from being decided, in words; "" where no more than seeds is wanted.
    lost: how many runs of the variant ended badly or collapsed, and of how many.
    climb: the same difference over the study's ladder; None without one, or with runs of it missing.
    """

    claim: Claim
    difference: Mean
    bca: tuple[float, float]
    images: tuple[float, float]
    p: float
    p_holm: float
    p_equivalent: float
    improvement: float
    decision: Decision
    seeds_needed: int | None
    keys: tuple[str, ...]
    why: str = ""
    lost: tuple[int, int] = (0, 0)
    climb: Climb | None = None

    @property
    def pose(self) -> str:
        return self.claim.pose


OTHER_IMAGES = "these seeds agree, other images might not"
COARSE = "the margin is smaller than one test image"
MIN_EQUIVALENCE = 3
"""Pairs without which no equivalence is decided: two that happen to agree look like no scatter at all."""


class Judgement(NamedTuple):
    """What the tests say of a claim of a family; the p-values are those of ClaimResult, NaN where it is untested.

    why: what else than seeds it lacks; "" for nothing.
    """

    p: float
    p_holm: float
    p_equivalent: float
    decision: Decision
    why: str = ""


def judge(
    difference_CS: Floats, alpha: float, margin: float, images: ImageTests | None = None, smallest: float = 0.0
) -> tuple[Judgement, ...]:
    """Judges a family of claims by their paired differences over seeds; NaN differences are no pairs.

    images: tests over seeds and test images of the same claims; NaN where no predictions are kept. Where they are,
    they must agree. smallest: what a single test image is worth; no difference is equivalent within a smaller margin.

    The probability of any wrong `better` or `worse` is at most alpha, and so is that of any wrong `equivalent`.
    """
    tested_C = (~np.isnan(difference_CS)).sum(axis=-1) >= 2
    mean_C = mean_interval(difference_CS).mean_X
    p_C = np.where(tested_C, sign_flip_p(difference_CS), np.nan)
    enough_C = (~np.isnan(difference_CS)).sum(axis=-1) >= MIN_EQUIVALENCE
    p_equivalent_C = np.where(enough_C, equivalence_p(difference_CS, margin), 1.0)
    agree_2C = [np.isnan(p_X) | (holm(p_X) <= alpha) for p_X in images or np.full((2, len(p_C)), np.nan)]
    columns = (tested_C, mean_C, holm(p_C), holm(p_equivalent_C), *agree_2C, p_C)
    judgements = []
    for tested, mean, p_holm, p_equivalent, images_differ, images_agree, p in zip(*columns, strict=True):
        there, small = p_holm <= alpha, p_equivalent <= alpha
        decision: Decision = "undecided"
        why = ""
        if there and images_differ:
            decision = "better" if mean > 0 else "worse"
        if small and images_agree and margin >= smallest:
            decision = "equivalent" if decision == "undecided" else "negligible"
        if decision == "undecided" and (there or small):
            why = OTHER_IMAGES
            if small and margin < smallest:
                why = COARSE
        untested = Judgement(math.nan, math.nan, math.nan, "untested")  # it stays in the family all the same
        judged = Judgement(float(p), float(p_holm), float(p_equivalent), decision, why)
        judgements.append(judged if tested else untested)
    return tuple(judgements)


def claim_results(study: Study) -> tuple[ClaimResult, ...]:
    """The study's claims, judged together, in their order. Raises UserError for predictions of another form.

    An interaction is over four arms: those of the claim and the same two without their policies.
    """
    claims, scores = study.claims, final_scores(study)
    if not claims.family:
        return ()
    pairs = [scores.pairs(claim) for claim in claims.family]
    difference_CS = np.array([each.difference_S for each in pairs])
    tested = [each.key_VP for each in pairs if each.key_VP.shape[1] >= 2]
    answers = _answers(study, sorted({key for key_VP in tested for key in key_VP.flat}))
    images, tests = _images(pairs, answers, claims.margin)
    num_images = study.runs["num_test_images"].max()
    judgements = judge(difference_CS, claims.alpha, claims.margin, tests, 1 / num_images if num_images > 0 else 0.0)
    mean, bca, trained = mean_interval(difference_CS), bca_interval(difference_CS), _trained(scores, answers)
    ladder = {climb.claim: climb for climb in climbs(study)}
    results = []
    for c, (claim, judgement) in enumerate(zip(claims.family, judgements, strict=True)):
        of_arms, climb = [trained[i] for i in pairs[c].arms], ladder.get(claim)
        decision, why = _bounded(scores, claim, judgement, float(mean.mean_X[c]), of_arms, climb)
        needed = _seeds_needed(claims, difference_CS[c]) if decision == "undecided" and not why else None
        improvement = math.nan
        if pairs[c].arms and not claim.interaction:
            improvement = probability_of_improvement(*scores.test_AS[pairs[c].arms])
        results.append(
            ClaimResult(
                claim=claim,
                difference=mean_of(mean, c),
                bca=(float(bca.low_X[c]), float(bca.high_X[c])),
                images=(float(images.low_X[c]), float(images.high_X[c])),
                improvement=improvement,
                seeds_needed=needed,
                keys=pairs[c].keys,
                lost=_lost(study, claim),
                climb=climb,
                **judgement._replace(decision=decision, why=why)._asdict(),
            )
        )
    return tuple(results)


def _trained(scores: FinalScores, answers: Mapping[str, "_Answers"]) -> list[Trained]:
    """What the runs and the answers of each arm show."""
    found = []
    for arm, keys in zip(trained_arms(scores), scores.keys, strict=True):
        given = [answers[key].one_answer for key in keys if key in answers]
        found.append(arm._replace(one_answer=bool(given) and all(given)))
    return found


def _bounded(
    scores: FinalScores, claim: Claim, judged: Judgement, difference: float, arms: list[Trained], climb: Climb | None
) -> tuple[Decision, str]:
    """The decision that may be told of what the tests decided, and why it is not theirs. arms: the claim's."""
    study = scores.study
    if judged.decision == "untested":
        return "untested", ""
    if why := nothing_learned(arms, chance(study)):
        return "unripe", why
    about_a_transformer = question_of(claim, study.roles) not in ("augmentation", "ceiling", "control")
    if about_a_transformer and is_idle(study, claim.pose, claim.variants[::2]):
        return "idle", "did not learn to look"
    if why := too_short(arms, judged.decision, difference, study.claims.margin):
        return "unripe", why
    if why := still_changes(climb, judged.decision) if climb else "":
        return "unripe", why
    if judged.decision == "better" and (ahead := _ahead(scores, claim)):
        return "behind", ahead
    return judged.decision, judged.why


def is_idle(study: Study, pose: str, variants: Iterable[str]) -> bool:
    """Whether there is a transformer among the variants, and none that was not idle in every run."""
    stn = [variant for variant in variants if study.roles[variant] in WITH_TRANSFORMER]
    runs = study.runs[(study.runs["stage"] == "final") & (study.runs["pose"] == pose)]
    verdicts = runs[runs["variant"].isin(stn)]["transformer.verdict"].dropna()
    return bool(len(verdicts)) and bool((verdicts == "idle").all())


def _ahead(scores: FinalScores, claim: Claim) -> str:
    """Which plain network on the same backbone is above both sides of the claim; "" where none is."""
    if claim.interaction:
        return ""
    study, mean_A = scores.study, mean_interval(scores.test_AS).mean_X
    backbone = variant_parts(claim.variant).backbone
    plain = [
        i
        for i, arm in enumerate(study.arms)
        if arm.pose == claim.pose and arm.is_plain and variant_parts(arm.variant).backbone == backbone
    ]
    best = max((i for i in plain if scores.keys[i]), key=mean_A.__getitem__, default=None)
    sides = [mean_A[study.places[claim.pose, variant]] for variant in claim.variants]
    if best is None or not mean_A[best] > max(sides):
        return ""
    return f"{one_line(study.arms[best].variant)} by itself is right on {100 * mean_A[best]:.1f} %"


def _lost(study: Study, claim: Claim) -> tuple[int, int]:
    """How many runs of the claim's variant failed, diverged or lost the image, and of how many."""
    runs = study.runs
    own = runs[(runs["stage"] == "final") & (runs["pose"] == claim.pose) & (runs["variant"] == claim.variant)]
    ended = own[own["status"] != "missing"]
    bad = (ended["status"] != "completed") | (ended["transformer.verdict"] == "collapsed")
    return int(bad.sum()), len(ended)


class _Answers(NamedTuple):
    """A run's answers. correct_N: 1 where it is right about a test image. one_answer: whether all are of one class."""

    correct_N: npt.NDArray[np.int8]
    one_answer: bool


def _answers(study: Study, keys: Sequence[str]) -> dict[str, _Answers]:
    """By key; without runs that have no predictions, or those of other images."""
    answers: dict[str, _Answers] = {}
    label_N: npt.NDArray[np.int16] | None = None
    for key in keys:
        found = read_predictions(study, key)
        if found is None or not found.label_N.size:
            continue
        label_N = found.label_N if label_N is None else label_N
        if np.array_equal(found.label_N, label_N):
            one_answer = bool((found.predicted_N == found.predicted_N[0]).all())
            answers[key] = _Answers(found.correct_N.astype(np.int8), one_answer)
    return answers


def _images(pairs: Sequence[Pairs], answers: Mapping[str, _Answers], margin: float) -> tuple[Interval, ImageTests]:
    """Intervals and tests over seeds and images; NaN for a claim with a run that has no answers."""
    tested = [
        c
        for c, each in enumerate(pairs)
        if each.key_VP.shape[1] >= 2 and all(key in answers for key in each.key_VP.flat)
    ]
    signed_CSN = [
        np.stack([signed(answers[key].correct_N for key in key_V) for key_V in pairs[c].key_VP.T]) for c in tested
    ]
    found_4C = np.full((4, len(pairs)), np.nan)
    found_4C[:, tested] = *seeds_by_images_interval(signed_CSN), *seeds_by_images_tests(signed_CSN, margin)
    return Interval(*found_4C[:2]), ImageTests(*found_4C[2:])


def _seeds_needed(claims: Claims, difference_S: Floats) -> int | None:
    difference_S = difference_S[~np.isnan(difference_S)]
    mean, sd = float(difference_S.mean()), float(difference_S.std(ddof=1))
    needed = seeds_to_decide(mean, sd, len(claims.family), claims.alpha, claims.margin)
    return None if needed is None else max(needed, len(difference_S) + 1)
