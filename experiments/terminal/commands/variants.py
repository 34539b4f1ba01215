"""`variants`: list everything that a name can stand for, or say all about one name."""

import json
import re
import textwrap
from collections.abc import Mapping

from jsonargparse import Namespace
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.networks.catalogue import Entry, catalogue
from ledger.options import option_text
from ledger.started import program

INTRODUCTION = (
    "A variant is MODEL, MODEL+POLICY or MODEL@BACKBONE+POLICY; several policies, MODEL+POLICY+POLICY, apply in turn.",
    "Each part, like a pose, may set options: stn_affine:place=shared@resnet18+affine:max_deg=30.",
    "A library's network is a backbone too: cnn@timm:resnet18.",
    f"`{program()} variants NAME` says all about a name, and about each part of a whole variant.",
    "",
)


def main(options: Namespace) -> int:
    entries = catalogue(options.name)
    if options.json:
        print(json.dumps(entries, indent=1))
    else:
        (print_entries if options.name else print_variants)(Console(), entries)
    return 0


def print_variants(console: Console, by_kind: Mapping[str, Mapping[str, Entry]]) -> None:
    """Names by kind, each with what it is."""
    for line in INTRODUCTION:
        print_hanging(console, line, 0)
    width = max(len(name) for entries in by_kind.values() for name in entries) + 2
    for kind, entries in by_kind.items():
        console.print(f"[bold]{kind}[/]")
        for name, entry in entries.items():
            print_hanging(console, f"  {name:{width}}{entry['what']}", width + 2)


def print_hanging(console: Console, line: str, indent: int) -> None:
    """The line, and what does not fit its width below it, that far from the left."""
    parts = textwrap.wrap(line, console.width - 1, subsequent_indent=" " * indent, break_on_hyphens=False)
    for part in parts or [""]:
        console.print(part, markup=False, highlight=False, soft_wrap=True)


def print_entries(console: Console, by_kind: Mapping[str, Mapping[str, Entry]]) -> None:
    """All about names: what they are, and their options."""
    for kind, entries in by_kind.items():
        for name, entry in entries.items():
            console.print(f"[bold]{kind} {name}[/]\n", highlight=False)
            # A paragraph, or all that is said of an option, is one line.
            about = re.sub(r"(?<=[^\n])\n(?=\S)(?!\w+(, \w+)*: )|\n +", " ", entry["about"])
            for line in about.split("\n"):
                print_hanging(console, line, 4 if re.match(r"\w+(, \w+)*: ", line) else 0)
            given = entry["given"]
            table = Table(box=box.SIMPLE_HEAD)
            for column in ("option", *(["here"] if given else []), "default", "or"):
                table.add_column(column)
            for option, default in entry["hyper-parameters"].items():
                others = [option_text(each) for each in entry["choices"].get(option, ()) if each != default]
                here = [option_text(given[option]) if option in given else ""] if given else []
                table.add_row(option, *here, option_text(default), ", ".join(others))
            console.print(table if table.rows else "\nIt has no options.\n")
