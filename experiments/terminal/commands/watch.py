"""`watch`: what is being trained, as it goes. Reads a ledger that others write, and writes nothing into it."""

import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from jsonargparse import Namespace
from rich.console import Console
from rich.live import Live

from experiments.terminal.commands.ledgers import existing_ledger, named_study
from experiments.terminal.display import say_to
from experiments.terminal.watching.page import live_page
from experiments.terminal.watching.screen import Screen
from experiments.terminal.watching.view import View, Watcher
from ledger.errors import UserError
from ledger.files import write_atomically
from ledger.ledger import Ledger

LOOK_S = 1.0
HINT = "Looked at anew each second; Ctrl-C ends, and the sweep goes on."


def main(options: Namespace) -> int:
    ledger, console = existing_ledger(options), Console()
    watcher = Watcher(ledger, named_study(ledger, options.study) if options.study else "")
    page = checked_page(options.html, ledger)
    if options.once or (page is None and not console.is_terminal):
        view = watcher.look()
        console.print(Screen(view, now()))
        if page:
            write_page(page, view, is_last=True)
        return 0
    watch(watcher, page, console)
    return 0


def watch(watcher: Watcher, page: Path | None, console: Console) -> None:
    """Until it is stopped; the page says so then."""
    view = watcher.look()
    with ExitStack() as stack:
        live = None
        if console.is_terminal:
            live = stack.enter_context(Live(console=console, screen=True, auto_refresh=False))
        elif page:
            say_to(console)(f"Writing {page} anew each second, until this is stopped (Ctrl-C).")
        if page:
            stack.callback(lambda: write_page(page, view, is_last=True))
        while True:
            if live:
                live.update(Screen(view, now(), HINT), refresh=True)
            if page:
                write_page(page, view, is_last=False)
            time.sleep(LOOK_S)
            view = watcher.look()


def now() -> str:
    return f"{datetime.now():%H:%M:%S}"


def checked_page(path: Path | None, ledger: Ledger) -> Path | None:
    """Where to write the page, its folder made. Raises UserError inside the ledger, which is never written."""
    if path is None:
        return None
    if path.resolve().is_relative_to(ledger.root.resolve()):
        raise UserError(f"html: {path} is in the ledger, where watch writes nothing; give another place")
    if path.is_dir():
        raise UserError(f"html: {path} is a folder; give a file, such as {path / 'live.html'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_page(path: Path, view: View, *, is_last: bool) -> None:
    write_atomically(path, live_page(view, now(), is_last=is_last).encode())  # a browser reads it at any time
