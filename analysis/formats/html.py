"""Tables for browsers: fragments of HTML, safe for any text, whose rows a script can sort by full-precision values."""

import html
import math
from collections.abc import Sequence

from analysis.formats.table import Table, TextTable, Value, one_line, places


def html_text(text: str) -> str:
    """Plain text that a browser shows as it is, in an element or in a quoted attribute."""
    return html.escape(one_line(text))


def html_table(table: TextTable, keys: Sequence[Sequence[str]] = (), *, caption: str = "") -> str:
    """A table element. keys: of the runs behind each row; they become the row's `data-runs` and its tool tip.

    A cell with a value has it in `data-sort`; other cells sort by their text.
    """
    lines = ["<table>"]
    lines += [f"<caption>{html_text(caption)}</caption>"] if caption else []
    sides = ["" if side == "l" else ' class="num"' for side in table.align]
    heads = (f'<th scope="col"{side}>{html_text(name)}</th>' for name, side in zip(table.columns, sides, strict=True))
    lines += [f"<thead><tr>{''.join(heads)}</tr></thead>", "<tbody>"]
    for i, cells in enumerate(table.spelled(html_text, "<strong>{}</strong>".format)):
        values = table.values[i] if table.values else (None,) * len(cells)
        data = (f"<td{side}{_sort(value)}>{cell}</td>" for cell, value, side in zip(cells, values, sides, strict=True))
        runs = html_text(" ".join(keys[i])) if i < len(keys) else ""
        about = f' data-runs="{runs}" title="runs {runs}"' if runs else ""
        lines.append(f"<tr{about}>{''.join(data)}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"]) + "\n"


def html_document(table: Table) -> str:
    """A fragment: a section with its title, tables, notes and the runs behind each row."""
    lines = [f'<section id="table-{html_text(table.name)}">', f"<h2>{html_text(table.title)}</h2>"]
    for section in table.sections:
        lines.append(html_table(section.table, section.keys, caption=section.heading).rstrip())
    if table.notes:
        lines += ["<ul>", *(f"<li>{html_text(note)}</li>" for note in table.notes), "</ul>"]
    rows = [
        f"<li>{html_text(place)}: {' '.join(f'<code>{html_text(key)}</code>' for key in keys) or 'no run'}</li>"
        for place, keys in places(table)
    ]
    if rows:
        lines += ["<details><summary>Runs behind each row</summary>", "<ul>", *rows, "</ul>", "</details>"]
    return "\n".join([*lines, "</section>"]) + "\n"


def _sort(value: Value) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f' data-sort="{html_text(str(value))}"'
