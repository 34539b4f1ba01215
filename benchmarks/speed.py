"""The comparison: the usual way, the bare step and this engine, in turns on the same images; then every method."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine import Engine, epoch_rate, new_network
from benchmarks.machine import PRECISIONS, thread_counts
from benchmarks.methods import measure_methods
from benchmarks.remote import Remote, call_all
from benchmarks.report import Measurement, median, print_note, print_report
from benchmarks.usual_way import NUM_LOADERS, UsualWay
from benchmarks.workloads import FULL, QUICK, WORKLOADS, Effort, Workload
from experiments.machine.device import find_device
from experiments.networks.network import count_parameters
from experiments.runs.costs import count_train_flops
from experiments.sweep.executors.local import default_num_workers, devices_of_workers

WORKERS_PER_GPU = 4
USUAL, BARE, ENGINE, PACKED = "usual way", "bare step", "engine", "engine, packed"


@dataclass(frozen=True)
class Side:
    """One of those compared. side: its name. threads: of each process."""

    side: str
    processes: int
    threads: int


Rates = Mapping[Side, list[float]]
"""Images/s of each side, a figure for each round."""
MatrixRates = Mapping[tuple[str, int], list[float]]
"""GFLOP/s by precision and threads, a figure for each round."""


def measure(out: Path, *, quick: bool) -> int:
    """Measure, print, and write as JSON. quick: a moment for each figure, to see that it works.

    Raises UserError if the file cannot be written, before anything is measured.
    """
    measurement, effort = Measurement(out, quick=quick), QUICK if quick else FULL
    console, device = measurement.console, torch.device(find_device("auto"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stn-bench-")))
        usual = stack.enter_context(Remote(UsualWay, device, effort.num_images))
        engines = [
            stack.enter_context(Remote(Engine, worker_device, effort.num_images, folder))
            for worker_device in devices_of_workers(device.type, max(packed_counts(device), default=1))
        ]
        call_all([usual, *engines], "ready")
        sides = Sides(device, effort, usual, engines)
        matrix_rates = defaultdict[tuple[str, int], list[float]](list)
        rates = [(sides.in_faster_precision(workload), defaultdict[Side, list[float]](list)) for workload in WORKLOADS]
        for number in range(effort.num_rounds):
            print_note(console, f"round {number + 1} of {effort.num_rounds} ...")
            for key, rate in sides.matrix_products():
                matrix_rates[key].append(rate)
            for workload, of_workload in rates:
                for side, rate in sides.train(workload):
                    of_workload[side].append(rate)
    methods = measure_methods(device, rates[-1][0].protocol, effort, console)
    measurement.finish(
        print_report,
        device,
        {"num_rounds": effort.num_rounds, "num_images": effort.num_images},
        {
            "matrix_products": [
                {"precision": precision, "threads": threads, **median("gflops_per_s", rounds)}
                for (precision, threads), rounds in matrix_rates.items()
            ],
            "usual_way": f"PIL images, torchvision transforms, DataLoader with {NUM_LOADERS} processes, SGD, fp32; "
            f"the first {effort.num_skipped_batches} batches are not timed",
            "networks": [network_report(*of_workload, matrix_rates) for of_workload in rates],
            "methods": methods,
        },
    )
    console.print(f"Written to {out}", highlight=False, markup=False, soft_wrap=True)
    return 0


def packed_counts(device: torch.device) -> tuple[int, ...]:
    """Numbers of worker processes to try at once, up to one a core or a few a GPU."""
    most = default_num_workers(device.type, WORKERS_PER_GPU)
    return tuple(sorted({count for count in (2, 4, most) if 1 < count <= most}))


@dataclass(frozen=True)
class Sides:
    """The sides of the comparison, each in its own processes. engines: as many as are packed at most."""

    device: torch.device
    effort: Effort
    usual: Remote
    engines: Sequence[Remote]

    def set_threads(self, threads: int) -> None:
        if self.device.type == "cpu":
            self.engines[0].call("set_threads", threads)

    def in_faster_precision(self, workload: Workload) -> Workload:
        """In bf16 where the bare step gains a tenth from it, else in fp32: the rule that `auto` goes by."""
        fp32, bf16 = workload.with_precision("fp32"), workload.with_precision("bf16")
        rates = [self.engines[0].call("bare_rate", side, self.effort.seconds / 5) for side in (fp32, bf16)]
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
        "rates": [{**asdict(side), **median("images_per_s", rounds)} for side, rounds in rates.items()],
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
    usual = next(rounds for side, rounds in rates.items() if side.side == USUAL)
    engine = {side: rounds for side, rounds in rates.items() if side.side in (ENGINE, PACKED)}
    for side, rounds in engine.items():
        yield f"{side.side} / {USUAL}", side, [a / b for a, b in zip(rounds, usual, strict=True)]
    for side, rounds in engine.items():
        bare = rates.get(Side(BARE, side.processes, side.threads))
        if bare is not None:
            yield f"{side.side} / {BARE}", side, [a / b for a, b in zip(rounds, bare, strict=True)]
    most_threads = max(threads for _, threads in matrix_rates)
    for precision in PRECISIONS:
        for side, rounds in engine.items():
            matrix = matrix_rates[precision, side.threads if side.processes == 1 else most_threads]
            share = [flops * a / (1e9 * b) for a, b in zip(rounds, matrix, strict=True)]
            yield f"{side.side} / {precision} matrix rate", side, share
