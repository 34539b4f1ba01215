"""What a probe says at its end, in a sentence."""

import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ledger.plain_text import plain
from ledger.wording import listed

FAILS = ("worse", "negligible", "equivalent")
"""What is decided of something that does not help."""
NAMES = ("augmentation", "a spatial transformer by itself", "a spatial transformer added to that augmentation")
"""The probe's questions, in the order of its claims."""
MAX_MINUTES = 1440.0


class Answer(NamedTuple):
    """To one of the questions. decision: in the words of analysis/claims.py; verdict: in the report's.

    size: of the difference, in points; trend: whether longer training still changes it; "" where that says nothing.
    why: what keeps it from being decided, in words; is_solved: whether that is that there is nothing to tell apart;
    lacks_images: whether it is that there are too few test images.
    """

    question: str
    decision: str
    verdict: str
    size: str
    trend: str
    why: str = ""
    is_solved: bool = False
    lacks_images: bool = False


def advice(
    answers: Sequence[Answer], shown: str, minutes: float, asked: Mapping[str, str] | None = None, num_test: int = 0
) -> str:
    """Whether a transformer would help, or augmentation is enough, in a sentence.

    shown: what the augmentation shows, in words. asked: what was given to `make probe` beside MINUTES, "" for nothing.
    num_test: the test images, where more minutes would add none.
    It says no more than what was decided of each question: that a transformer adds nothing to augmentation does not say
    which of the two is better by itself.
    """
    augmentation, transformer, both = [answer.decision for answer in answers]
    if augmentation == both == "better":
        return f"Yes: showing {shown} helps here, and a spatial transformer on top of it helps further."
    if augmentation == "better" and both in FAILS and transformer != "better":
        what = "on top does harm" if both == "worse" else "adds nothing to it that matters"
        return f"Augmentation is enough here ({shown}): a spatial transformer {what}."
    if not {"better", "behind", *FAILS} & {augmentation, transformer, both}:
        return _open(answers, minutes, asked or {}, num_test)
    names = (f"augmentation ({shown})", *NAMES[1:])
    words = {
        "better": ("{} helps here", "{} help here"),
        "fails": ("{} does not help here", "{} do not help here"),
        "relative": ("{} is better than that augmentation alone", ""),
        "behind": ("{} helps only behind the plain network", "{} help only behind the plain network"),
        "idle": ("{} did not learn to look, and so is untested", "{} did not learn to look, and so are untested"),
        "open": ("whether {} helps cannot be told yet", "whether {} help cannot be told yet"),
    }
    kinds = ["fails" if decision in FAILS else decision for decision in (augmentation, transformer, both)]
    kinds = [kind if kind in words else "open" for kind in kinds]
    if both == "better" and augmentation != "better":
        kinds[2] = "relative"
    parts = []
    for kind, (one, several) in words.items():
        if subjects := [name for name, its in zip(names, kinds, strict=True) if its == kind]:
            parts.append((one if len(subjects) == 1 else several).format(listed(subjects)))
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _open(answers: Sequence[Answer], minutes: float, asked: Mapping[str, str], num_test: int) -> str:
    """Why nothing is decided, and what would decide it."""
    if all(answer.is_solved for answer in answers):
        return f"There is {answers[0].why}."
    lacking = num_test and any(answer.lacks_images for answer in answers)
    only = lacking and all(answer.lacks_images or answer.is_solved for answer in answers)
    why = ""
    if only:
        why = f", since {num_test:,} test images are too few"
    elif any(answer.decision == "untested" for answer in answers):
        why = ", since too few runs were completed"
    elif all(answer.decision in ("unripe", "idle") for answer in answers):
        why = ", since the networks learned too little in that time"
    longer = min(3 * minutes, MAX_MINUTES)
    given = {"DATA": "...", "MINUTES": f"{longer:g}"}
    if all(plain(text) == text for text in asked.values()):  # else it could not be copied as it is
        given |= {name: text for name, text in asked.items() if text}
    words = shlex.join(["make", "probe", *(f"{name}={text}".replace("$", "$$") for name, text in given.items())])
    could = f" `{words}` might." if longer > minutes else ""
    if only:
        could = " More of them might tell; more MINUTES add none."
    elif lacking:
        again = f", or `{words}`" if longer > minutes else ""
        could = f" More test images than these {num_test:,} might tell{again}."
    time = f"{minutes:g} minute{'' if minutes == 1 else 's'}"
    return f"It cannot be told in {time} whether augmentation or a spatial transformer helps here{why}.{could}"
