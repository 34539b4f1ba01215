"""Every figure by its name: registered by a decorator, drawn, and written as PNG, SVG and PDF."""

import importlib
import io
import pkgutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from matplotlib import rc_context
from matplotlib.figure import Figure

from analysis.faults import kept
from analysis.figures import style
from analysis.findings import Findings
from analysis.reports import write_files

FORMATS: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""By ending, what is left out of a file so that the same picture has the same bytes."""

Builder = Callable[[Findings], Figure | None]
_Builder = TypeVar("_Builder", bound=Builder)
_BUILDERS: dict[str, tuple[str, Builder]] = {}

NARROW: dict[str, Builder] = {}
"""By a figure's name, its form COLUMN_IN wide, which phones show in its place; that has no file of its own."""


def figure(name: str, caption: str) -> Callable[[_Builder], _Builder]:
    """Registers the builder of the figure that files `name.png`, `name.svg` and `name.pdf` hold.

    caption: what it shows and how to read it, in a sentence or two for somebody who has never seen one like it.
    """

    def register(builder: _Builder) -> _Builder:
        _BUILDERS[name] = (caption, builder)
        return builder

    return register


def builders() -> dict[str, tuple[str, Builder]]:
    """Every figure's caption and builder by name."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")
    return dict(sorted(_BUILDERS.items()))


def write_figures(findings: Findings, out: Path) -> list[Path]:
    """Write every figure that the study has something for into `out`, in all FORMATS; returns their paths.

    Files of figures that it has nothing for, or that cannot be drawn, are deleted; the latter are among
    findings.faults. Raises UserError (a ValueError of one line) if a file of the ledger cannot be understood or
    `out` cannot be written.
    """
    known = builders()
    drawn = _drawn(findings, {name: builder for name, (_, builder) in known.items()}, "figure", FORMATS)
    files = {f"{name}.{kind}": data for name, files in drawn.items() for kind, data in files.items()}
    return write_files(out, files, optional=[f"{name}.{kind}" for name in known for kind in FORMATS])


def narrow_drawings(findings: Findings) -> dict[str, bytes]:
    """The SVG of each figure that has a narrow form, by its name."""
    return {name: files["svg"] for name, files in _drawn(findings, NARROW, "narrow figure", ["svg"]).items()}


def _drawn(
    findings: Findings, known: dict[str, Builder], what: str, kinds: Iterable[str]
) -> dict[str, dict[str, bytes]]:
    """The bytes of each figure that there is, by name and ending; those that fail are among findings.faults."""
    drawn = {}
    with style.applied(findings.study):
        for name, builder in known.items():
            with kept(findings.faults, f"{what} {name}"):
                if (picture := builder(findings)) is not None:
                    drawn[name] = figure_files(picture, kinds)
    return drawn


def figure_files(drawn: Figure, kinds: Iterable[str] = FORMATS) -> dict[str, bytes]:
    """The bytes of a figure by ending. Its layout is found once; call it where the style is applied."""
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
