"""The comparison: the usual way, the bare step and this engine, in turns on the same images; then every method."""

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks import methods
from benchmarks.engine import Engine, epoch_rate, new_network
from benchmarks.machine import PRECISIONS, describe, thread_counts
from benchmarks.remote import Remote
from benchmarks.report import median, print_report
from benchmarks.usual_way import NUM_LOADERS, UsualWay
from benchmarks.workloads import WORKLOADS, Workload
from experiments.machine.device import find_device
from experiments.networks.models.cnn_matched import count_parameters
from experiments.runs.costs import count_train_flops
from experiments.sweep.executors.local import default_num_workers, devices_of_workers
from ledger.errors import UserError, remedy
from ledger.files import to_json, write_atomically

REPORT_FORMAT = 1
WORKERS_PER_GPU = 4
USUAL, BARE, ENGINE, PACKED = "usual way", "bare step", "engine", "engine, packed"


@dataclass(frozen=True)
class Effort:
    """How long to look. seconds: of each figure in each round; the engine's takes one whole epoch at least."""

    num_rounds: int
    num_images: int
    seconds: float
    num_skipped_batches: int


FULL = Effort(num_rounds=3, num_images=6400, seconds=2.5, num_skipped_batches=16)
QUICK = Effort(num_rounds=1, num_images=384, seconds=0.1, num_skipped_batches=2)


@dataclass(frozen=True)
class Side:
    """One of those compared. threads: of each process."""

    name: str
    processes: int
    threads: int


Rates = dict[Side, list[float]]
"""Images/s of each side, a figure for each round."""
MatrixRates = dict[tuple[str, int], list[float]]
"""GFLOP/s by precision and threads, a figure for each round."""


def measure(out: Path, *, quick: bool) -> int:
    """Measure, print, and write as JSON. quick: a moment for each figure, to see that it works.

    Raises UserError if the file cannot be written, before anything is measured.
    """
    check_writable(out)
    console, effort = Console(), QUICK if quick else FULL
    device = torch.device(find_device("auto"))
    load = os.getloadavg()[0]
    start = time.perf_counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stn-bench-")))
        usual = stack.enter_context(Remote(UsualWay, device, effort.num_images))
        engines = [
            stack.enter_context(Remote(Engine, worker_device, effort.num_images, folder))
            for worker_device in devices_of_workers(device.type, max(packed_counts(device), default=1))
        ]
        sides = Sides(device, effort, usual, engines)
        workloads = [sides.in_faster_precision(workload) for workload in WORKLOADS]
        matrix_rates: MatrixRates = defaultdict(list)
        rates: list[Rates] = [defaultdict(list) for _ in workloads]
        for number in range(effort.num_rounds):
            console.print(f"round {number + 1} of {effort.num_rounds} ...", style="dim", highlight=False)
            for key, rate in sides.matrix_products():
                matrix_rates[key].append(rate)
            for workload, its_rates in zip(workloads, rates, strict=True):
                for side, rate in sides.train(workload):
                    its_rates[side].append(rate)
    its_effort = methods.QUICK if quick else methods.FULL
    its_methods = methods.measure_methods(device, workloads[-1].protocol, its_effort, console)
    report = {
        "format": REPORT_FORMAT,
        "quick": quick,
        "num_rounds": effort.num_rounds,
        "num_images": effort.num_images,
        "seconds": round(time.perf_counter() - start, 1),
        "load_average_before": round(load, 2),
        "machine": describe(device),
        "matrix_products": [
            {"precision": precision, "threads": threads, **median("gflops_per_s", rounds)}
            for (precision, threads), rounds in matrix_rates.items()
        ],
        "usual_way": f"PIL images, torchvision transforms, DataLoader with {NUM_LOADERS} processes, SGD, fp32; "
        f"the first {effort.num_skipped_batches} batches are not timed",
        "networks": [
            network_report(workload, its_rates, matrix_rates)
            for workload, its_rates in zip(workloads, rates, strict=True)
        ],
        "methods": its_methods,
    }
    print_report(console, report)
    write_atomically(out, to_json(report))
    console.print(f"Written to {out}", highlight=False, markup=False, soft_wrap=True)
    return 0


def check_writable(out: Path) -> None:
    """Raises UserError if the file cannot be written."""
    try:
        if out.is_dir():  # such as `.`, which has no name
            raise IsADirectoryError(0, "it is a folder")
        probe = out.with_name(f".{out.name}.{os.getpid()}")
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(f"out: {out} cannot be written ({error.strerror}){remedy(error)}") from None


def packed_counts(device: torch.device) -> tuple[int, ...]:
    """Numbers of worker processes to try at once, up to one a core or a few a GPU."""
    most = default_num_workers(device.type, WORKERS_PER_GPU)
    return tuple(sorted({count for count in (2, 4, most) if 1 < count <= most}))


@dataclass(frozen=True)
class Sides:
    """Those compared, each in its own processes.

    engines: as many as are packed at most. They wait while others are timed.
    """

    device: torch.device
    effort: Effort
    usual: Remote
    engines: Sequence[Remote]

    def __post_init__(self) -> None:
        for process in (self.usual, *self.engines):
            process.call("ready")

    def set_threads(self, threads: int) -> None:
        if self.device.type == "cpu":
            self.engines[0].call("set_threads", threads)

    def in_faster_precision(self, workload: Workload) -> Workload:
        """In bf16 where the bare step gains a tenth from it, else in fp32: the rule that `auto` goes by."""
        fp32, bf16 = workload.with_precision("fp32"), workload.with_precision("bf16")
        rates = [self.engines[0].call("bare_rate", each, self.effort.seconds / 5) for each in (fp32, bf16)]
        return bf16 if rates[1] > 1.1 * rates[0] else fp32

    def matrix_products(self) -> Iterator[tuple[tuple[str, int], float]]:
        """Precision and threads, and GFLOP/s."""
        for threads in thread_counts(self.device):
            self.set_threads(threads)
            for precision in PRECISIONS:
                yield (precision, threads), self.engines[0].call("matrix_rate", precision, self.effort.seconds / 5)

    def train(self, workload: Workload) -> Iterator[tuple[Side, float]]:
        """Each side once, and its images/s."""
        effort, num_images = self.effort, self.effort.num_images
        rate = self.usual.call("rate", workload, effort.seconds, effort.num_skipped_batches)
        yield Side(USUAL, 1, self.usual.call("num_threads")), rate
        few, *more = thread_counts(self.device)
        epochs = {}
        for threads in (few, *more):
            self.set_threads(threads)
            rate = self.engines[0].call("bare_rate", workload, effort.seconds)
            yield Side(BARE, 1, threads), rate
            epochs[threads] = max(1, round(effort.seconds * rate / num_images))
            yield Side(ENGINE, 1, threads), epoch_rate(self.engines[:1], workload, num_images, epochs[threads])
        self.set_threads(few)
        for count in packed_counts(self.device):
            yield Side(PACKED, count, few), epoch_rate(self.engines[:count], workload, num_images, epochs[few])


def network_report(workload: Workload, rates: Rates, matrix_rates: MatrixRates) -> dict[str, Any]:
    """What the JSON says of a network. A ratio is the median of the rounds' ratios: drift hits both its sides."""
    network = new_network(workload, torch.device("cpu"))
    flops = count_train_flops(network, workload.protocol.image_px)
    most = max(side.processes for side in rates)
    return {
        "name": workload.name,
        "variant": workload.variant,
        "batch_size": workload.protocol.batch_size,
        "precision": workload.protocol.precision,
        "num_parameters": count_parameters(network),
        "train_flops_per_image": flops,
        "rates": [
            {"side": side.name, "processes": side.processes, "threads": side.threads, **median("images_per_s", rounds)}
            for side, rounds in rates.items()
        ],
        "ratios": [
            {
                "ratio": name,
                "processes": side.processes,
                "threads": side.threads,
                **median("value", values),
                "target": workload.targets.get(name) if side.processes in (1, most) else None,
            }
            for name, side, values in ratios(rates, matrix_rates, flops)
        ],
    }


def ratios(rates: Rates, matrix_rates: MatrixRates, flops: float) -> Iterator[tuple[str, Side, list[float]]]:
    """Name, the engine's side in it, and the value in each round.

    flops: of one image. One process is held against the matrix products of its threads, several against those of
    all threads.
    """
    usual = next(rounds for side, rounds in rates.items() if side.name == USUAL)
    engine = {side: rounds for side, rounds in rates.items() if side.name in (ENGINE, PACKED)}
    for side, rounds in engine.items():
        yield f"{side.name} / {USUAL}", side, [a / b for a, b in zip(rounds, usual, strict=True)]
    for side, rounds in engine.items():
        bare = rates.get(Side(BARE, side.processes, side.threads))
        if bare is not None:
            yield f"{side.name} / {BARE}", side, [a / b for a, b in zip(rounds, bare, strict=True)]
    most_threads = max(threads for _, threads in matrix_rates)
    for precision in PRECISIONS:
        for side, rounds in engine.items():
            matrix = matrix_rates[precision, side.threads if side.processes == 1 else most_threads]
            share = [flops * a / (1e9 * b) for a, b in zip(rounds, matrix, strict=True)]
            yield f"{side.name} / {precision} matrix rate", side, share
