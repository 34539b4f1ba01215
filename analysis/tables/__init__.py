"""The tables of a study: one file each, found by its decorator, written in four formats.

A builder takes the study's Findings and returns a Table, or None where the study has nothing for it. All but `times`
depend on study.json and on files of the ledger that are the same bytes on every repetition, and so are theirs.
"""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

from analysis.findings import Findings
from analysis.formats import DOCUMENTS, Section, Table
from analysis.reports import write_files

__all__ = ["Section", "Table", "builders", "table", "write_tables"]

Builder = Callable[[Findings], Table | None]
_BUILDERS: dict[str, Builder] = {}


def table(name: str) -> Callable[[Builder], Builder]:
    """Registers the builder of the table that files `name.md`, `name.tex`, `name.csv` and `name.html` hold."""

    def register(builder: Builder) -> Builder:
        _BUILDERS[name] = builder
        return builder

    return register


def builders() -> dict[str, Builder]:
    """Every table's builder by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_BUILDERS.items()))


def write_tables(findings: Findings, out: Path) -> list[Path]:
    """Write each of the study's tables into `out`, in every format, and return the paths.

    Files of tables that say nothing about this study are deleted. Raises AnalysisError (a ValueError of one line) for
    a file of the ledger that cannot be understood, or if `out` cannot be written.
    """
    content, known = {}, []
    for name, build in builders().items():
        found = build(findings)
        for ending, document in DOCUMENTS.items():
            known.append(f"{name}.{ending}")
            if found is not None:
                content[known[-1]] = document(found).encode()
    return write_files(out, content, optional=known)
