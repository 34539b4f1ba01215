"""A probe's answers beside the truth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from analysis.claims import Decision
from analysis.findings import Findings
from analysis.verdicts import BADGES

QUESTIONS = ("augmentation", "transformer", "on top")
"""In the order of the probe's claims: each alone against neither, and a transformer on top of augmentation."""

Outcome = Literal["right", "cannot tell", "wrong", "open"]

HELPS, HELPS_NOT = ("better",), ("worse", "negligible", "equivalent")


@dataclass(frozen=True)
class Difference:
    """A difference of test accuracies, in points, and the ends of its 95 % interval."""

    points: float
    low: float
    high: float
    decision: Decision

    @property
    def text(self) -> str:
        if math.isnan(self.points):
            return "none"
        return f"{self.points:+.1f} [{self.low:.1f}, {self.high:.1f}]".replace("-", "−")

    @property
    def badge(self) -> str:
        return BADGES[self.decision]


def differences(findings: Findings) -> tuple[Difference, ...]:
    """To each of the questions, with the interval over seeds and test images."""
    return tuple(
        Difference(100 * result.difference.value, 100 * result.images[0], 100 * result.images[1], result.decision)
        for result in findings.claims
    )


def judged(said: Difference, true: Difference, margin: float) -> Outcome:
    """Whether what was said is so. margin: in points; a gain below it counts as none.

    The interval of the truth counts: "helps" is wrong where there is no gain, "does not help" where there is one of the
    margin or more; `open` where the interval allows both. That something gains and stays behind the plain network is
    right where the truth says the same.
    """
    if said.decision == "behind":
        return "right" if true.decision == "behind" else "open"
    if said.decision in HELPS:
        return "right" if true.low > 0 else "wrong" if true.high < margin else "open"
    if said.decision in HELPS_NOT:
        return "right" if true.high < margin else "wrong" if true.low > 0 and true.points >= margin else "open"
    return "cannot tell"


def of_probe(outcomes: Sequence[Outcome]) -> Outcome:
    """All answers of a probe together: wrong if one is, and right if one is and none is wrong."""
    for outcome in ("wrong", "right", "open"):
        if outcome in outcomes:
            return outcome
    return "cannot tell"
