"""Tables for GitHub and for editors: Markdown."""

import re

from analysis.formats.table import Table, TextTable, places
from ledger.plain_text import plain


def markdown_text(text: str) -> str:
    """Plain text that GitHub's Markdown shows as it is, inside a table or outside."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`\[\]|~$#])", r"\\\1", text)
    text = re.sub(r"(?i)\b(http|https|ftp):(?=//)", r"\1&#58;", text)  # GitHub makes links of addresses as they stand
    text = re.sub(r"(?i)\bwww\.", lambda found: found[0].replace(".", "&#46;"), text)
    text = re.sub(r"(?<=\S)\*|\*(?=\S)", r"\\*", text)  # a star between spaces is no emphasis
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # nor is an underscore between letters


def markdown_table(table: TextTable) -> str:
    """A pipe table."""
    rule = [":---" if side == "l" else "---:" for side in table.align]
    rows = ([cell.spelled(markdown_text, _bold) for cell in row] for row in table.cells)
    lines = [list(map(markdown_text, table.columns)), rule, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _bold(text: str) -> str:
    """Spelled text in bold; a star in it would end that early."""
    text = re.sub(r"(?<!\\)\*", r"\\*", text)
    return f"**{text}**"


def markdown_document(table: Table) -> str:
    """The table for people: its sections, the notes, the runs behind each row."""
    parts = [f"# {markdown_text(table.title)}\n"]
    for section in table.sections:
        if section.heading:
            parts.append(f"## {markdown_text(section.heading)}\n")
        parts.append(markdown_table(section.table))
    if table.notes:
        parts.append("".join(f"- {markdown_text(note)}\n" for note in table.notes))
    runs = [
        f"- {markdown_text(place)}: {', '.join(f'`{key}`' for key in keys) or 'no run'}\n"
        for place, keys in places(table)
    ]
    parts += ["## Runs\n", "".join(runs)] if runs else []
    return "\n".join(parts)
