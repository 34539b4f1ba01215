"""The figures of a study: one file each, found by its decorator, written as PNG, SVG and PDF.

A builder takes the study's Findings and returns a Figure, or None where the study has nothing for it.
The same ledger gives the same picture: nothing is drawn at random, and files carry no date. Only names in letters that
DejaVu lacks (Chinese, Japanese, Korean, Indic, Thai, most emoji) look as the fonts installed on a machine have them.
"""

import importlib
import io
import pkgutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from analysis.faults import kept
from analysis.figures import as_delivered, style  # noqa: F401  in this order: the first one imports matplotlib
from analysis.findings import Findings
from analysis.reports import write_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""By ending, what is left out of a file so that the same picture has the same bytes."""

Builder = Callable[[Findings], "Figure | None"]
_Builder = TypeVar("_Builder", bound=Builder)
_BUILDERS: dict[str, tuple[str, Builder]] = {}
_NARROW: dict[str, Builder] = {}


def figure(name: str, caption: str) -> Callable[[_Builder], _Builder]:
    """Registers the builder of the figure that files `name.png`, `name.svg` and `name.pdf` hold.

    caption: what it shows and how to read it, in a sentence or two for somebody who has never seen one like it.
    """

    def register(builder: _Builder) -> _Builder:
        _BUILDERS[name] = (caption, builder)
        return builder

    return register


def narrow(name: str) -> Callable[[_Builder], _Builder]:
    """Registers another form of a figure, COLUMN_IN wide, that phones show in its place; it has no file of its own."""

    def register(builder: _Builder) -> _Builder:
        _NARROW[name] = builder
        return builder

    return register


def builders() -> dict[str, tuple[str, Builder]]:
    """Every figure's caption and builder by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_BUILDERS.items()))


def write_figures(findings: Findings, out: Path) -> list[Path]:
    """Write every figure that the study has something for into `out`, in all FORMATS; returns their paths.

    Files of figures that it has nothing for, or that cannot be drawn, are deleted; the latter are among
    findings.faults. Raises UserError (a ValueError of one line) if a file of the ledger cannot be understood or
    `out` cannot be written.
    """
    files: dict[str, bytes] = {}
    known = builders()
    with style.applied(findings.study):
        for name, (_, builder) in known.items():
            with kept(findings.faults, f"figure {name}"):
                drawn = builder(findings)
                if drawn is not None:
                    files |= {f"{name}.{kind}": data for kind, data in figure_files(drawn).items()}
    return write_files(out, files, optional=[f"{name}.{kind}" for name in known for kind in FORMATS])


def narrow_drawings(findings: Findings) -> dict[str, bytes]:
    """The SVG of each figure that has a narrow form, by its name."""
    drawn = {}
    with style.applied(findings.study):
        for name, builder in _NARROW.items():
            with kept(findings.faults, f"narrow figure {name}"):
                if (found := builder(findings)) is not None:
                    drawn[name] = figure_files(found, ("svg",))["svg"]
    return drawn


def figure_files(drawn: "Figure", kinds: Iterable[str] = FORMATS) -> dict[str, bytes]:
    """The bytes of a figure by ending. Its layout is found once; call it where the style is applied."""
    from matplotlib import rc_context

    drawn.draw_without_rendering()
    files = {}
    # No layout engine at all while saving: with any, even one that does nothing, each format is drawn twice.
    with rc_context({"figure.constrained_layout.use": False}):
        drawn.set_layout_engine(None)
        for kind in kinds:
            data = io.BytesIO()
            drawn.savefig(data, format=kind, dpi=160, metadata=FORMATS[kind])
            files[kind] = data.getvalue()
    return files
