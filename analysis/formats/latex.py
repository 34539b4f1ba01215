"""Tables for pdflatex, xelatex and lualatex."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby

from analysis.formats.table import Section, Table, TextTable, places
from ledger.plain_text import plain

MAX_LINES = 50
"""Rows and headings that fit on a page; a longer table goes on in another float."""

NOTE_WIDTH, CAPTION_WIDTH = 90, 60
"""Characters of a line of notes, and of a caption, which takes as much room as two."""

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "{''}", "`": "`{}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # after the end of a row, [ and * would be read as its arguments
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "°": r"$^\circ$", "·": r"$\cdot$", "²": r"$^2$",
    "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\to$", "†": r"$\dagger$", "‡": r"$\ddagger$",
    "µ": r"$\mu$", "α": r"$\alpha$", "Δ": r"$\Delta$", "η": r"$\eta$", "θ": r"$\theta$",
    "–": r"\textendash{}", "—": r"\textemdash{}", "…": r"\ldots{}", "\u00a0": "~",
    "‘": "`", "’": "'", "“": "``", "”": "''",
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}",
    "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}",
}  # fmt: skip
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
    text = "".join(map(_latex_character, unicodedata.normalize("NFC", plain(text))))
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
        for row in table.cells:
            lines.append(" & ".join(cell.spelled(latex_text, "\\textbf{{{}}}".format) for cell in row) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


def latex_document(table: Table) -> str:
    """Table environments for a paper; they need the packages booktabs and graphicx. Keys are comments."""
    lines = ["% \\usepackage{booktabs} \\usepackage{graphicx}", f"% {plain(table.title)}: runs behind each row"]
    lines += [f"% {plain(place)}: {' '.join(keys) or 'none'}" for place, keys in places(table)]
    notes = [*table.notes, "The keys of the runs behind each row are comments in this table's source."]
    max_lines = MAX_LINES - 2 * (len(table.title) // CAPTION_WIDTH)
    pages = list(_pages(table.sections, max_lines))
    if _num_lines(pages[-1]) + sum(1 + len(note) // NOTE_WIDTH for note in notes) > max_lines:
        pages.append([])  # the notes stand alone
    for number, sections in enumerate(pages):
        caption = latex_text(table.title) + (" (continued)" if number else "")
        lines += ["\\clearpage", "\\addtocounter{table}{-1}"] if number else []
        lines += ["\\begin{table}[p]" if len(pages) > 1 else "\\begin{table}", "\\centering"]
        lines += [f"\\caption{{{caption}.}}", *([] if number else [f"\\label{{tab:{_label(table)}}}"])]
        lines += ["\\vspace{4pt}", "\\footnotesize", "\\setlength{\\tabcolsep}{4pt}"]
        for alike in _alike(sections):
            lines += [
                "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
                latex_tabular([(section.heading, section.table) for section in alike]) + "%",
                "}",
                "\\par\\medskip",
            ]
        if number == len(pages) - 1:
            lines += ["\\begin{minipage}{\\linewidth}", *map(latex_text, notes), "\\end{minipage}"]
        lines += ["\\end{table}"]
    return "\n".join(lines) + "\n"


def _label(table: Table) -> str:
    """What is not a letter or digit is a hyphen; letters of other scripts are numbers: two studies keep two labels."""
    name = f"{table.study}-{table.name}"
    return "".join(c if c.isalnum() and c.isascii() else "-" if c.isascii() else f"{ord(c):x}" for c in name)


def _alike(sections: Sequence[Section]) -> Iterator[list[Section]]:
    """Neighbouring sections with the same columns, which share a tabular."""
    for _, alike in groupby(sections, key=lambda section: (section.table.columns, section.table.align)):
        yield list(alike)


def _num_lines(sections: Sequence[Section]) -> int:
    """Lines that sections take on a page: their rows and headings, and three a tabular."""
    return sum(1 + len(section.table.cells) for section in sections) + 3 * len(list(_alike(sections)))


def _pages(sections: Sequence[Section], max_lines: int) -> Iterator[list[Section]]:
    """The sections on pages of so many lines; one that is too long for a page is cut."""
    max_rows = max(max_lines - 4, 1)
    page: list[Section] = []
    for section in sections:
        if page and _num_lines([*page, section]) > max_lines:
            yield page
            page = []
        num_rows = len(section.table.cells)
        *whole, last = (section.part(start, start + max_rows) for start in range(0, num_rows or 1, max_rows))
        yield from ([part] for part in whole)
        page.append(last)
    yield page
