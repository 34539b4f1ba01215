"""A study's figures by name, and what is to be read in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.registry import builders
from analysis.findings import Findings, find
from tests.support.synthetic_ledger import SEEDS, STUDY, TASK, write_arm, write_evaluation, write_study

Scores = Mapping[str, Sequence[float | str | None]]
"""By variant, what write_arm takes by seed."""

HOSTILE = "stn_<b>:x=$a_1$&%|=cmd:" + "y" * 70 + "+ä猫"
"""A variant's name."""


def study_of(
    ledger: Path, scores: Scores, *, poses: Sequence[str] = ("upright",), evaluated: bool = True, task: Any = TASK,
    **changes: Any,
) -> Findings:  # fmt: skip
    """A study of variants that are compared with the first. changes: to study.json."""
    arms = []
    for pose in poses:
        for variant, by_seed in scores.items():
            arms.append(write_arm(ledger, variant, next(iter(scores)), by_seed, pose=pose, task=task))
            for key, seed, accuracy in zip(arms[-1]["finals"], SEEDS, by_seed, strict=False):
                if evaluated and isinstance(accuracy, float):
                    write_evaluation(ledger, key, accuracy=accuracy, seed=seed)
    write_study(ledger, arms, task=task, **changes)
    return find(ledger, STUDY)


def built(name: str, findings: Findings) -> Figure | None:
    """The figure of that name; None where the study has nothing for it."""
    return builders()[name][1](findings)


def drawn(name: str, findings: Findings) -> Figure:
    """The figure of that name, which the study has, laid out."""
    with style.applied():
        figure = built(name, findings)
        assert figure is not None, name
        figure.draw_without_rendering()
    return figure


def texts(figure: Figure) -> list[str]:
    """All that is written in it."""
    return [text.get_text() for text in figure.findobj() if hasattr(text, "get_text")]


def legend_texts(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]
