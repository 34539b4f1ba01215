"""`report`: write a study's tables, figures and report, and say the answer."""

from jsonargparse import Namespace
from rich.console import Console

from experiments.terminal.commands.ledgers import existing_ledger, named_study
from experiments.terminal.commands.options import find_study
from experiments.terminal.display import print_answer, print_drawing, print_faults, print_place
from ledger.errors import STATUS_INCOMPLETE


def main(options: Namespace) -> int:
    from analysis.answer import answer, headline
    from analysis.faults import kept
    from analysis.lost_runs import unfinished
    from analysis.report import write_report
    from analysis.tables import write_tables

    console, ledger = Console(), existing_ledger(options)
    findings = find_study(ledger, named_study(ledger, options.study))
    out = options.reports / findings.study.name
    write_tables(findings, out)
    words = None
    with kept(findings.faults, "answer"):
        words = headline(findings), answer(findings), unfinished(findings)
    if words:
        print_answer(console, *words)
    print_drawing(console)
    report = write_report(findings, out)
    print_place(console, "Report", str(report), "one file: open it in a browser, or send it to a colleague")
    print_place(console, "Tables and figures", str(out))
    print_faults(console, findings)
    return STATUS_INCOMPLETE if findings.faults else 0
