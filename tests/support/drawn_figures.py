"""A study's figures by name, and what is to be read in them."""

from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.registry import builders
from analysis.findings import Findings

HOSTILE = "stn_<b>:x=$a_1$&%|=cmd:" + "y" * 70 + "+ä猫"
"""A variant's name."""


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
