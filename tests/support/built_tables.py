"""A table of a study, and what its rows and cells say."""

from typing import Any

from analysis.findings import Findings
from analysis.formats import Table
from analysis.tables import builders


def built(name: str, findings: Findings) -> Table:
    """The table of that name, which the study has."""
    table = builders()[name](findings)
    assert table is not None
    return table


def lines(table: Table) -> list[dict[str, Any]]:
    """Its values for programs, a row each."""
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def cells(table: Table, section: int = 0) -> dict[str, dict[str, str]]:
    """By a row's first cell, its cells by heading."""
    text = table.sections[section].table
    return {row[0]: dict(zip(text.columns, row, strict=True)) for row in text.rows}
