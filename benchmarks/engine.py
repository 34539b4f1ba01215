"""The engine's side: the bare step that bounds it, and its own epochs, in one process or in several at once.

Legend: B images of a batch, K uniform numbers an image, X logits.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.machine import matrix_rate, mean_seconds, wait_for
from benchmarks.remote import Remote, call_all
from benchmarks.workloads import NUM_CLASSES, Workload, random_images
from experiments.images.draws import uniform
from experiments.machine.device import autocast, prepare_device
from experiments.networks.network import Batch, Network
from experiments.networks.variants import assemble, build_model, build_policy, parse_variant
from experiments.runs.images import DeviceImages
from experiments.runs.optimiser import Optimiser
from experiments.runs.training import Row, train
from ledger.ledger import Ledger

NUM_WARM_BATCHES = 3


def new_network(workload: Workload, device: torch.device) -> Network:
    """The workload's network as a run builds it."""
    network = assemble(workload.run(1), NUM_CLASSES, torch.full((3,), 0.5), torch.full((3,), 0.25))
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def training_step(workload: Workload, images: DeviceImages) -> Callable[[], None]:
    """Forward pass, backward pass and optimiser step of a new network, on one batch that is ready in memory."""
    protocol, device = workload.protocol, images.labels_N.device
    network = new_network(workload, device).train()
    model = build_model(parse_variant(workload.variant), {})
    optimiser = Optimiser(network, protocol, workload.optim, model.lr_factors())
    loss_function = nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing)
    batch, labels_B = ready_batch(network, protocol.batch_size, images, progress=0.5)

    def step() -> None:
        with autocast(device, protocol.precision):
            logits_BX, penalty = network.logits_and_penalty(batch)
        loss = loss_function(logits_BX.float(), labels_B)
        optimiser.zero_grad()
        (loss if penalty is None else loss + penalty).backward()
        optimiser.step()

    return step


def prediction(workload: Workload, images: DeviceImages) -> Callable[[], Tensor]:
    """Logits of a new network for one batch that is ready in memory, as when it is tested: no gradients."""
    protocol, device = workload.protocol, images.labels_N.device
    network = new_network(workload, device).eval()
    batch, _ = ready_batch(network, protocol.batch_size, images, progress=1.0)

    @torch.inference_mode()
    def predict() -> Tensor:
        with autocast(device, protocol.precision):
            return network(batch)

    return predict


def ready_batch(network: Network, size: int, images: DeviceImages, progress: float) -> tuple[Batch, Tensor]:
    """A batch for the network, and the labels of its images."""
    index_B = torch.arange(size, device=images.labels_N.device) % len(images)
    u_BK = uniform(index_B, network.num_draws, seed=0, epoch=1, purpose="model")
    labels_B = images.labels_N[index_B]
    return Batch(images.raw(index_B), images.poses[index_B], u_BK, progress, labels_B), labels_B


class Engine:
    """Everything that is timed on the engine's side, as it runs in a worker process.

    ledger_root: folder of a ledger, where runs in progress are marked.
    """

    def __init__(self, device: torch.device, num_images: int, ledger_root: Path) -> None:
        prepare_device(device)
        self.device, self.images, self.ledger = device, random_images(num_images, device), Ledger(ledger_root)
        self._go: Callable[[], None] = lambda: None

    def ready(self) -> None:
        """Returns once the process is up."""

    def set_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def matrix_rate(self, precision: str, seconds: float) -> float:
        return matrix_rate(self.device, precision, seconds=seconds)

    def bare_rate(self, workload: Workload, seconds: float) -> float:
        """Images/s of the training step alone."""
        step = training_step(workload, self.images)
        for _ in range(NUM_WARM_BATCHES):
            step()
        # Waiting after each one would starve a GPU, which runs behind its queue.
        return workload.protocol.batch_size / mean_seconds(step, self.device, seconds, between_waits=4)

    def prepare(self, workload: Workload, epochs: int) -> None:
        """Build a network and warm up on a few batches; `go` then trains it for so many epochs."""
        policy = build_policy(parse_variant(workload.variant), {})
        network = new_network(workload, self.device)
        num_warm = min(NUM_WARM_BATCHES * workload.protocol.batch_size, len(self.images))

        def mark(row: Row) -> None:
            progress = {"variant": workload.variant, "epochs": epochs, **row}
            self.ledger.mark_running(f"bench-{os.getpid()}", progress)

        def go(images: DeviceImages, epochs: int) -> None:
            status = train(network, policy, images, None, workload.run(epochs), mark)
            if status != "completed":
                raise RuntimeError(f"{workload.name}: training {status}")
            wait_for(self.device)

        go(self.images.subset(torch.arange(num_warm, device=self.device)), 1)
        self._go = lambda: go(self.images, epochs)

    def go(self) -> None:
        """Whole epochs as a run makes them: gathering, augmentation and logging included, no validation."""
        self._go()


def epoch_rate(engines: Sequence[Remote], workload: Workload, num_images: int, epochs: int) -> float:
    """Images/s of engines that train at once, together, from their common start until the last has finished."""
    call_all(engines, "prepare", workload, epochs)
    start = time.perf_counter()
    call_all(engines, "go")
    return len(engines) * num_images * epochs / (time.perf_counter() - start)
