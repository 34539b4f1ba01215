"""The figures as the file has them, and as a person sees them in the terminal."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

NOTE = (
    "Usual way: {usual_way}. Bare step: forward, backward and optimiser on one ready batch. Engine: whole epochs with "
    "augmentation and logging, without validation; packed: several processes at once, images/s together. "
    "Rounds: {num_rounds}; figures are medians, ratios medians of the rounds' ratios. A share of a matrix rate counts "
    "the network's convolutions and matrix products against the machine's best square matrix product."
)
METHODS_NOTE = (
    "Milliseconds for one batch of {batch_size} images of 32 px with one thread on a CPU, {precision}; in brackets "
    "their ratio to the training step of the bare CNN. A network's figure is its training step; a policy's is what it "
    "adds to one, draws included. torchvision draws once for the whole batch, stn-bench and kornia for each image; of "
    "auto_augment and its kin both libraries draw one operation for the whole batch."
)
NOTICEABLE_LOAD = 0.5
NOTICEABLE_SPREAD = 1.3


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """The report as tables."""
    print_machine(console, report["machine"])
    load, spread = report["load_average_before"], largest_spread(report)
    if load > NOTICEABLE_LOAD or spread > NOTICEABLE_SPREAD:
        console.print(
            f"[yellow]Not an idle machine:[/] load average {load:.1f} before the start, and rounds that differ by up "
            f"to {spread:.1f} times. Figures of several threads suffer most; measure again.",
            highlight=False,
            soft_wrap=True,
        )
    print_table(
        console,
        ("matrix product", "threads", "GFLOP/s", "lowest to highest"),
        [(r["precision"], r["threads"], f"{r['gflops_per_s']:,.0f}", span(r)) for r in report["matrix_products"]],
    )
    for network in report["networks"]:
        console.print(
            f"[bold]{network['name']}[/] {network['variant']}, batch {network['batch_size']}, {network['precision']}, "
            f"{network['num_parameters']:,} parameters, {network['train_flops_per_image'] / 1e6:.1f} MFLOP an image",
            highlight=False,
            soft_wrap=True,
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
                (r["ratio"], r["processes"], r["threads"], f"{r['value']:.2f}", f"{r['target'] or ''}")
                for r in network["ratios"]
            ],
        )
    console.print(NOTE.format(**report), style="dim", highlight=False)
    print_methods(console, report["methods"])


def print_machine(console: Console, machine: Mapping[str, Any]) -> None:
    """What it was measured on, in a line."""
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("python", "torch", "torchvision"))
    device = "" if machine["device"] == "cpu" else f", {machine['device_name']}"
    processor = f"{machine['cpu']}, {machine['cpu_capability']}, {machine['cores']} cores{device}"
    console.print(f"\n[bold]Machine[/] {processor}; {versions}", highlight=False, soft_wrap=True)


def print_load(console: Console, load: float) -> None:
    """That the machine was busy before the start, if it was."""
    if load > NOTICEABLE_LOAD:
        text = f"[yellow]Not an idle machine:[/] load average {load:.1f} before the start; measure again."
        console.print(text, highlight=False, soft_wrap=True)


def print_methods(console: Console, methods: Mapping[str, Any]) -> None:
    """What each method costs, as tables."""
    networks = [(entry["variant"], f"{entry['num_parameters']:,}", cost(entry)) for entry in methods["networks"]]
    print_table(console, ("network", "parameters", "ms a step"), networks)
    sides = dict.fromkeys(entry["side"] for entry in methods["policies"])
    costs: dict[str, dict[str, str]] = {}
    for entry in methods["policies"]:
        costs.setdefault(entry["policy"], {})[entry["side"]] = cost(entry)
    rows = [(policy, *(its.get(side, "") for side in sides)) for policy, its in costs.items()]
    print_table(console, ("ms a batch", *sides), rows)
    console.print(METHODS_NOTE.format(**methods), style="dim", highlight=False)
    for what, why in methods["left_out"].items():
        console.print(f"Left out: {what}: {why}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def cost(entry: Mapping[str, Any]) -> str:
    return f"{entry['ms']:.1f} ({entry['ratio']:.2f})"


def median(name: str, rounds: Sequence[float]) -> dict[str, Any]:
    """The median, and what it is the median of."""
    return {name: round(statistics.median(rounds), 4), "rounds": [round(value, 4) for value in rounds]}


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
