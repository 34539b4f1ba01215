"""What every format spells: tables of plain text for people, rows of values for programs.

Cells are plain Unicode: `±` and `−` are written as such, and every format spells them in its own way.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ledger.plain_text import plain

ABSENT = "—"
"""What a cell shows where there is no value."""

Value = str | int | float | bool | None


class Cell(NamedTuple):
    """What a person reads, and the full-precision value that it sorts by; None where that is the text."""

    text: str
    value: Value = None


@dataclass(frozen=True)
class TextTable:
    """Rows of plain text.

    columns: the headings; align: `l` or `r` for each; rows: as many cells each. strong: cells (row, column) that every
    format sets in bold. values: what each cell sorts by, in full precision, or None for its text; () for no such cell.
    """

    columns: tuple[str, ...]
    align: str
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[tuple[int, int]] = frozenset()
    values: tuple[tuple[Value, ...], ...] = ()

    def spelled(self, text: Callable[[str], str], bold: Callable[[str], str]) -> Iterator[list[str]]:
        """The rows in a format that spells plain text so, and spelled text that is strong so."""
        for i, row in enumerate(self.rows):
            yield [bold(text(cell)) if (i, j) in self.strong and cell else text(cell) for j, cell in enumerate(row)]


def text_table(
    columns: Sequence[str], align: str, rows: Sequence[Sequence[Cell]], strong: frozenset[tuple[int, int]] = frozenset()
) -> TextTable:
    """A table of cells. Texts are made one line."""
    texts = tuple(tuple(plain(cell.text) for cell in row) for row in rows)
    values = tuple(tuple(cell.value for cell in row) for row in rows)
    return TextTable(tuple(columns), align, texts, strong, values)


@dataclass(frozen=True)
class Section:
    """A part of a table. heading: "" where there is only one. keys: of the runs that each row is over."""

    heading: str
    table: TextTable
    keys: tuple[tuple[str, ...], ...]

    def part(self, start: int, stop: int, heading: str) -> "Section":
        """Its rows from start to stop, under another heading."""
        table = self.table
        strong = frozenset((i - start, j) for i, j in table.strong if start <= i < stop)
        rows, values = table.rows[start:stop], table.values[start:stop]
        return Section(heading, TextTable(table.columns, table.align, rows, strong, values), self.keys[start:stop])


@dataclass(frozen=True)
class Table:
    """A table for people (sections of text, notes as lines) and for programs (one row of full-precision values a line).

    columns, rows: for programs, with the keys of the runs behind each row in a column `run_keys`.
    """

    study: str
    name: str
    title: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]


def places(table: Table) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What each row is called, and the keys of its runs; a row that is in several sections with the same runs, once."""
    named = [
        (section.heading, cells[0], keys)
        for section in table.sections
        for cells, keys in zip(section.table.rows, section.keys, strict=False)
    ]
    keys_of: dict[str, set[tuple[str, ...]]] = {}
    for _, name, keys in named:
        keys_of.setdefault(name, set()).add(keys)
    told = set()
    for heading, name, keys in named:
        place = f"{heading}: {name}" if heading and len(keys_of[name]) > 1 else name
        if (place, keys) not in told:
            told.add((place, keys))
            yield place, keys
