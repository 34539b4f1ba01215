"""Tables for programs: comma-separated values."""

import csv
import io

from analysis.formats.table import Table, Value, is_absent
from ledger.plain_text import plain


def csv_document(table: Table) -> str:
    """A heading, and a line a row of values in full precision; None and NaN are empty cells.

    Text that a spreadsheet would take for a formula (it starts with = + - @) gets a leading apostrophe.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(_csv_value, row) for row in (table.columns, *table.rows))
    return text.getvalue()


def csv_text(text: str) -> str:
    """The text as a cell of a CSV file has it."""
    text = plain(text)
    return "'" + text if text.startswith(("=", "+", "-", "@")) else text


def _csv_value(value: Value) -> Value:
    if isinstance(value, str):
        return csv_text(value)
    if isinstance(value, bool):
        return str(value).lower()
    return None if is_absent(value) else value
