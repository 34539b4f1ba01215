"""`tables`: write the tables and figures of a study again."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console

from experiments.commands.options import existing_ledger, find_study, named_study
from experiments.display import print_ablation, print_answer, print_place, print_tables

if TYPE_CHECKING:
    from analysis.findings import Findings


def main(options: Namespace) -> int:
    """Write tables and figures again."""
    ledger = existing_ledger(options)
    findings = find_study(ledger, named_study(ledger, options.study))
    write_and_show_tables(findings, options.reports, Console(), redraw=True)
    return 0


def write_and_show_tables(
    findings: "Findings", reports: Path, console: Console, *, redraw: bool = False, report: bool = False
) -> None:
    """Write the study's tables and figures, print the most important ones and the answer, say where everything is.

    redraw: also draw figures that stand beside the same table already; it takes seconds. report: write that as well.
    """
    from analysis.answer import answer, headline
    from analysis.diagnostics import IMPORTANCE
    from analysis.tables import write_tables

    out = reports / findings.study.name
    table, last = out / "ablation.csv", out / ("report.html" if report else "curves.svg")
    before = table.read_bytes() if table.exists() and last.exists() else None
    write_tables(findings, out)
    if redraw or table.read_bytes() != before:
        if report:
            from analysis.report import write_report

            write_report(findings, out)
        else:
            from analysis.figures import write_figures

            write_figures(findings, out)
    print_ablation(console, findings.ablation)
    if findings.transformers:
        print_tables(console, findings.transformers, lambda table: IMPORTANCE, "transformer.md has all notes.")
    print_answer(console, headline(findings), answer(findings))
    names = [path for path in out.iterdir() if not path.name.startswith(".")]
    num_tables, num_figures = (sum(path.suffix == suffix for path in names) for suffix in (".csv", ".png"))
    if report:
        print_place(console, "Report", str(out / "report.html"), "one file: open it in a browser, or send it on")
    print_place(console, "Tables and figures", str(out), f"{num_tables} tables, {num_figures} figures")
    print_place(console, "Ledger", str(findings.study.ledger))
