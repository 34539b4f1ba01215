"""What every format spells: tables of plain text for people, rows of values for programs.

Cells are plain Unicode: `±` and `−` are written as such, and every format spells them in its own way.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ledger.plain_text import plain

ABSENT = "—"
"""What a cell shows where there is no value."""

Value = str | int | float | bool | None


def is_absent(value: object) -> bool:
    """Whether it is None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


class Cell(NamedTuple):
    """What a person reads, and the full-precision value that it sorts by; None where that is the text. strong: bold."""

    text: str
    value: Value = None
    strong: bool = False

    def spelled(self, text: Callable[[str], str], bold: Callable[[str], str]) -> str:
        """The cell in a format. text: how that spells plain text; bold: how it makes spelled text strong."""
        return bold(text(self.text)) if self.strong and self.text else text(self.text)


Shown = Cell | str | int | None
"""What stands in a cell. Text and whole numbers are shown as they are, None as ABSENT."""


def cell_of(shown: Shown) -> Cell:
    """The cell, its text on one line."""
    if isinstance(shown, Cell):
        return shown._replace(text=plain(shown.text))
    if isinstance(shown, int):
        return Cell(str(shown), shown)
    return Cell(ABSENT if shown is None else plain(shown))


@dataclass(frozen=True)
class TextTable:
    """columns: the headings; align: `l` or `r` for each; cells: as many a row."""

    columns: tuple[str, ...]
    align: str
    cells: tuple[tuple[Cell, ...], ...]

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The texts of the cells."""
        return tuple(tuple(cell.text for cell in row) for row in self.cells)


def text_table(columns: Sequence[str], align: str, rows: Iterable[Iterable[Shown]]) -> TextTable:
    """A table of cells."""
    return TextTable(tuple(columns), align, tuple(tuple(map(cell_of, row)) for row in rows))


@dataclass(frozen=True)
class Section:
    """A part of a table. heading: "" where there is only one. keys: of the runs that each row is over."""

    heading: str
    table: TextTable
    keys: tuple[tuple[str, ...], ...]

    def part(self, start: int, stop: int) -> "Section":
        """Its rows from start to stop."""
        heading = f"{self.heading} (continued)" if start and self.heading else self.heading
        return Section(heading, replace(self.table, cells=self.table.cells[start:stop]), self.keys[start:stop])


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
        (section.heading, cells[0].text, keys)
        for section in table.sections
        for cells, keys in zip(section.table.cells, section.keys, strict=False)
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
