"""A table as Markdown, LaTeX, CSV and HTML, one file each; any text is safe in any of them."""

from analysis.formats.csv import csv_document
from analysis.formats.html import html_document, html_table
from analysis.formats.latex import latex_document, latex_text
from analysis.formats.markdown import markdown_document
from analysis.formats.table import ABSENT, Cell, Section, Shown, Table, TextTable, Value, text_table
from ledger.plain_text import plain as one_line
from ledger.plain_text import visible

DOCUMENTS = {"md": markdown_document, "tex": latex_document, "csv": csv_document, "html": html_document}
"""What writes a table, by the ending of its file."""

__all__ = [
    "ABSENT",
    "DOCUMENTS",
    "Cell",
    "Section",
    "Shown",
    "Table",
    "TextTable",
    "Value",
    "csv_document",
    "html_table",
    "latex_document",
    "latex_text",
    "markdown_document",
    "one_line",
    "text_table",
    "visible",
]
