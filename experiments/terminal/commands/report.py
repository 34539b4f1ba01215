"""`report`: write a study's tables, figures and report, and say the answer; of several studies, one page of all."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace
from rich.console import Console

from experiments.terminal.commands.ledgers import existing_ledger, named_study
from experiments.terminal.commands.options import find_study
from experiments.terminal.display import print_answer, print_drawing, print_faults, print_place, print_tables
from ledger.errors import STATUS_INCOMPLETE, UserError
from ledger.ledger import Ledger

PLACE = ("Report", "one file: open it in a browser, or send it to a colleague")


def main(options: Namespace) -> int:
    names = [name for given in options.study or () for name in given.split()]  # no name has a space
    ledger = existing_ledger(options)
    if len(names) > 1:
        return _report_several(ledger, names, options.reports)
    return _report(ledger, named_study(ledger, names[0] if names else ""), options.reports)


def _report(ledger: Ledger, name: str, reports: Path) -> int:
    from analysis.answer import answer, headline
    from analysis.faults import kept
    from analysis.lost_runs import unfinished
    from analysis.report import write_report
    from analysis.tables import write_tables

    console, findings = Console(), find_study(ledger, name)
    out = reports / findings.study.name
    write_tables(findings, out)
    words = None
    with kept(findings.faults, "answer"):
        words = headline(findings), answer(findings), unfinished(findings)
    if words:
        print_answer(console, *words)
    print_drawing(console)
    report = write_report(findings, out)
    print_place(console, PLACE[0], str(report), PLACE[1])
    print_place(console, "Tables and figures", str(out))
    print_faults(console, findings.faults, findings.notes)
    return STATUS_INCOMPLETE if findings.faults else 0


def _report_several(ledger: Ledger, names: Sequence[str], reports: Path) -> int:
    from analysis.findings import find
    from analysis.side_by_side import page, side_by_side, tables, words

    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"study: {twice[0]} is there twice; name each study once")
    known = [named_study(ledger, name) for name in names]  # all names are looked at before a study is read
    console, shown = Console(), side_by_side([find(ledger.root, name) for name in known])
    built = tables.build(shown)
    for table in built.values():
        if table.name in ("accuracy", "ranks"):
            print_tables(console, table, lambda text: text.columns)
    print_answer(console, words.headline(shown), list(words.statements(shown)), None)
    print_drawing(console)
    out = reports / page.folder_name(shown)
    report = page.write_side_by_side(shown, built, out)
    print_place(console, PLACE[0], str(report), PLACE[1])
    print_place(console, "Tables and figure", str(out))
    print_faults(console, shown.faults)
    return STATUS_INCOMPLETE if shown.faults else 0
