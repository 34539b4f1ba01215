"""Any text is safe in Markdown, LaTeX and CSV."""

import csv
import io
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.findings import find
from analysis.formats import Cell, Section, Table, Value, csv_document, one_line, text_table
from analysis.formats.html import html_document, html_table
from analysis.formats.latex import latex_document, latex_tabular, latex_text
from analysis.formats.markdown import markdown_document, markdown_table, markdown_text
from analysis.tables import write_tables
from tests.support.shown_markdown import html, shown
from tests.support.synthetic_ledger import STUDY, TASK, transformer_record, write_arm, write_evaluation, write_study

ODD = [
    "a_b & 100% | <c> =cmd",
    "_x_ *y* `z` [w](v) #1 ~q~ $m$ \\n ^",
    "猫 é İ ß → “q”",
    "@[x]{y}--z",
    "-1+2",
    "a\nb\x00c",
]


@pytest.mark.parametrize("text", ODD)
def test_markdown_shows_the_text(text: str) -> None:
    table = text_table(("name", "x"), "lr", ((text, "1"), ("next", "2")))
    plain = " ".join(text.replace("\x00", " ").split())
    assert shown(markdown_table(table)) == [plain, "1", "next", "2"]


@pytest.mark.parametrize("text", ["http://a.org/x", "see HTTPS://a.org", "www.a.org", "ftp://a"])
def test_markdown_has_no_address_that_becomes_a_link(text: str) -> None:
    """GitHub's Markdown, unlike others, makes links of them; a reader sees the same."""
    markdown = markdown_text(text)
    assert "://" not in markdown and "www." not in markdown
    assert html(markdown) == f"<p>{text}</p>\n"


def test_letters_that_are_written_with_joiners_stay() -> None:
    for text in ("\N{FAMILY}\u200d\N{GIRL}", "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"):
        assert one_line(text) == text


def test_markdown_has_no_html() -> None:
    """GitHub's Markdown takes tags as they stand, where they are of its list."""
    assert markdown_text('<img src="x"> <!-- & -->') == '&lt;img src="x"&gt; &lt;!-- &amp; --&gt;'


def test_markdown_leaves_plain_names_alone() -> None:
    for text in ("stn_affine@lenet+affine", "54.3 ± 0.6 *", "a b-c (d)"):
        assert markdown_text(text) == text
    assert markdown_text("猫_é") == "猫_é"


@pytest.mark.parametrize("text", ODD)
def test_latex_is_ascii_without_bare_specials(text: str) -> None:
    latex = latex_text(text)
    assert latex.isascii()
    assert "\n" not in latex
    assert not re.search(r"(?<!\\)[&%#_~]", latex)


def test_latex_accents() -> None:
    assert latex_text("é ï Ångström ø") == r"""\'{e} \"{\i} \r{A}ngstr\"{o}m \o{}"""
    assert latex_text("猫") == r"\texttt{U+732B}"
    assert latex_text("a--b − ±") == r"a-{}-b $-$ $\pm$"


def csv_of(columns: tuple[str, ...], *rows: tuple[Value, ...]) -> str:
    return csv_document(Table("s", "t", "Title", (), (), columns, rows))


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "=cmd|' /C calc'!A0", "\t=1", "\n@x"])
def test_csv_holds_no_formula(text: str) -> None:
    (cell,) = next(csv.reader(io.StringIO(csv_of(("name",), (text,)).partition("\n")[2])))
    assert cell == "'" + text.strip()


def test_csv_keeps_numbers() -> None:
    text = csv_of(("a", "b", "c", "d", "e"), (-0.1234567890123456, -3, None, float("nan"), True))
    assert text == "a,b,c,d,e\n-0.1234567890123456,-3,,,true\n"


def test_csv_quotes() -> None:
    text = csv_of(("name", "b"), ('a,"b"\nc', "é猫"))
    assert list(csv.reader(io.StringIO(text)))[1] == ['a,"b" c', "é猫"]


@pytest.fixture
def compile_latex(tmp_path: Path) -> Callable[[str], str]:
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("pdflatex is not installed")

    def compiled(body: str) -> str:
        (tmp_path / "paper.tex").write_text(
            "\\documentclass{article}\\usepackage{booktabs}\\usepackage{graphicx}\\begin{document}\n"
            + body
            + "\\end{document}\n"
        )
        command = [program, "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=60)
        log = done.stdout.decode(errors="replace")
        assert done.returncode == 0, log[-2000:]
        return log

    return compiled


def test_every_table_compiles_with_odd_labels(tmp_path: Path, compile_latex: Callable[[str], str]) -> None:
    """One document with all tables of a study whose every name is hostile."""
    ledger, arms = tmp_path / "runs", []
    for pose in (ODD[0], "=cmd|é"):
        for model in ("cnn", "stn_affine", *ODD[:3]):
            for policy in ("", "+100%_a&b"):
                name = model.replace("+", "") + policy
                seeds = [0.5, 0.6, "failed" if model == ODD[0] else 0.55, None]
                record = transformer_record() if model == "stn_affine" else None
                arm = write_arm(ledger, name, "cnn", seeds, pose=pose, transformers=[record] * 4, num_parameters=1000)
                arms.append(arm)
                for seed, key in enumerate(arm["finals"][:2]):
                    write_evaluation(ledger, key, accuracy=0.5 + seed / 10, seed=seed)
    label = " ".join(map(chr, [*range(0x20, 0x7F), *range(0xA0, 0x180)])) + "\n\\end{table}"
    classes = [ODD[0], "=cmd|' /C calc'!A0"]
    write_study(ledger, arms, task=TASK | {"label": label, "classes": classes}, budget="a%b")
    paths = write_tables(find(ledger, STUDY), tmp_path / "out")
    latex = [path for path in paths if path.suffix == ".tex"]
    assert len(latex) >= 14  # all but none
    log = compile_latex("\n".join(f"\\input{{{path}}}\n\\clearpage" for path in latex))
    assert "Overfull \\hbox" not in log
    assert "Float too large" not in log


def test_a_long_table_goes_on_on_the_next_page(compile_latex: Callable[[str], str]) -> None:
    text = text_table(("name", "x"), "lr", ((f"row {i}", i) for i in range(130)))
    short = text_table(("other",), "l", [["a"]])
    sections = (Section("One", text, ()), Section("Two", short, ()), Section("Three", short, ()))
    latex = latex_document(Table("s", "t", "Title", sections, ("a note",) * 30, (), ()))
    assert [latex.count(f"row {i} &") for i in range(130)] == [1] * 130
    assert latex.count("\\caption{Title (continued).}") == latex.count("\\begin{table}") - 1 == 3
    assert latex.count("\\label") == 1
    assert "Float too large" not in compile_latex(latex)


def test_rows_that_begin_like_an_argument(compile_latex: Callable[[str], str]) -> None:
    names = ("[1pt]", "*", "-", "[", "]", "{", "}", "\\", "&", "%")
    table = text_table(("*", "[x]"), "ll", ((name, name) for name in names))
    compile_latex(latex_tabular([("[p]", table), ("", table)]))


def test_strong_cells_are_bold_in_every_format() -> None:
    rows = [[Cell("cnn"), Cell("+3.1 ± 0.3 *", 0.031, strong=True)], [Cell("a_b", strong=True), Cell("1 †", 0.01)]]
    text = text_table(("name", "x"), "lr", rows)
    page = html(markdown_table(text))
    assert "<strong>+3.1 ± 0.3 *</strong>" in page
    assert "<strong>a_b</strong>" in page
    assert r"cnn & \textbf{+3.1 $\pm$ 0.3 {*}} \\" in latex_tabular([("", text)])
    assert '<td class="num" data-sort="0.031"><strong>+3.1 ± 0.3 *</strong></td>' in html_table(text)


class _Reader(HTMLParser):
    """Text of every cell, what it sorts by, and tags that a table does not have."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.sort: list[str | None] = []
        self.tags: set[str] = set()
        self.runs: list[str | None] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("href", "src", "style")]
        if tag == "td":
            self.cells.append("")
            self.sort.append(dict(attrs).get("data-sort"))
            self._inside = True
        if tag == "tr":
            self.runs.append(dict(attrs).get("data-runs"))

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.cells[-1] += data


@pytest.mark.parametrize("text", [*ODD, '"><script>alert(1)</script>', "' onclick='x"])
def test_html_shows_the_text(text: str) -> None:
    table = text_table((text, "x"), "lr", [[text, Cell("1.0", 0.0123456789012345)]])
    reader = _Reader(html_table(table, [(text,)], caption=text))
    assert reader.cells == [one_line(text), "1.0"]
    assert reader.sort == [None, "0.0123456789012345"]
    assert reader.runs == [None, one_line(text)]
    assert reader.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}


def test_html_without_a_value_sorts_by_text() -> None:
    table = text_table(("x",), "r", [[Cell("—", float("nan"))], [Cell("2", 2)]])
    assert _Reader(html_table(table)).sort == [None, "2"]


def test_documents_name_runs_once() -> None:
    """A row that is in two sections with the same runs is told once; with other runs, under its section's name."""
    text = text_table(("name",), "l", (["a"], ["b"]))
    sections = (Section("One", text, (("k1",), ("k2",))), Section("Two", text, (("k1",), ())))
    table = Table("s", "t", "Title <&>", sections, ("A note | here",), ("x",), ((1,),))
    markdown = markdown_document(table)
    assert markdown.endswith("## Runs\n\n- a: `k1`\n- One: b: `k2`\n- Two: b: no run\n")
    page = html_document(table)
    assert page.startswith("<!DOCTYPE html>") and '<meta charset="utf-8">' in page and "<script" not in page
    assert "<title>Title &lt;&amp;&gt;</title>" in page
    assert page.count("<li>a: <code>k1</code></li>") == page.count("<details>") == 1
    assert "<h2>Title &lt;&amp;&gt;</h2>" in page
    assert "% One: b: k2" in latex_document(table)


@pytest.mark.parametrize("text", [*ODD, "a\u2028b\x85c", "a  b", "\ud800", "\u202ea\u2066", "\ufeffa\u200bb"])
def test_one_line(text: str) -> None:
    plain = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") else c for c in text)
    assert one_line(text) == " ".join(plain.split())
