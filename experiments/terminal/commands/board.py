"""`board`: rank finished studies of several people, where they share task and protocol, on one page."""

from jsonargparse import Namespace
from rich.console import Console

from experiments.terminal.display import print_place, say_to
from ledger.errors import STATUS_INCOMPLETE, UserError


def main(options: Namespace) -> int:
    """Returns 1 if a ledger was refused."""
    from analysis.board import NAME, write_board

    console, out = Console(), options.out or options.path / NAME
    if out.suffix != ".html":  # it may be somebody's archive
        raise UserError(f"out: {out} is not what a page is called: give a file whose name ends in .html")
    refused, warnings = write_board(options.path, out)
    for warning in warnings:
        say_to(console)(warning)
    for each in refused:
        say_to(console)(f"{each.who}{each.study and f', {each.study}'} is refused: {each.why}")
    print_place(console, "Board", str(out), "one file: open it in a browser, or send it on")
    return STATUS_INCOMPLETE if refused else 0
