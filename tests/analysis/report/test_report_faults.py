"""A fault in one figure, table or page is named and costs none of the others, and the next command tries again."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console

import analysis.tables
from analysis.findings import Findings, find
from analysis.report.method import facts
from analysis.report.page import FIGURES, NAME, is_whole, write_report
from experiments.terminal.cli import main
from experiments.terminal.commands.tables import write_and_show_tables
from ledger.errors import STATUS_INCOMPLETE, UserError
from tests.support.synthetic_ledger import STUDY, edit_json, write_tiny_study

pytestmark = pytest.mark.long

CAPTION = "What it shows, in a sentence."


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException]:
    """A ledger at `runs`; what the figures `one` and `two`, the tables and the page shall raise, by their name."""
    errors: dict[str, BaseException] = {}

    def failing(name: str, build: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if name in errors:
                raise errors[name]
            return build(*arguments)

        return call

    def draw(findings: Findings) -> Figure:
        figure = Figure(figsize=(2, 1))
        figure.subplots()
        return figure

    tables = analysis.tables.builders()
    both = {n: (CAPTION, failing(n, draw)) for n in ("one", "two")}
    monkeypatch.setattr("analysis.figures.registry.builders", lambda: both)
    monkeypatch.setattr(
        "analysis.tables.building.builders", lambda: {name: failing(name, tables[name]) for name in tables}
    )
    monkeypatch.setattr("analysis.report.page.facts", failing("page", facts))
    monkeypatch.setattr("analysis.answer.headline", failing("words", analysis.answer.headline))
    write_tiny_study(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return errors


def test_a_figure_and_a_table_that_fail(faulty, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faulty |= {"two": ValueError("words of\na library"), "costs": ZeroDivisionError()}
    assert main(["report"]) == STATUS_INCOMPLETE
    said, complained = capsys.readouterr()
    assert complained == ""
    assert "Traceback" not in said and ": words of a library); `make report`" in said
    places = {"figure two": "ValueError in analysis/", "table costs": "ZeroDivisionError in analysis/"}
    for what, place in places.items():
        (line,) = (line for line in said.splitlines() if line.startswith(what))
        assert f"{what}: could not be made, by a fault in the program ({place}" in line
        assert line.endswith("`make report` tries again")
    assert "Cannot tell yet" in said
    out = tmp_path / "reports" / STUDY
    names = {path.name for path in out.iterdir()}
    assert {"one.png", "one.svg", "one.pdf", "leaderboard.csv", "times.html", NAME} <= names
    assert not [name for name in names if name.startswith(("two.", "costs."))]
    page = (out / NAME).read_text(encoding="utf-8")
    place = page.partition('<figure id="figure-two">')[2].partition("</figure>")[0]
    assert "The figure two could not be made" in place and "(“words of a library”)" in place and CAPTION in place
    assert "The table costs could not be made" in page.partition('<section id="compared">')[0]
    faulty.clear()
    assert main(["report"]) == 0
    assert {"two.png", "costs.csv"} <= {path.name for path in out.iterdir()}
    assert is_whole(out / NAME)


@pytest.mark.long
def test_the_next_sweep_draws_what_this_one_could_not(faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, drawn = tmp_path / "reports" / STUDY, []

    def write(findings: Findings, out: Path) -> Path:
        drawn.append(findings)
        return write_report(findings, out)

    monkeypatch.setattr("analysis.report.write_report", write)

    def sweep() -> Findings:
        findings = find(tmp_path / "runs", STUDY)
        write_and_show_tables(findings, tmp_path / "reports", Console(quiet=True), report=True)
        return findings

    for error in (RuntimeError(), OSError(5, "of a font"), AssertionError(), RecursionError()):
        faulty["one"] = error
        assert [*sweep().faults] == ["figure one"]
        assert (out / "two.png").exists() and not (out / "one.png").exists() and not is_whole(out / NAME)
    faulty.clear()
    assert not sweep().faults and is_whole(out / NAME) and (out / "one.png").exists()
    num_drawn = len(drawn)
    assert not sweep().faults and len(drawn) == num_drawn  # a whole one is not made again
    study = tmp_path / "runs" / "studies" / STUDY / "study.json"
    before, scores = study.read_bytes(), (out / "ablation.csv").read_bytes()
    edit_json(study, images={"facts": [], "warnings": ["all are grey"], "train": [1, 1], "test": [1, 1]})
    assert not sweep().faults and "all are grey" in (out / NAME).read_text(encoding="utf-8")
    study.write_bytes(before)
    assert not sweep().faults and "all are grey" not in (out / NAME).read_text(encoding="utf-8")
    assert (out / "ablation.csv").read_bytes() == scores and len(drawn) == num_drawn + 2


@pytest.mark.parametrize("broken", ["style", "import"])
def test_no_earlier_figure_stays_beside_a_report_without(
    faulty, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report"]) == 0
    out = tmp_path / "reports" / STUDY
    (out / "mine.png").touch()
    if broken == "style":
        monkeypatch.setattr("analysis.figures.style.applied", lambda study: 1 / 0)
    else:
        monkeypatch.setitem(sys.modules, "analysis.figures.registry", None)
    assert main(["report"]) == STATUS_INCOMPLETE
    assert "figures: could not be made, by a fault in the program (" in capsys.readouterr().out
    assert {path.name for path in out.iterdir() if path.suffix in FIGURES} == {"mine.png"}
    assert (out / "ablation.csv").exists()
    assert "The figures could not be made" in (out / NAME).read_text(encoding="utf-8")


def test_faults_of_the_machine_are_not_called_ours(faulty, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faulty["one"] = OSError(24, "Too many open files")
    assert main(["report"]) == STATUS_INCOMPLETE
    said = capsys.readouterr().out
    assert "figure one: could not be made (OSError in analysis/" in said and "] Too many open files); `make" in said
    assert "fault in the program" not in said + (tmp_path / "reports" / STUDY / NAME).read_text(encoding="utf-8")
    for error in (RuntimeError("can't start new thread"), ImportError("libz.so.1: cannot open shared object file")):
        faulty["one"] = error
        assert main(["report"]) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_words_and_pages_that_fail(faulty, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 0
    page = tmp_path / "reports" / STUDY / NAME
    assert page.exists()
    faulty |= {"page": KeyError("x"), "words": TypeError()}
    assert main(["report"]) == STATUS_INCOMPLETE
    said = capsys.readouterr().out
    assert "answer: could not be made, by a fault in the program (TypeError in " in said
    assert "report: could not be made, by a fault in the program (KeyError in analysis/report/page.py, line" in said
    assert not page.exists() and page.with_name("one.png").exists() and page.with_name("claims.csv").exists()


def test_a_phone_s_form_that_fails_is_tried_again(faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(findings: Findings) -> Figure:
        raise ValueError

    monkeypatch.setattr("analysis.figures.registry.NARROW", {"one": fail})
    assert main(["report"]) == STATUS_INCOMPLETE
    out = tmp_path / "reports" / STUDY
    assert (out / "one.png").exists() and not is_whole(out / NAME)


@pytest.mark.parametrize("what", ["one", "costs"])
def test_what_is_not_about_one_of_them_ends_the_command(faulty, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    faulty[what] = UserError("runs/x: is damaged")
    assert main(["report"]) == 2
    assert capsys.readouterr().err == "error: runs/x: is damaged\n"
    faulty[what] = MemoryError()
    with pytest.raises(MemoryError):
        main(["report"])
    faulty[what] = KeyboardInterrupt()
    assert main(["report"]) == 130
