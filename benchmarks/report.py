"""The figures as the file has them, and as a person sees them in the terminal."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.report_file import REPORT_FORMAT, check_writable
from ledger.files import to_json, write_atomically

NOTE = (
    "Usual way: {usual_way}. Bare step: forward, backward and optimiser on one ready batch. Engine: whole epochs with "
    "augmentation and logging, without validation; packed: several processes at once, images/s together. "
    "Rounds: {num_rounds}; figures are medians, ratios medians of the rounds' ratios. A share of a matrix rate counts "
    "the network's convolutions and matrix products against the machine's best square matrix product."
)
METHODS_NOTE = (
    "Milliseconds for one batch of {batch_size} images of 32 px with one thread on a CPU, {precision}; in brackets "
    "their ratio to the training step of the bare CNN, or of a prediction to its prediction. A policy's figure is what "
    "it adds to a step, draws included. torchvision draws once for the whole batch, stn-bench and kornia for each "
    "image; of auto_augment and its kin both libraries draw one operation for the whole batch."
)
NOTICEABLE_LOAD = 0.5
NOTICEABLE_SPREAD = 1.3


class Measurement:
    """A benchmark under way, and how busy the machine was before."""

    def __init__(self, out: Path | None, *, quick: bool) -> None:
        """out: file for the figures, if they are kept. Raises UserError if it cannot be written."""
        if out:
            check_writable(out)
        self.console, self.out, self.quick = Console(), out, quick
        self.load, self.start_s = os.getloadavg()[0], time.perf_counter()

    def finish(
        self,
        show: Callable[[Console, Mapping[str, Any]], None],
        device: torch.device,
        sizes: Mapping[str, Any],
        figures: Mapping[str, Any],
    ) -> None:
        """Show the report and write it as JSON. sizes: how much was measured."""
        report = {
            "format": REPORT_FORMAT,
            "quick": self.quick,
            **sizes,
            "seconds": round(time.perf_counter() - self.start_s, 1),
            "load_average_before": round(self.load, 2),
            "machine": describe(device),
            **figures,
        }
        show(self.console, report)
        if self.out:
            write_atomically(self.out, to_json(report))


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """The comparison of speeds as tables."""
    print_machine(console, report["machine"])
    print_load(console, report["load_average_before"], largest_spread(report))
    print_table(
        console,
        ("matrix product", "threads", "GFLOP/s", "lowest to highest"),
        [(r["precision"], r["threads"], f"{r['gflops_per_s']:,.0f}", span(r)) for r in report["matrix_products"]],
    )
    for network in report["networks"]:
        print_line(
            console,
            f"[bold]{network['name']}[/] {network['variant']}, batch {network['batch_size']}, {network['precision']}, "
            f"{network['num_parameters']:,} parameters, {network['train_flops_per_image'] / 1e6:.1f} MFLOP an image",
        )
        print_table(
            console,
            ("side", "processes", "threads", "images/s", "lowest to highest"),
            [(r["side"], r["processes"], r["threads"], f"{r['images_per_s']:,.0f}", span(r)) for r in network["rates"]],
        )
        print_table(
            console,
            ("ratio", "processes", "threads", "value", "target"),
            [
                (r["ratio"], r["processes"], r["threads"], f"{r['value']:.2f}", r["target"] or "")
                for r in network["ratios"]
            ],
        )
    print_note(console, NOTE.format(**report))
    print_methods(console, report["methods"])


def print_line(console: Console, markup: str) -> None:
    console.print(markup, highlight=False, soft_wrap=True)


def print_note(console: Console, text: str) -> None:
    console.print(text, style="dim", highlight=False)


def print_machine(console: Console, machine: Mapping[str, Any]) -> None:
    """What it was measured on, in a line."""
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("python", "torch", "torchvision"))
    device = "" if machine["device"] == "cpu" else f", {machine['device_name']}"
    processor = f"{machine['cpu']}, {machine['cpu_capability']}, {machine['cores']} cores{device}"
    print_line(console, f"\n[bold]Machine[/] {processor}; {versions}")


def print_load(console: Console, load: float, spread: float | None = None) -> None:
    """That the machine was busy, if it was. spread: by how much the rounds of any one side differ, as a factor."""
    if load <= NOTICEABLE_LOAD and (spread or 0) <= NOTICEABLE_SPREAD:
        return
    text = f"[yellow]Not an idle machine:[/] load average {load:.1f} before the start"
    if spread is not None:
        text += f", and rounds that differ by up to {spread:.1f} times. Figures of several threads suffer most"
    print_line(console, f"{text}; measure again.")


def print_methods(console: Console, methods: Mapping[str, Any]) -> None:
    """What each method costs, as tables."""
    networks = [
        (entry["variant"], f"{entry['num_parameters']:,}", cost(entry), cost(entry, "predict_"))
        for entry in methods["networks"]
    ]
    print_table(console, ("network", "parameters", "ms a step", "ms to predict"), networks)
    sides = dict.fromkeys(entry["side"] for entry in methods["policies"])
    costs: dict[str, dict[str, str]] = {}
    for entry in methods["policies"]:
        costs.setdefault(entry["policy"], {})[entry["side"]] = cost(entry)
    rows = [(policy, *(its.get(side, "") for side in sides)) for policy, its in costs.items()]
    print_table(console, ("ms a batch", *sides), rows)
    print_note(console, METHODS_NOTE.format(**methods))
    for what, why in methods["left_out"].items():
        console.print(f"Left out: {what}: {why}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def cost(entry: Mapping[str, Any], of: str = "") -> str:
    ms = entry[f"{of}ms"]
    return f"{ms:.{0 if ms >= 100 else 1}f} ({entry[f'{of}ratio']:.2f})"  # so narrow that names have room


def median(name: str, rounds: Sequence[float | None]) -> dict[str, Any]:
    """The median, and what it is the median of; no median where a round has no figure."""
    figures = [None if value is None else round(value, 4) for value in rounds]
    known = [value for value in rounds if value is not None]
    return {name: round(statistics.median(known), 4) if len(known) == len(rounds) else None, "rounds": figures}


def largest_spread(report: Mapping[str, Any]) -> float:
    """By how much the rounds of any one side differ, as a factor."""
    sides = [rate["rounds"] for network in report["networks"] for rate in network["rates"]]
    return max(max(rounds) / min(rounds) for rounds in sides)


def span(figure: Mapping[str, Any]) -> str:
    return f"{min(figure['rounds']):,.0f} to {max(figure['rounds']):,.0f}"


def print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """The first column to the left, the rest to the right."""
    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)
