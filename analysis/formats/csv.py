"""Tables for programs: comma-separated values."""

import csv
import io
import math
from collections.abc import Sequence

from analysis.formats.table import Table, Value
from ledger.plain_text import plain


def csv_document(table: Table) -> str:
    """One line a row of numbers in full precision."""
    return csv_table(table.columns, table.rows)


def csv_table(columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> str:
    """Comma-separated values with a heading; numbers in full precision, None and NaN as empty cells.

    Text that a spreadsheet would take for a formula (it starts with = + - @) gets a leading apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_csv_value, columns))
    writer.writerows([_csv_value(value) for value in row] for row in rows)
    return text.getvalue()


def _csv_value(value: Value) -> Value:
    if isinstance(value, str):
        value = plain(value)
        return "'" + value if value.startswith(("=", "+", "-", "@")) else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
