"""`board`: rank finished studies of several people, where they share task and protocol, on one page."""

from jsonargparse import Namespace
from rich.console import Console

from experiments.terminal.display import print_place, say_to
from ledger.errors import STATUS_INCOMPLETE


def main(options: Namespace) -> int:
    """Returns 1 if a ledger was refused."""
    from analysis.board import NAME, write_board

    console, out = Console(), options.out or options.path / NAME
    refused = write_board(options.path, out)
    for each in refused:
        say_to(console)(f"{each.who}{each.study and f', {each.study}'} is refused: {each.why}")
    print_place(console, "Board", str(out), "one file: open it in a browser, or send it on")
    return STATUS_INCOMPLETE if refused else 0
