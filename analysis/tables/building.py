"""Makes and writes the tables of a study."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.faults import kept
from analysis.findings import Findings
from analysis.formats import DOCUMENTS, Table
from analysis.lost_runs import unfinished
from analysis.reports import write_files
from analysis.row_files import NAMES, row_files
from analysis.tables.columns import Draft

Builder = Callable[[Findings], Table | None]
_BUILDERS: dict[str, Builder] = {}


def table(name: str, title: str) -> Callable[[Callable[[Findings], Draft[Any] | None]], Builder]:
    """Registers the builder of the table that files `name.md`, `name.tex`, `name.csv` and `name.html` hold."""

    def register(drafted: Callable[[Findings], Draft[Any] | None]) -> Builder:
        def build(findings: Findings) -> Table | None:
            draft = drafted(findings)
            return None if draft is None else draft.table(findings.study, name, title)

        _BUILDERS[name] = build
        return build

    return register


def builders() -> dict[str, Builder]:
    """Every table's builder by name."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")
    return dict(sorted(_BUILDERS.items()))


def build_tables(findings: Findings) -> dict[str, Table]:
    """The study's tables by name. One that cannot be made is among findings.faults instead."""
    built = {}
    for name, build in builders().items():
        with kept(findings.faults, f"table {name}"):
            if (found := build(findings)) is not None:
                built[name] = found
    return built


def write_tables(findings: Findings, out: Path, tables: Mapping[str, Table] | None = None) -> list[Path]:
    """Write each of the study's tables, or those given, into `out`, in every format, with all epochs and predictions.

    Those of a study that still lacks runs say so first. Returns the paths.

    Files of tables that say nothing about this study, or cannot be made, are deleted. Raises UserError (a
    ValueError of one line) for a file of the ledger that cannot be understood, or if `out` cannot be written.
    """
    content: dict[str, bytes] = {}
    so_far = tuple(filter(None, [unfinished(findings)]))  # on the page of a report it stands once, at the top
    for name, built in (build_tables(findings) if tables is None else tables).items():
        with kept(findings.faults, f"table {name}"):
            built = replace(built, notes=(*so_far, *built.notes))
            content |= {f"{name}.{ending}": document(built).encode() for ending, document in DOCUMENTS.items()}
    content |= row_files(findings)
    optional = [f"{name}.{ending}" for name in builders() for ending in DOCUMENTS]
    return write_files(out, content, optional=[*optional, *NAMES])
