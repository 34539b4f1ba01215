"""`report`: write a study's tables, figures and report."""

from jsonargparse import Namespace
from rich.console import Console

from experiments.commands.ledgers import existing_ledger, named_study
from experiments.commands.options import find_study
from experiments.display import print_answer, print_place


def main(options: Namespace) -> int:
    """Write a study's tables, figures and report, and say the answer."""
    from analysis.answer import answer, headline
    from analysis.lost_runs import unfinished
    from analysis.report import write_report
    from analysis.tables import write_tables

    console = Console()
    ledger = existing_ledger(options)
    study = named_study(ledger, options.study)
    findings = find_study(ledger, study)
    out = options.reports / study
    write_tables(findings, out)
    report = write_report(findings, out)
    print_answer(console, headline(findings), answer(findings))
    if warning := unfinished(findings):
        console.print(f"[yellow]{warning}[/]\n", highlight=False)
    print_place(console, "Report", str(report), "one file: open it in a browser, or send it to a colleague")
    print_place(console, "Tables and figures", str(out))
    return 0
