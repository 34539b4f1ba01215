"""`tables`: write the tables of a study again, and show the most important ones."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console

from experiments.terminal.commands.ledgers import existing_ledger, named_study
from experiments.terminal.display import (
    print_ablation,
    print_answer,
    print_drawing,
    print_faults,
    print_place,
    print_tables,
    print_unfinished,
)
from ledger.errors import STATUS_INCOMPLETE

if TYPE_CHECKING:
    from analysis.findings import Findings


def main(options: Namespace) -> int:
    from analysis.findings import find

    ledger = existing_ledger(options)
    findings = find(ledger.root, named_study(ledger, options.study))
    write_and_show_tables(findings, options.reports, Console())
    return STATUS_INCOMPLETE if findings.faults else 0


def renew_report(findings: "Findings", reports: Path) -> None:
    """Write tables, figures and report of the study again, unless they are there as they would be."""
    from analysis.report import NAME, is_made_from, write_report
    from analysis.tables import build_tables, write_tables

    out, tables = reports / findings.study.name, build_tables(findings)
    if not is_made_from(out / NAME, findings, tables):
        write_tables(findings, out, tables)
        write_report(findings, out)


def write_and_show_tables(
    findings: "Findings", reports: Path, console: Console, *, report: bool = False, told: bool = True
) -> None:
    """Write the study's tables, print the most important ones and the answer, say where everything is.

    report: also write figures and report, unless a whole report of the same tables and study is there; it takes
    seconds. They come last: whatever becomes of them, the results are written and said.
    told: whether the answer and the report's place are said here; a probe says its own answer, and then the place.
    """
    from analysis.answer import answer, headline
    from analysis.faults import kept
    from analysis.lost_runs import unfinished
    from analysis.report import NAME, is_made_from, write_report
    from analysis.tables import build_tables, tested_pose, transformer, write_tables

    out = reports / findings.study.name
    page, tables = out / NAME, build_tables(findings)
    is_new = report and not is_made_from(page, findings, tables)
    if is_new:
        page.unlink(missing_ok=True)  # whatever stops this command, no page of other runs stays beside the tables
    write_tables(findings, out, tables)
    words = None
    with kept(findings.faults, "answer"):
        words = headline(findings), answer(findings), unfinished(findings)
    if words:
        if "ablation" in tables:
            print_ablation(console, tables["ablation"])
        if "test_pose" in tables:
            hint = "test_pose.md has all notes."
            print_tables(console, tables["test_pose"], lambda table: tested_pose.IMPORTANCE, hint)
        if "transformer" in tables:
            hint = "transformer.md has all notes."
            print_tables(console, tables["transformer"], lambda table: transformer.IMPORTANCE, hint)
        if told:
            print_answer(console, *words)
        elif unfinished_text := words[-1]:
            print_unfinished(console, unfinished_text)
    if is_new:
        print_drawing(console)
        write_report(findings, out)
    num_tables, num_figures = (len(list(out.glob(f"[!.]*.{kind}"))) for kind in ("tex", "svg"))
    if report and told:
        print_place(console, "Report", str(page), "one file: open it in a browser, or send it on")
    print_place(console, "Tables and figures", str(out), f"{num_tables} tables, {num_figures} figures")
    print_place(console, "Ledger", str(findings.study.ledger))
    print_faults(console, findings.faults, findings.notes)
