"""Tables for browsers, alone or in a page, safe for any text; a script can sort their rows by full-precision values."""

import html
from collections.abc import Sequence

from analysis.formats.table import Table, TextTable, Value, is_absent, places
from ledger.plain_text import plain

_STYLE = """\
body { margin: 2rem; font: 1rem/1.5 system-ui, sans-serif; color: #1d2328; }
section { overflow-x: auto; }
table { border-collapse: collapse; margin: 0 0 1.5rem; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .4rem; }
th, td { padding: .35rem .75rem; text-align: left; border-bottom: 1px solid #dcdfe1; }
thead th { border-top: 2px solid #1d2328; border-bottom: 1px solid #1d2328; vertical-align: bottom; }
tbody tr:last-child td { border-bottom: 2px solid #1d2328; }
td { white-space: nowrap; }
th.num, td.num { text-align: right; }
ul { max-width: 52rem; padding-left: 1.2rem; font-size: .92rem; }
"""


def html_text(text: str) -> str:
    """Plain text that a browser shows as it is, in an element or in a quoted attribute."""
    return html.escape(plain(text))


def html_table(table: TextTable, keys: Sequence[Sequence[str]] = (), *, caption: str = "") -> str:
    """A table element. keys: of the runs behind each row; they become the row's `data-runs` and its tool tip.

    A cell with a value has it in `data-sort`; other cells sort by their text.
    """
    lines = ["<table>"]
    lines += [f"<caption>{html_text(caption)}</caption>"] if caption else []
    sides = ["" if side == "l" else ' class="num"' for side in table.align]
    heads = (f'<th scope="col"{side}>{html_text(name)}</th>' for name, side in zip(table.columns, sides, strict=True))
    lines += [f"<thead><tr>{''.join(heads)}</tr></thead>", "<tbody>"]
    for i, row in enumerate(table.cells):
        cells = [cell.spelled(html_text, "<strong>{}</strong>".format) for cell in row]
        data = (f"<td{s}{_sort(cell.value)}>{text}</td>" for cell, text, s in zip(row, cells, sides, strict=True))
        runs = html_text(" ".join(keys[i])) if i < len(keys) else ""
        about = f' data-runs="{runs}" title="runs {runs}"' if runs else ""
        lines.append(f"<tr{about}>{''.join(data)}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"]) + "\n"


def html_document(table: Table) -> str:
    """A page with a section: its title, tables, notes and the runs behind each row. It needs no script."""
    lines = ["<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">']
    lines += ['<meta name="viewport" content="width=device-width, initial-scale=1">']
    lines += [f"<title>{html_text(table.title)}</title>", f"<style>\n{_STYLE}</style>", "</head>", "<body>"]
    lines += [f'<section id="table-{html_text(table.name)}">', f"<h2>{html_text(table.title)}</h2>"]
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
    return "\n".join([*lines, "</section>", "</body>", "</html>"]) + "\n"


def _sort(value: Value) -> str:
    return "" if is_absent(value) else f' data-sort="{html_text(str(value))}"'
