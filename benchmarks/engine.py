"""The engine's side: the bare step that bounds it, and its own epochs, in one process or in several at once.

Legend: N images, B images of a batch, C channels, H rows, W columns, K classes.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from benchmarks.machine import best_matrix_rate, wait_for
from benchmarks.remote import Remote
from benchmarks.workloads import NUM_CLASSES, Workload, random_images
from experiments.machine.device import autocast, prepare_device
from experiments.networks.network import Batch, Network
from experiments.networks.variants import assemble, build_policy, parse_variant
from experiments.runs.images import DeviceImages
from experiments.runs.optimiser import Optimiser
from experiments.runs.training import Row, train
from ledger.ledger import Ledger

NUM_WARM_BATCHES = 3


def new_network(workload: Workload, device: torch.device) -> Network:
    """The workload's network as a run builds it."""
    network = assemble(workload.run(1), NUM_CLASSES, torch.full((3,), 0.5), torch.full((3,), 0.25))
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


class Engine:
    """Everything that is timed on the engine's side, as it runs in a worker process.

    ledger_root: folder of a ledger, where runs in progress are marked.
    """

    def __init__(self, device: torch.device, num_images: int, ledger_root: Path) -> None:
        prepare_device(device)
        self.device = device
        self.images = random_images(num_images, device)
        self.ledger = Ledger(ledger_root)
        self._go: Callable[[], None] = lambda: None

    def ready(self) -> None:
        """Returns once the process is up."""

    def set_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def matrix_rate(self, precision: str, seconds: float) -> float:
        return best_matrix_rate(self.device, precision, seconds=seconds)

    def bare_rate(self, workload: Workload, seconds: float) -> float:
        """Images/s of forward pass, backward pass and optimiser step on one batch that is ready in memory."""
        protocol, device = workload.protocol, self.device
        network = new_network(workload, device).train()
        optimiser = Optimiser(network, protocol, workload.optim, {})
        loss_function = nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing)
        index_B = torch.arange(protocol.batch_size, device=device) % len(self.images)
        batch, labels_B = Batch.of(self.images.raw(index_B)), self.images.labels_N[index_B]

        def steps(number: int) -> None:
            for _ in range(number):
                with autocast(device, protocol.precision):
                    logits_BK = network(batch).float()
                loss = loss_function(logits_BK, labels_B)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            wait_for(device)

        steps(NUM_WARM_BATCHES)
        start, num_steps = time.perf_counter(), 0
        while num_steps == 0 or time.perf_counter() - start < seconds:
            steps(4)  # waiting after each one would starve a GPU, which runs behind its queue
            num_steps += 4
        return protocol.batch_size * num_steps / (time.perf_counter() - start)

    def prepare(self, workload: Workload, epochs: int) -> None:
        """Build a network and warm up on a few batches; `go` then trains it for so many epochs."""
        policy = build_policy(parse_variant(workload.variant), {})
        network = new_network(workload, self.device)
        num_warm = min(NUM_WARM_BATCHES * workload.protocol.batch_size, len(self.images))
        warm_N = torch.arange(num_warm, device=self.device)

        def mark(row: Row) -> None:
            progress = {"variant": workload.variant, "epochs": epochs, **row}
            self.ledger.mark_running(f"bench-{os.getpid()}", progress)

        def go(images: DeviceImages, epochs: int) -> None:
            status = train(network, policy, images, None, workload.run(epochs), mark)
            if status != "completed":
                raise RuntimeError(f"{workload.name}: training {status}")
            wait_for(self.device)

        go(self.images.subset(warm_N), 1)
        self._go = lambda: go(self.images, epochs)

    def go(self) -> None:
        """Whole epochs as a run makes them: gathering, augmentation and logging included, no validation."""
        self._go()


def epoch_rate(engines: Sequence[Remote], workload: Workload, num_images: int, epochs: int) -> float:
    """Images/s of engines that train at once, together, from their common start until the last has finished."""
    for engine in engines:
        engine.send("prepare", workload, epochs)
    for engine in engines:
        engine.receive()
    start = time.perf_counter()
    for engine in engines:
        engine.send("go")
    for engine in engines:
        engine.receive()
    return len(engines) * num_images * epochs / (time.perf_counter() - start)
