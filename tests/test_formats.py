"""Any text is safe in Markdown, LaTeX and CSV."""

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.ablation import ablation
from analysis.formats import TextTable, csv_table, latex_tabular, latex_text, markdown_table, markdown_text
from analysis.tables import ablation_latex
from tests.shown_markdown import shown
from tests.synthetic_ledger import STUDY, TASK, write_arm, write_study, write_tiny_study

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
    table = TextTable(("name", "x"), "lr", ((text, "1"), ("next", "2")))
    plain = " ".join(text.replace("\x00", " ").split())
    assert shown(markdown_table(table)) == [plain, "1", "next", "2"]


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


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "=cmd|' /C calc'!A0", "\t=1", "\n@x"])
def test_csv_holds_no_formula(text: str) -> None:
    (cell,) = next(csv.reader(io.StringIO(csv_table(("name",), [(text,)]).partition("\n")[2])))
    assert cell == "'" + text.strip()


def test_csv_keeps_numbers() -> None:
    text = csv_table(("a", "b", "c", "d", "e"), [(-0.1234567890123456, -3, None, float("nan"), True)])
    assert text == "a,b,c,d,e\n-0.1234567890123456,-3,,,true\n"


def test_csv_quotes() -> None:
    text = csv_table(("name", "b"), [('a,"b"\nc', "é猫")])
    assert list(csv.reader(io.StringIO(text)))[1] == ['a,"b" c', "é猫"]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    ledger = tmp_path / "runs"
    write_tiny_study(ledger)
    return ledger


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


def test_compiles(ledger: Path, compile_latex: Callable[[str], str]) -> None:
    log = compile_latex(ablation_latex(ablation(ledger, STUDY)))
    assert "Overfull \\hbox" not in log


def test_compiles_with_odd_labels(tmp_path: Path, compile_latex: Callable[[str], str]) -> None:
    arms = [write_arm(tmp_path, variant, ODD[0], [0.5, 0.6], pose=ODD[1]) for variant in ODD]
    label = " ".join(map(chr, [*range(0x20, 0x7F), *range(0xA0, 0x180)])) + "\n\\end{table}"
    write_study(tmp_path, arms, task=TASK | {"label": label}, budget="a%b")
    compile_latex(ablation_latex(ablation(tmp_path, STUDY)))


def test_rows_that_begin_like_an_argument(compile_latex: Callable[[str], str]) -> None:
    names = ("[1pt]", "*", "-", "[", "]", "{", "}", "\\", "&", "%")
    table = TextTable(("*", "[x]"), "ll", tuple((name, name) for name in names))
    compile_latex(latex_tabular([("[p]", table), ("", table)]))
