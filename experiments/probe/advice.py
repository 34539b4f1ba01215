"""What a probe says at its end, in a sentence."""

from collections.abc import Sequence
from typing import NamedTuple

from ledger.wording import listed

FAILS = ("worse", "negligible", "equivalent")
"""What is decided of something that does not help."""
NAMES = ("augmentation", "a spatial transformer by itself", "a spatial transformer on top of augmentation")
"""The probe's questions, in the order of its claims."""


class Answer(NamedTuple):
    """To one of the questions. decision: in the words of analysis/claims.py; verdict: in the report's.

    size: of the difference, in points; trend: whether longer training still changes it; "" where that says nothing.
    """

    question: str
    decision: str
    verdict: str
    size: str
    trend: str


def advice(found: Sequence[Answer], shown: str, minutes: float) -> str:
    """Whether a transformer would help, or augmentation is enough, in a sentence.

    shown: what the augmentation shows, in words.
    """
    decisions = [answer.decision for answer in found]
    augmentation, _, both = decisions
    if augmentation == "better" and both == "better":
        return f"Yes: {shown} help here, and a spatial transformer on top of them helps further."
    if augmentation == "better" and both in FAILS:
        what = "on top does harm" if both == "worse" else "adds nothing to it that matters"
        return f"Augmentation is enough here ({shown}): a spatial transformer {what}."
    if not {"better", "behind", *FAILS} & set(decisions):
        return (
            f"It cannot be told in {count_of(minutes, 'minute')} whether augmentation or a spatial transformer helps "
            f"here{_why(decisions)}. BUDGET=night could: `make sweep BUDGET=night DATA=...`"
        )
    names = (f"augmentation ({shown})", *NAMES[1:])
    told = (
        (("better",), "{} helps here", "{} help here"),
        (FAILS, "{} does not help here", "{} do not help here"),
        (("behind",), "{} helps only behind the plain network", "{} help only behind the plain network"),
        (("idle",), "{} did not learn to look, and so is untested", "{} did not learn to look, and so are untested"),
        (
            ("unripe", "undecided", "untested"),
            "whether {} helps cannot be told yet",
            "whether {} help cannot be told yet",
        ),
    )
    parts = []
    for of, one, several in told:
        if subjects := [name for name, decision in zip(names, decisions, strict=True) if decision in of]:
            parts.append((one if len(subjects) == 1 else several).format(listed(subjects)))
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _why(decisions: Sequence[str]) -> str:
    if set(decisions) <= {"unripe", "idle"}:
        return ", since the networks learned too little in that time"
    return ""


def count_of(number: float, what: str) -> str:
    """`10 minutes`, `2.5 minutes`."""
    return f"{number:g} {what}{'' if number == 1 else 's'}"
