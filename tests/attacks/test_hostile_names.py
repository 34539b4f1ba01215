"""Names, labels, classes and errors that try to be code: in pages, papers, sheets, pictures, terminals they are text.

One small ledger whose every text is hostile goes through the real commands, once.
"""

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from experiments.terminal.cli import main
from tests.support import browser
from tests.support.browser import Browser
from tests.support.shown_markdown import html
from tests.support.synthetic_ledger import (
    STUDY,
    TASK,
    edit_json,
    transformer_record,
    write_arm,
    write_evaluation,
    write_json,
    write_maps,
    write_study,
)
from tests.support.tiny_study import write_sweep

pytestmark = pytest.mark.filterwarnings("ignore:constrained_layout")  # such names leave no room for a drawing

PAGE = (
    "</script><script>window.attacked=1;alert(1)</script><img src=http://127.0.0.1:9/x onerror=window.attacked=1>"
    '" onmouseover="window.attacked=1" \' onfocus=\'x {{7*7}} <a href=javascript:alert(1)>'
)
PAPER = r"\input{/etc/passwd}\immediate\write18{touch attacked} % # $ & _ { }} ^^5cinput ~ \end{table} \\[1pt] *"
TEXT = "[a](javascript:alert(1)) | `b` <b>c</b> ![i](http://127.0.0.1:9/x) http://127.0.0.1:9/ www.example.org ***"
SHEET = "=cmd|' /C calc'!A0"
PICTURE = r"$\frac{1}{2}$ $x $$ \mathdefault{$"
TERMINAL = "\x1b[31mred\x1b]0;title\x07 [red]markup[/red] [/] \u202eesrever\u2066 \u200b\ufeff \x9b31m"
TERMINAL += " one\ntwo\r\x00\u2028 \t=1"
ALL = " ".join((PAGE, PAPER, TEXT, SHEET, PICTURE, TERMINAL))

UNSEEN_BUT_OURS = "\n\u00a0\u2009"
"""Ends of lines, and spaces at which no line ends."""


@dataclass(frozen=True)
class Attacked:
    """A ledger of hostile texts, what the commands made of it, and what they said, by command."""

    ledger: Path
    out: Path
    said: dict[str, str]

    def texts(self, *endings: str) -> dict[str, str]:
        found = sorted(path for path in self.out.iterdir() if path.suffix in endings)
        assert found
        return {path.name: path.read_text() for path in found}


def write_hostile_ledger(root: Path) -> None:
    arms = []
    task = TASK | {"label": ALL, "classes": [PAGE + SHEET, PICTURE + TERMINAL]}
    pose, baseline = TERMINAL, TEXT
    for number, variant in enumerate((baseline, f"stn_{PAGE}+{PAPER}", SHEET, f"{PICTURE}@{TERMINAL}")):
        record = [transformer_record(verdict=TERMINAL)] * 3 if variant.startswith("stn_") else []
        arm = write_arm(
            root, variant, baseline, [0.5 + number / 50, 0.55, "failed"], pose=pose, transformers=record,
            model={PICTURE: PAGE, SHEET: 0.5}, task=task,
        )  # fmt: skip
        for seed, key in enumerate(arm["finals"][:2]):
            write_evaluation(root, key, accuracy=0.5, seed=seed)
            if record:
                write_maps(root, key, seed=seed)
        edit_json(root / "runs" / arm["finals"][2] / "run.json", error=ALL)
        for key in (*arm["trials"], *arm["finals"]):
            edit_json(root / "runs" / key / "cost.json", device_name=ALL, versions={PAGE: TERMINAL})
        arms.append(arm)
    source = {"file": PAGE + TERMINAL, "data": True, "minutes": None}
    changes: dict[str, Any] = {"num_trials": 3, "num_finals": 3, "sampler": PAGE, "source": source, "budget": TERMINAL}
    write_study(root, arms, task=task, **changes)
    progress = dict.fromkeys(("variant", "stage", "seed", "epoch", "epochs", "pose"), ALL)
    write_json(root / "running" / "a.json", progress | {"pid": os.getpid()})


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    folder = tmp_path_factory.mktemp("attacked")
    ledger, reports, said = folder / "runs", folder / "reports", {}
    write_hostile_ledger(ledger)
    for command in ("status", "report", "tables", "status --json"):
        arguments = [*command.split(), "--runs", str(ledger)]
        arguments += [] if "status" in command else ["--reports", str(reports)]
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            assert main(arguments) == 0
        assert err.getvalue() == ""
        said[command] = out.getvalue()
    return Attacked(ledger, reports / STUDY, said)


def unseen(text: str) -> set[str]:
    return {character for character in text if not character.isprintable()} - set(UNSEEN_BUT_OURS)


@pytest.mark.long
def test_a_terminal_is_given_nothing_to_obey(attacked: Attacked) -> None:
    for command, text in attacked.said.items():
        assert not unseen(text), command
        assert text.count("[red]markup[/red]") == text.count("red]markup") > 0, command
    assert "\n" not in json.loads(attacked.said["status --json"])["studies"][0]["study"]


COMMANDS = (
    "sweep --sweep {}", "sweep --budget {}", "sweep --{}", "plan --label {}", "run --variant {}", "run --pose {}",
    "run --task {}", "tables --study {}", "report --runs {}", "variants {}", "verify {}", "probe {}", "{}",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_is_one_line_that_a_terminal_obeys_nothing_of(
    command: str,
    attacked: Attacked,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STN_BENCH_CACHE", str(tmp_path / "cache"))
    hostile = TERMINAL.replace("\x00", "")  # no argument can hold it
    arguments = [word.format(hostile) for word in shlex.split(command)]
    if arguments[0] == "tables":
        arguments += ["--runs", str(attacked.ledger)]
    if arguments[0] == "plan":
        write_sweep(tmp_path)
        arguments += ["--budget", "smoke"]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert not unseen(said.err)
    assert said.err.startswith("error: ") and said.err.count("\n") == 1


def test_no_file_holds_what_cannot_be_seen(attacked: Attacked) -> None:
    for name, text in attacked.texts(".html", ".md", ".tex", ".csv", ".svg").items():
        assert not unseen(text), name


def test_a_spreadsheet_computes_nothing(attacked: Attacked) -> None:
    num_cells = 0
    for name, text in attacked.texts(".csv").items():
        for cell in (cell for row in csv.reader(text.splitlines()) for cell in row):
            number = re.fullmatch(r"-?[0-9.]+(e[-+]?[0-9]+)?", cell)
            assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), (name, cell)
            num_cells += "cmd|" in cell
    assert num_cells > 10


def test_markdown_shows_text_alone(attacked: Attacked) -> None:
    known = ["h1", "h2", "table", "thead", "tbody", "tr", "th", "td", "strong", "ul", "li", "code", "p"]
    for name, text in attacked.texts(".md").items():
        tags = set(re.findall(r"<([a-z0-9]+)", html(text)))
        assert tags <= set(known), name


def test_latex_runs_no_command(attacked: Attacked, tmp_path: Path) -> None:
    """With commands of the shell allowed, which no sane person does."""
    for name, text in attacked.texts(".tex").items():
        code = re.sub(r"(?m)^%.*$", "", text)
        assert not re.search(r"\\(input|immediate|write|end\{table\} \\\\)", code), name
        assert "^^" not in code, name
    program = shutil.which("pdflatex")
    if not program:
        pytest.skip("pdflatex is not installed")
    inputs = [f"\\input{{{attacked.out / name}}}\\clearpage" for name in attacked.texts(".tex")]
    paper = "\\documentclass{article}\\usepackage{booktabs}\\usepackage{graphicx}\\begin{document}\n"
    (tmp_path / "paper.tex").write_text(paper + "\n".join(inputs) + "\\end{document}\n")
    command = [program, "-halt-on-error", "-interaction=nonstopmode", "-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert not (tmp_path / "attacked").exists()
    assert "(/etc/passwd" not in done.stdout.decode(errors="replace")  # how it tells which files it opens


def test_drawings_hold_shapes_alone(attacked: Attacked) -> None:
    for name, text in attacked.texts(".svg").items():
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
        assert not tags & {"script", "a", "foreignObject", "iframe", "animate", "set"}, name


@pytest.mark.skipif(not browser.PROGRAM, reason="chromium is not installed")
def test_a_browser_runs_and_loads_nothing(attacked: Attacked) -> None:
    probe = """(() => {
      const all = [...document.querySelectorAll("*")];
      return {
        attacked: window.attacked || 0,
        scripts: document.scripts.length,
        handlers: all.filter(e => [...e.attributes].some(a => a.name.startsWith("on"))).length,
        links: all.filter(e => /^(?!#|data:)/.test(e.getAttribute("href") || "#")).length,
        sources: all.filter(e => /^(?!data:image)/.test(e.getAttribute("src") || "data:image")).length,
        unknown: all.filter(e => ["IFRAME", "OBJECT", "EMBED", "BASE"].includes(e.tagName)).length,
        text: document.body.textContent.includes("window.attacked"),
      };
    })()"""
    with Browser() as page:
        for name in ("report.html", "claims.html"):
            page.open(attacked.out / name)
            nothing = {"attacked": 0, "handlers": 0, "links": 0, "sources": 0, "unknown": 0}
            assert page.run(probe) == {**nothing, "scripts": int(name == "report.html"), "text": True}
        assert not page.problems
        assert all(address.startswith(("file:", "data:")) for address in page.requests)
