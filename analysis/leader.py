"""The best variant of a pose, by name, and which cannot be told from it."""

from collections.abc import Iterator

import numpy as np

from analysis.findings import Findings
from analysis.formats import one_line
from analysis.ripeness import ALIKE
from analysis.statistics.ties import best_of
from ledger.wording import listed

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
MAX_NAMED = 3
"""Variants that are named as tied with the best; of more, their number is."""


def best_text(findings: Findings, pose: str) -> Iterator[str]:
    """`best of the four: cnn+rotate, 99.6 %`; nothing where fewer than two have a score.

    Controls are left out: they are there to compare with, not to be taken.
    """
    study, scores = findings.study, findings.scores
    places = [i for i, arm in enumerate(study.arms) if arm.pose == pose and scores.keys[i] and not arm.is_control]
    if len(places) < 2:
        return
    score_AS = scores.test_AS[places]
    best = best_of(score_AS)
    assert best.index is not None
    names = [one_line(study.arms[i].variant) for i in places]
    tied = [name for name, is_tied in zip(names, best.tied(study.claims.alpha), strict=True) if is_tied]
    many = _NUMBERS[len(places)] if len(places) < len(_NUMBERS) else f"{len(places):,}"
    unripe = (claim for claim in findings.claims if (claim.pose, claim.decision) == (pose, "unripe"))
    if any(not claim.why.startswith(ALIKE) for claim in unripe):
        many += " so far"
    text = f"best of the {many}: {names[best.index]}, {100 * np.nanmean(score_AS[best.index]):.1f} %"
    if tied:
        text += f", not told apart from {listed(tied) if len(tied) <= MAX_NAMED else f'{len(tied):,} others'}"
    yield text
