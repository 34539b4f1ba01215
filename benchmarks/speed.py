"""The comparison: the usual way, the bare step, this engine, and this engine packed, in turns on the same images."""

import dataclasses
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.engine import (
    DEFAULT,
    TUTORIAL,
    PackedWorkers,
    Workload,
    bare_rate,
    epoch_rate,
    faster_precision,
    new_network,
    random_images,
)
from benchmarks.machine import PRECISIONS, best_matrix_rate, describe, engine_settings, thread_counts
from benchmarks.usual_way import NUM_LOADERS, PilImages, PlainLeNet, plain_cnn, usual_rate
from experiments.costs import count_train_flops
from experiments.device import find_device
from experiments.errors import UserError
from experiments.executors.local import default_num_workers
from experiments.images import DeviceImages
from experiments.ledger import Ledger, to_json, write_atomically
from experiments.models.cnn_matched import count_parameters


@dataclass(frozen=True)
class Effort:
    """How long to look. seconds: of each figure in each round; the engine's takes one whole epoch at least."""

    num_rounds: int
    num_images: int
    seconds: float
    num_skipped_batches: int


FULL = Effort(num_rounds=3, num_images=6400, seconds=2.5, num_skipped_batches=16)
QUICK = Effort(num_rounds=1, num_images=640, seconds=0.2, num_skipped_batches=4)

USUAL, BARE, ENGINE, PACKED = "usual way", "bare step", "engine", "engine, packed"


@dataclass(frozen=True)
class Side:
    """One of those compared. threads: of each process."""

    name: str
    threads: int
    processes: int = 1


@dataclass(frozen=True)
class Case:
    """What is trained: by the engine as a workload, by the usual way as a plain network on images that are perhaps
    augmented. targets: what the figures are hoped to reach, by the name of the ratio."""

    workload: Workload
    plain_network: Callable[[], nn.Module]
    augmented: bool
    targets: dict[str, float]


CASES = (
    Case(
        TUTORIAL,
        PlainLeNet,
        augmented=False,
        targets={f"{ENGINE} / {USUAL}": 1.8, f"{PACKED} / {USUAL}": 3.0, f"{ENGINE} / {BARE}": 0.9},
    ),
    Case(DEFAULT, plain_cnn, augmented=True, targets={f"{ENGINE} / {BARE}": 0.9, f"{ENGINE} / bf16 matrix rate": 0.45}),
)

Rates = dict[Side, list[float]]
"""Images/s of each side, one figure a round."""
MatrixRates = dict[tuple[str, int], list[float]]
"""GFLOP/s by precision and threads, one figure a round."""


def measure(out: Path, *, quick: bool) -> int:
    """Measure, print and write as JSON. quick: a moment for each figure, to see that it works.

    Raises UserError if the file cannot be written, before anything is measured.
    """
    check_writable(out)
    console, effort, start = Console(), QUICK if quick else FULL, time.perf_counter()
    device = torch.device(find_device("auto"))
    load = os.getloadavg()[0]
    images = random_images(effort.num_images, device)
    cases = [choose_precision(case, images, effort) for case in CASES]
    matrix_rates: MatrixRates = defaultdict(list)
    rates: list[Rates] = [defaultdict(list) for _ in cases]
    counts = packed_counts(device)
    with tempfile.TemporaryDirectory(prefix="stn-bench-") as folder:
        ledger = Ledger(Path(folder))
        with PackedWorkers(device, max(counts), ledger) as workers:
            for number in range(1, effort.num_rounds + 1):
                console.print(f"round {number} of {effort.num_rounds} ...", style="dim", highlight=False)
                for precision, threads, rate in measure_matrix_products(device, effort):
                    matrix_rates[precision, threads].append(rate)
                for case, case_rates in zip(cases, rates, strict=True):
                    for side, rate in measure_round(case, images, effort, workers, counts, ledger):
                        case_rates[side].append(rate)
    report = {
        "format": 1,
        "quick": quick,
        "num_rounds": effort.num_rounds,
        "seconds": round(time.perf_counter() - start, 1),
        "load_average_before": round(load, 2),
        "machine": describe(device),
        "matrix_products": [
            {"precision": precision, "threads": threads, **summary("gflops_per_s", rounds)}
            for (precision, threads), rounds in matrix_rates.items()
        ],
        "cases": [
            case_report(case, case_rates, matrix_rates, effort) for case, case_rates in zip(cases, rates, strict=True)
        ],
    }
    write_atomically(out, to_json(report))
    print_report(console, report)
    console.print(f"Written to {out}", highlight=False, markup=False, soft_wrap=True)
    return 0


def check_writable(out: Path) -> None:
    """Raises UserError if the file cannot be written."""
    probe = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        if out.is_dir():
            raise IsADirectoryError(21, "Is a directory")
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(f"out: {out} cannot be written ({error.strerror})") from None


def packed_counts(device: torch.device) -> tuple[int, ...]:
    """Numbers of worker processes to try: up to one a core, or four a GPU."""
    most = default_num_workers(device.type, workers_per_gpu=4)
    return tuple(sorted({count for count in (1, 2, 4, most) if count <= most}))


def choose_precision(case: Case, images: DeviceImages, effort: Effort) -> Case:
    """The case in the precision that the engine is faster in here."""
    with engine_settings(images.labels_N.device, 1):
        precision = faster_precision(case.workload, images, seconds=effort.seconds / 5)
    return dataclasses.replace(case, workload=case.workload.with_precision(precision))


def measure_matrix_products(device: torch.device, effort: Effort) -> Iterator[tuple[str, int, float]]:
    """Precision, threads and GFLOP/s."""
    for threads in thread_counts(device):
        with engine_settings(device, threads):
            for precision in PRECISIONS:
                yield precision, threads, best_matrix_rate(device, precision, seconds=effort.seconds / 5)


def measure_round(
    case: Case, images: DeviceImages, effort: Effort, workers: PackedWorkers, counts: Sequence[int], ledger: Ledger
) -> Iterator[tuple[Side, float]]:
    """Each side once, with its images/s."""
    workload, device = case.workload, images.labels_N.device
    arrays = images.pixels_NHWC.cpu().numpy(), images.labels_N.cpu().numpy()
    yield (
        Side(USUAL, torch.get_num_threads()),
        usual_rate(
            case.plain_network(),
            PilImages(*arrays, augmented=case.augmented),
            workload.protocol,
            workload.optim,
            device,
            seconds=effort.seconds,
            num_skipped_batches=effort.num_skipped_batches,
        ),
    )
    epochs_of_workers = 0
    for threads in thread_counts(device):
        with engine_settings(device, threads):
            rate = bare_rate(workload, images, seconds=effort.seconds)
            yield Side(BARE, threads), rate
            epochs = max(1, round(effort.seconds * rate / len(images)))
            epochs_of_workers = epochs_of_workers or epochs
            yield Side(ENGINE, threads), epoch_rate(workload, images, epochs, ledger)
    for count in counts:
        rate = workers.rate(workload, len(images), epochs_of_workers, count)
        yield Side(PACKED, thread_counts(device)[0], count), rate


def summary(name: str, rounds: Sequence[float]) -> dict[str, Any]:
    """The median, and what it is the median of."""
    return {name: round(statistics.median(rounds), 4), "rounds": [round(value, 4) for value in rounds]}


def case_report(case: Case, rates: Rates, matrix_rates: MatrixRates, effort: Effort) -> dict[str, Any]:
    """What the JSON says of a case. Each ratio is the median of the rounds' own ratios: drift hits both its sides."""
    workload = case.workload
    network = new_network(workload, torch.device("cpu"))
    flops = count_train_flops(network, workload.protocol.image_px)
    return {
        "name": workload.name,
        "variant": workload.variant,
        "batch_size": workload.protocol.batch_size,
        "precision": workload.protocol.precision,
        "usual_way": f"fp32, {NUM_LOADERS} loader processes, {effort.num_skipped_batches} first batches not timed",
        "num_images": effort.num_images,
        "num_parameters": count_parameters(network),
        "train_flops_per_image": flops,
        "rates": [
            {"side": side.name, "processes": side.processes, "threads": side.threads, **summary("images_per_s", rounds)}
            for side, rounds in rates.items()
        ],
        "ratios": [
            {
                "ratio": ratio,
                "processes": side.processes,
                "threads": side.threads,
                **summary("value", values),
                "target": case.targets.get(ratio),
            }
            for ratio, side, values in ratios(rates, matrix_rates, flops)
        ],
    }


def ratios(rates: Rates, matrix_rates: MatrixRates, flops: float) -> Iterator[tuple[str, Side, list[float]]]:
    """Name, the engine's side in it, and the value in each round.

    flops: of an image. One thread is held against the matrix products of one thread, several processes against
    those of all threads.
    """

    def over(values: Sequence[float], others: Sequence[float], factor: float = 1.0) -> list[float]:
        return [factor * value / other for value, other in zip(values, others, strict=True)]

    most_threads = max(threads for _, threads in matrix_rates)
    usual = next(values for side, values in rates.items() if side.name == USUAL)
    for side, values in rates.items():
        if side.name in (ENGINE, PACKED):
            yield f"{side.name} / {USUAL}", side, over(values, usual)
    for side, values in rates.items():
        if side.name == ENGINE:
            yield f"{side.name} / {BARE}", side, over(values, rates[Side(BARE, side.threads)])
    for precision in PRECISIONS:
        for side, values in rates.items():
            if side.name in (ENGINE, PACKED):
                threads = side.threads if side.processes == 1 else most_threads
                share = over(values, matrix_rates[precision, threads], flops / 1e9)
                yield f"{side.name} / {precision} matrix rate", side, share


def print_report(console: Console, report: dict[str, Any]) -> None:
    """The figures as tables."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("python", "torch", "torchvision"))
    device = "" if machine["device"] == "cpu" else f" and {machine['device_name']}"
    console.print(
        f"\n[bold]Machine[/] {machine['cpu']} ({machine['cpu_capability']}), {machine['cores']} cores{device}; {versions}",
        highlight=False,
    )
    if report["load_average_before"] > 0.5:
        console.print(
            f"[yellow]Other work[/] was under way: load average {report['load_average_before']:.1f} before the start. "
            "Figures of several threads suffer most.",
            highlight=False,
        )
    print_rows(
        console,
        "Matrix products",
        ("precision", "threads", "GFLOP/s", "lowest to highest"),
        [(r["precision"], r["threads"], f"{r['gflops_per_s']:,.0f}", span(r)) for r in report["matrix_products"]],
    )
    for case in report["cases"]:
        print_rows(
            console,
            f"{case['name']}: {case['variant']}, batch {case['batch_size']}, {case['precision']}, "
            f"{case['num_parameters']:,} parameters, {case['train_flops_per_image'] / 1e6:.1f} MFLOP an image",
            ("side", "processes", "threads", "images/s", "lowest to highest"),
            [
                (rate["side"], rate["processes"], rate["threads"], f"{rate['images_per_s']:,.0f}", span(rate))
                for rate in case["rates"]
            ],
        )
        print_rows(
            console,
            "",
            ("ratio", "processes", "threads", "value", "target"),
            [
                (
                    ratio["ratio"],
                    ratio["processes"],
                    ratio["threads"],
                    f"{ratio['value']:.2f}",
                    "" if ratio["target"] is None else f"{ratio['target']:.2f}",
                )
                for ratio in case["ratios"]
            ],
        )
    console.print(
        "The usual way: PIL images and torchvision transforms one by one, a DataLoader with "
        f"{NUM_LOADERS} processes, fp32, default threads; its start is not timed. The bare step: forward, backward and "
        "optimiser on one ready batch. The engine: whole epochs with augmentation and logging, no validation. "
        "Figures are medians of the rounds, ratios medians of the rounds' ratios.",
        style="dim",
        highlight=False,
    )


def span(figure: dict[str, Any]) -> str:
    return f"{min(figure['rounds']):,.0f} to {max(figure['rounds']):,.0f}"


def print_rows(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table: the first column to the left, the rest to the right."""
    if title:
        console.print(f"\n[bold]{title}[/]", highlight=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)
