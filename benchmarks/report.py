"""The figures as a person sees them in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

NOTE = (
    "Usual way: {usual_way}. Bare step: forward, backward and optimiser on one ready batch. Engine: whole epochs with "
    "augmentation and logging, without validation; packed: several processes at once, images/s together. "
    "Figures are medians of {num_rounds} rounds, ratios medians of the rounds' ratios; a matrix rate counts the "
    "network's convolutions and matrix products against the machine's best square matrix product."
)
NOTICEABLE_LOAD = 0.5


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """The report as tables."""
    machine, load = report["machine"], report["load_average_before"]
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("python", "torch", "torchvision"))
    device = "" if machine["device"] == "cpu" else f", {machine['device_name']}"
    processor = f"{machine['cpu']}, {machine['cpu_capability']}, {machine['cores']} cores{device}"
    console.print(f"\n[bold]Machine[/] {processor}; {versions}", highlight=False, soft_wrap=True)
    if load > NOTICEABLE_LOAD:
        warning = f"load average {load:.1f} before the start; figures of several threads suffer most."
        console.print(f"[yellow]Other work was under way:[/] {warning}", highlight=False, soft_wrap=True)
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
            ("side", "processes", "threads each", "images/s", "lowest to highest"),
            [(r["side"], r["processes"], r["threads"], f"{r['images_per_s']:,.0f}", span(r)) for r in network["rates"]],
        )
        print_table(
            console,
            ("ratio", "processes", "threads each", "value", "target"),
            [
                (r["ratio"], r["processes"], r["threads"], f"{r['value']:.2f}", f"{r['target'] or ''}")
                for r in network["ratios"]
            ],
        )
    console.print(NOTE.format(**report), style="dim", highlight=False)


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
