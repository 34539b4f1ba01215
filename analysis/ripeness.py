"""Whether a comparison was trained long enough to be one: docs/ripeness.md says by what the rule was chosen.

A test over seeds asks whether the same short training would give the same difference again, and not whether a longer
one would. How steeply a curve ends says nothing: learning rates fall to 0 at the end of every run, however long, and
accuracy rises with that. What a network has not yet learned of its own training images bounds what a longer training
can bring it: nothing is decided where the side that stands lower has more left than half of the difference.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from analysis.chance import chance
from analysis.evaluations import epochs_of
from analysis.formats import one_line
from analysis.records import Study
from analysis.scores import FinalScores
from analysis.statistics import Floats
from ledger.names import variant_parts

TOO_SHORT, ALIKE = "trained too short to tell", "nothing to tell apart"
"""How a reason begins."""

LEARNED = 0.25
"""Of the way from chance to all training images right: a network below has not begun."""


LEFT = 0.5
"""Of the difference: how much of its training images the side that stands lower may have left to learn. Measured, a
longer training brought at most nine tenths of what was left."""


class Trained(NamedTuple):
    """An arm's completed final runs. Accuracies are fractions; S runs, E epochs, NaN where nothing is kept.

    train_SE: on training images, as they are shown; val_SE: on validation images. one_answer: whether every run gives
    all test images one class.
    """

    variant: str
    train_SE: Floats
    val_SE: Floats
    test_S: Floats
    one_answer: bool = False

    @property
    def fit(self) -> float:
        """Mean accuracy on training images in the last epoch; NaN where nothing is kept."""
        return float(self.train_SE[:, -1].mean()) if self.train_SE.size else np.nan

    @property
    def tested(self) -> float:
        return float(self.test_S.mean())


def trained_arms(scores: FinalScores) -> tuple[Trained, ...]:
    """What the runs of each arm show, in the order of the study.

    Raises UserError for a history that cannot be understood.
    """
    return tuple(
        _trained(scores.study, arm.variant, key_S[key_S != ""], test_S[key_S != ""])
        for arm, key_S, test_S in zip(scores.study.arms, scores.key_AS, scores.test_AS, strict=True)
    )


def _trained(study: Study, variant: str, keys: Iterable[str], test_S: Floats) -> Trained:
    curves = [epochs_of(study, key) for key in keys]
    curves_SE2 = np.full((len(curves), max(map(len, curves), default=0), 2), np.nan)
    for s, curve in enumerate(curves):
        if curve:
            curves_SE2[s, -len(curve) :] = [(epoch.train_accuracy, epoch.val_accuracy) for epoch in curve]
    return Trained(variant, curves_SE2[..., 0], curves_SE2[..., 1], test_S)


def is_ripe(study: Study, arms: Sequence[Trained], difference: float) -> bool:
    """Whether the difference between these arms may be called one: not where a longer training could turn it."""
    decision = "better" if difference > 0 else "worse"
    return not (nothing_learned(arms, chance(study)) or too_short(arms, decision, difference, study.claims.margin))


def is_ripe_either_way(study: Study, arms: Sequence[Trained], difference: float) -> bool:
    """The same of two arms, whichever of them is taken for the baseline. difference: the first's less the second's."""
    return is_ripe(study, arms, difference) and is_ripe(study, arms[::-1], -difference)


def nothing_learned(arms: Sequence[Trained], chance: float) -> str:
    """Why no comparison of these arms says anything, in words; "" if it may.

    chance: the accuracy of always naming the commonest class, on training images.
    """
    if all(arm.one_answer for arm in arms):
        return f"{ALIKE}: every run gives one and the same answer for all test images"
    if all((arm.test_S == 1).all() for arm in arms):
        return f"{ALIKE}: every run is right on all test images"
    for arm in arms:
        if not arm.fit > chance + LEARNED * (1 - chance):  # so that NaN is none
            naming = f"always naming the commonest class is right on {100 * chance:.0f} %"
            return f"{TOO_SHORT}: {_right(arm)}, where {naming}; more epochs or another learning rate are needed"
    return ""


def too_short(arms: Sequence[Trained], decision: str, difference: float, margin: float) -> str:
    """Why a longer training could turn a decision between these arms, in words; "" where it is not likely to.

    arms: the variant, its baseline and, of an interaction, the same two without their policies.
    """
    if decision == "undecided":
        return ""
    lower = {"better": arms[1:2], "worse": arms[:1]}.get(decision, arms)
    for arm in lower if len(arms) == 2 else arms:
        if not 1 - arm.fit <= LEFT * max(abs(difference), margin) + 1e-9:  # so that NaN is none
            if np.isnan(arm.fit):
                return f"{TOO_SHORT}: {_right(arm)}"
            size = f"{100 * abs(difference):.1f} points"
            wrong = f"of its training images, {one_line(arm.variant)} still gets {100 * (1 - arm.fit):.2g} % wrong"
            return f"{TOO_SHORT}: {wrong}, and learning them could change the difference of {size}"
    variant, baseline = arms[:2]
    cured = baseline.fit - margin > baseline.tested or baseline.tested >= 1 - margin
    if len(arms) == 2 and decision != "better" and _shown_more(variant, baseline) and not cured:
        right = f"{100 * baseline.fit:.0f} % of training and {100 * baseline.tested:.0f} % of test images"
        return f"{TOO_SHORT}: augmentation has nothing to cure yet, as {one_line(baseline.variant)} is right on {right}"
    return ""


def _shown_more(variant: Trained, baseline: Trained) -> bool:
    """Whether the variant has all policies of the baseline, and another."""
    shown, shown_to_baseline = (set(variant_parts(arm.variant).policies) for arm in (variant, baseline))
    return shown_to_baseline < shown


def _right(arm: Trained) -> str:
    if np.isnan(arm.fit):
        return f"nothing is kept of how {one_line(arm.variant)} was trained"
    return f"of its training images, {one_line(arm.variant)} is right on {100 * arm.fit:.0f} %"
