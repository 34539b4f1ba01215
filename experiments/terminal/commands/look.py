"""`look`: draw some images of each class as they are, as networks see them, and under each pose and policy."""

from jsonargparse import Namespace
from rich.console import Console

from experiments.machine.device import here
from experiments.runs.images import fit_to_task
from experiments.study.arms import check_arms
from experiments.terminal.commands.contact_sheets import write_contact_sheet
from experiments.terminal.commands.options import load_images
from experiments.terminal.commands.plan import show_images
from experiments.terminal.commands.sweep import check_reports
from experiments.terminal.display import print_place, say_to


def main(options: Namespace) -> int:
    console = Console()
    (study, *others), loaded = load_images(options, console, here)
    protocol, shrunk = fit_to_task(study.protocol, loaded.task)
    show_images(console, loaded.task, protocol)
    if shrunk:
        say_to(console)(shrunk)
    check_reports(options.reports)
    out, notes = write_contact_sheet(study, loaded.task, check_arms(study), options.reports, whole_files=True)
    if others:
        notes = [*notes, f"at {study.factor.text(study.name)}, the first of {len(others) + 1} values"]
    print_place(console, "\nContact sheet", str(out), *notes)
    return 0
