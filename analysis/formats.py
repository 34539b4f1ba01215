"""One table of plain text as Markdown, LaTeX and CSV; any text is safe in any of them.

Cells are plain Unicode: `±` and `−` are written as such, and every format spells them in its own way.
"""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

ABSENT = "—"
"""What a cell shows where there is no value."""


@dataclass(frozen=True)
class TextTable:
    """Rows of plain text.

    columns: the headings; align: `l` or `r` for each; rows: as many cells each.
    """

    columns: tuple[str, ...]
    align: str
    rows: tuple[tuple[str, ...], ...]


def one_line(text: str) -> str:
    """The text without line breaks and control characters, which would end a table's row or a comment."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") else c for c in text).split())


def markdown_text(text: str) -> str:
    """Plain text that GitHub's Markdown shows as it is, inside a table or outside."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`\[\]|~$#])", r"\\\1", text)
    text = re.sub(r"(?<=\S)\*|\*(?=\S)", r"\\*", text)  # a star between spaces is no emphasis
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # nor is an underscore between letters


def markdown_table(table: TextTable) -> str:
    """A pipe table."""
    rule = [":---" if side == "l" else "---:" for side in table.align]
    lines = [list(map(markdown_text, row)) for row in (table.columns, *table.rows)]
    lines.insert(1, rule)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",
    "`": "`{}",
    "[": "{[}",  # after the end of a row, [ and * would be read as its arguments
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "°": r"$^\circ$",
    "·": r"$\cdot$",
    "µ": r"$\mu$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "\u00a0": "~",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
_ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0308\u0304\u0307\u0306\u030b\u030c\u030a\u0327\u0323", "`'^~\"=.uHvrcd", strict=True)
)


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii():
        return character
    base, *marks = list(unicodedata.normalize("NFD", character))
    if base.isascii() and base.isalpha() and all(mark in _ACCENTS for mark in marks):
        text = f"\\{base}" if base in "ij" else base
        for mark in marks:
            text = f"\\{_ACCENTS[mark]}{{{text}}}"
        return text
    return f"\\texttt{{U+{ord(character):04X}}}"


def latex_text(text: str) -> str:
    """Plain text for pdflatex, xelatex and lualatex, without any package.

    Latin letters with accents are spelled in LaTeX's commands; a character of another script becomes its code
    point (`U+732B`), since pdflatex stops at characters that no loaded font has.
    """
    text = "".join(map(_latex_character, unicodedata.normalize("NFC", one_line(text))))
    return re.sub("-(?=-)", "-{}", text)  # two hyphens would become a dash


def latex_tabular(sections: Sequence[tuple[str, TextTable]]) -> str:
    """A booktabs tabular of tables with the same columns, each under its heading, or under a rule where that is ""."""
    columns = sections[0][1].columns
    lines = [f"\\begin{{tabular}}{{{sections[0][1].align}}}", "\\toprule"]
    lines.append(" & ".join(map(latex_text, columns)) + r" \\")
    for heading, table in sections:
        lines.append("\\midrule")
        if heading:
            lines.append(f"\\multicolumn{{{len(columns)}}}{{l}}{{\\textit{{{latex_text(heading)}}}}} \\\\")
        lines += [" & ".join(map(latex_text, row)) + r" \\" for row in table.rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


Value = str | int | float | bool | None


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
        value = one_line(value)
        return "'" + value if value.startswith(("=", "+", "-", "@")) else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
