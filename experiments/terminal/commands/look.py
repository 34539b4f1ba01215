"""`look`: draw some images of each class as they are, as networks see them, and under each pose and policy."""

import io

from jsonargparse import Namespace
from rich.console import Console

from experiments.machine.device import here
from experiments.runs.images import fit_to_task
from experiments.study.arms import check_arms
from experiments.study.look import contact_sheet
from experiments.terminal.commands.options import load_images
from experiments.terminal.commands.plan import show_images
from experiments.terminal.commands.sweep import check_reports
from experiments.terminal.display import print_place, say_to
from ledger.files import write_atomically

NAME = "contact-sheet.png"


def main(options: Namespace) -> int:
    console = Console()
    (study, *others), loaded = load_images(options, console, here)
    protocol, shrunk = fit_to_task(study.protocol, loaded.task)
    show_images(console, loaded.task, protocol)
    if shrunk:
        say_to(console)(shrunk)
    check_reports(options.reports)
    sheet, notes = contact_sheet(study, loaded.task, check_arms(study))
    out = options.reports / study.full_name(loaded.task.label) / NAME
    out.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    write_atomically(out, stream.getvalue())
    if others:
        notes = [*notes, f"at {study.factor.text(study.name)}, the first of {len(others) + 1} values"]
    print_place(console, "\nContact sheet", str(out), *notes)
    return 0
