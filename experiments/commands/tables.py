"""`tables`: write the tables of a study again."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console

from experiments.commands.ledgers import existing_ledger, named_study
from experiments.display import print_ablation, print_answer, print_place, print_tables

if TYPE_CHECKING:
    from analysis.findings import Findings


def main(options: Namespace) -> int:
    """Write tables again, and show the most important ones."""
    from analysis.findings import find

    ledger = existing_ledger(options)
    write_and_show_tables(find(ledger.root, named_study(ledger, options.study)), options.reports, Console())
    return 0


def write_and_show_tables(findings: "Findings", reports: Path, console: Console, *, report: bool = False) -> None:
    """Write the study's tables, print the most important ones and the answer, say where everything is.

    report: also write figures and report, unless those of the same table are there; it takes seconds.
    """
    from analysis.answer import answer, headline
    from analysis.diagnostics import IMPORTANCE
    from analysis.formats import DOCUMENTS
    from analysis.tables import builders, write_tables

    out = reports / findings.study.name
    table, page = out / "ablation.csv", out / "report.html"
    ablation = builders()["ablation"](findings)
    assert ablation is not None, "every study has one"
    is_new = not (table.exists() and page.exists() and table.read_bytes() == DOCUMENTS["csv"](ablation).encode())
    if report and is_new:
        page.unlink(missing_ok=True)  # whatever stops this command, no page of other runs stays beside the tables
    write_tables(findings, out)
    if report and is_new:
        from analysis.report import write_report

        write_report(findings, out)
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
