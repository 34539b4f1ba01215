"""`verify`: read every file of a ledger and say what is not as it was written."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console

from ledger.wording import count

if TYPE_CHECKING:
    from ledger.audit import Audit

COLOURS = {
    "damaged": "red",
    "unreadable": "red",
    "edited": "red",
    "missing": "red",
    "extra": "yellow",
    "newer": "yellow",
}
MAX_NOTES = 20


def main(options: Namespace) -> int:
    """Read every file of the ledger and say what is not as it was written; 1 if something is not."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ledger.audit import audit

    console = Console()
    columns = (TextColumn("Reading"), BarColumn(), MofNCompleteColumn(), TextColumn("runs"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        found = audit(options.ledger, lambda done, total: progress.update(task, completed=done, total=total))
    show(console, options.ledger, found)
    return 1 if found.findings else 0


def show(console: Console, root: Path, found: "Audit") -> None:
    """One line for each finding, with what to do, then the notes, then how much was read and found."""
    from rich.filesize import decimal

    from ledger.plain_text import as_markup

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    for path, kind, what, todo in found.findings:
        say(f"[bold {COLOURS[kind]}]{kind:<8}[/] {as_markup(path)}: {as_markup(what)} [dim]-> {as_markup(todo)}[/]")
    for note in found.notes[:MAX_NOTES]:
        say(f"[cyan]note[/]     {as_markup(note)}")
    if len(found.notes) > MAX_NOTES:
        say(f"[cyan]note[/]     and {len(found.notes) - MAX_NOTES:,} more like these")
    studies = "1 study" if found.num_studies == 1 else f"{found.num_studies:,} studies"
    read = f"{count(found.num_runs, 'run')} and {studies} in {as_markup(root)} ({count(found.num_files, 'file')}, "
    read += f"{decimal(found.num_bytes)})"
    numbers = {kind: len({each.path for each in found.findings if each.kind == kind}) for kind in COLOURS}
    told = ", ".join(f"{number:,} {kind}" for kind, number in numbers.items() if number)
    if told:
        say(f"[bold red]Not as written[/]: {told}, of {read}")
    elif found.num_homeless:
        homeless = f"{count(found.num_homeless, 'run')} {'belongs' if found.num_homeless == 1 else 'belong'}"
        say(f"[bold yellow]No file is damaged[/], but {homeless} to no study that is here: {read}")
    else:
        say(f"[bold green]All is well[/] with {read}")
