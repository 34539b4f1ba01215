"""`verify`: read every file of a ledger and say what is not as it was written; on request, make some runs again."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console

from ledger.errors import UserError
from ledger.wording import count

if TYPE_CHECKING:
    from ledger.audit import Audit

COLOURS = {
    **dict.fromkeys(("damaged", "unreadable", "edited", "missing"), "red"),
    **dict.fromkeys(("extra", "newer"), "yellow"),
}
MAX_NOTES = 20
RERUN_ONLY = {"seed": None, "data": None, "group": "", "jobs": 0}
"""Options of --rerun, and what they are where they are not given."""


def main(options: Namespace) -> int:
    """Returns 1 if something is not as it was written, or a run that was to be made again did not come out the same."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ledger.audit import audit

    check_options(options)
    console = Console()
    columns = (TextColumn("Reading"), BarColumn(), MofNCompleteColumn(), TextColumn("runs"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        result = audit(options.ledger, lambda done, total: progress.update(task, completed=done, total=total))
    show(console, options.ledger, result)
    is_well = not result.findings
    if options.rerun:
        from experiments.terminal.commands.rerun import rerun  # which imports torch

        is_well = rerun(console, options, result) and is_well
    return 0 if is_well else 1


def check_options(options: Namespace) -> None:
    """Raises UserError for numbers that make no sense, and for options of --rerun without it."""
    given = [name for name, unset in RERUN_ONLY.items() if options[name] != unset]
    if given and not options.rerun:
        raise UserError(f"{given[0]}: is for runs that are made again; --rerun=N says how many")
    for name in ("rerun", "seed"):
        if (number := options[name] or 0) < 0:
            raise UserError(f"{name}: {number} is negative")


def show(console: Console, root: Path, result: "Audit") -> None:
    """One line for each finding, with what to do, then the notes, then how much was read and found."""
    from rich.filesize import decimal

    from ledger.plain_text import as_markup

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    for path, kind, what, todo in result.findings:
        say(f"[bold {COLOURS[kind]}]{kind:<8}[/] {as_markup(path)}: {as_markup(what)} [dim]-> {as_markup(todo)}[/]")
    for note in result.notes[:MAX_NOTES]:
        say(f"[cyan]note[/]     {as_markup(note)}")
    if len(result.notes) > MAX_NOTES:
        say(f"[cyan]note[/]     and {len(result.notes) - MAX_NOTES:,} more like these")
    studies = "1 study" if result.num_studies == 1 else f"{result.num_studies:,} studies"
    size = f"{count(result.num_files, 'file')}, {decimal(result.num_bytes)}"
    read = f"{count(result.num_runs, 'run')} and {studies} in {as_markup(root)} ({size})"
    numbers = {kind: len({each.path for each in result.findings if each.kind == kind}) for kind in COLOURS}
    if wrong := ", ".join(f"{number:,} {kind}" for kind, number in numbers.items() if number):
        say(f"[bold red]Not as written[/]: {wrong}, of {read}")
    elif result.num_homeless:
        homeless = f"{count(result.num_homeless, 'run')} {'belongs' if result.num_homeless == 1 else 'belong'}"
        say(f"[bold yellow]No file is damaged[/], but {homeless} to no study that is here: {read}")
    else:
        say(f"[bold green]All is well[/] with {read}")
