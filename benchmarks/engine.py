"""The engine's side: the bare step that bounds it, its own epochs, and several worker processes at once.

Legend: N images, B images of a batch, C channels, H rows, W columns.
"""

import dataclasses
import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

import torch
from torch import nn

from benchmarks.machine import wait_for
from experiments.config import Optim, Protocol, RunConfig
from experiments.device import autocast
from experiments.executors.local import devices_of_workers, prepare_device
from experiments.images import DeviceImages
from experiments.ledger import Ledger
from experiments.training import Row, parameter_groups, train
from experiments.variants import Network, build_model_recipe, build_network, build_policy, parse_variant

NUM_CLASSES = 10
NUM_WARM_BATCHES = 3


@dataclass(frozen=True)
class Workload:
    """What both sides train. Its protocol holds no images out: validation is not timed."""

    name: str
    variant: str
    protocol: Protocol
    optim: Optim

    def with_precision(self, precision: str) -> "Workload":
        return dataclasses.replace(self, protocol=dataclasses.replace(self.protocol, precision=precision))

    def run(self, epochs: int) -> RunConfig:
        protocol = dataclasses.replace(self.protocol, epochs=epochs)
        return RunConfig(variant=self.variant, protocol=protocol, optim=self.optim)


TUTORIAL = Workload(
    "PyTorch's tutorial network",
    "stn_affine@lenet",
    Protocol(val_images=0, batch_size=64, momentum=0.0, nesterov=False, schedule="constant", label_smoothing=0.0),
    Optim(lr=0.01, weight_decay=0.0),
)
DEFAULT = Workload("default network", "cnn+flip_crop", Protocol(val_images=0), Optim())


def random_images(num_images: int, device: torch.device) -> DeviceImages:
    """Noise of 32x32 pixels, always the same: speed does not depend on what is in the pictures."""
    generator = torch.Generator().manual_seed(0)
    pixels_NHWC = torch.randint(0, 256, (num_images, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels_N = torch.randint(0, NUM_CLASSES, (num_images,), generator=generator)
    return DeviceImages(pixels_NHWC.to(device), labels_N.to(device))


def new_network(workload: Workload, device: torch.device) -> Network:
    """The workload's network as a run builds it."""
    variant = parse_variant(workload.variant)
    network = build_network(
        variant,
        build_model_recipe(variant, {}),
        num_classes=NUM_CLASSES,
        image_px=workload.protocol.image_px,
        mean_C=torch.full((3,), 0.5),
        std_C=torch.full((3,), 0.25),
        seed=0,
    )
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def bare_rate(workload: Workload, images: DeviceImages, *, seconds: float) -> float:
    """Images/s of forward pass, backward pass and optimiser step on one batch that is ready in memory."""
    protocol, device = workload.protocol, images.labels_N.device
    network = new_network(workload, device).train()
    optimiser = torch.optim.SGD(
        parameter_groups(network, workload.optim, {}),
        momentum=protocol.momentum,
        nesterov=protocol.nesterov,
        fused=True,
    )
    loss_function = nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing)
    index_B = torch.arange(protocol.batch_size, device=device)
    x_BCHW, labels_B = images.batch(index_B).contiguous(memory_format=torch.channels_last), images.labels_N[index_B]

    def step() -> None:
        with autocast(device, protocol.precision):
            logits_BK = network(x_BCHW).float()
        loss = loss_function(logits_BK, labels_B)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    for _ in range(NUM_WARM_BATCHES):
        step()
    wait_for(device)
    start, num_steps = time.perf_counter(), 0
    while num_steps == 0 or time.perf_counter() - start < seconds:
        for _ in range(4):  # a GPU runs behind its queue: waiting after each step would starve it
            step()
        num_steps += 4
        wait_for(device)
    return protocol.batch_size * num_steps / (time.perf_counter() - start)


def faster_precision(workload: Workload, images: DeviceImages, *, seconds: float) -> str:
    """bf16 where the bare step gains a tenth from it, by the rule that `auto` goes by."""
    rates = {
        precision: bare_rate(workload.with_precision(precision), images, seconds=seconds)
        for precision in ("fp32", "bf16")
    }
    return "bf16" if rates["bf16"] > 1.1 * rates["fp32"] else "fp32"


def ready_to_train(workload: Workload, images: DeviceImages, epochs: int, ledger: Ledger) -> Callable[[], None]:
    """A new network, warmed up on a few batches; the function returned trains it, as a worker does it."""
    policy = build_policy(parse_variant(workload.variant), {})
    device = images.labels_N.device
    network = new_network(workload, device)
    key = f"bench-{multiprocessing.current_process().pid}"

    def mark(row: Row) -> None:
        ledger.mark_running(key, {"variant": workload.variant, "epochs": epochs, **row})

    def go(some: DeviceImages, epochs: int) -> None:
        status = train(network, policy, some, None, workload.run(epochs), {}, mark)
        if status != "completed":
            raise RuntimeError(f"{workload.name}: training {status}")
        wait_for(device)

    go(images.subset(torch.arange(NUM_WARM_BATCHES * workload.protocol.batch_size, device=device)), 1)
    return lambda: go(images, epochs)


def epoch_rate(workload: Workload, images: DeviceImages, epochs: int, ledger: Ledger) -> float:
    """Images/s of whole epochs of the engine in this process: gathering, augmentation and logging included."""
    go = ready_to_train(workload, images, epochs, ledger)
    start = time.perf_counter()
    go()
    return len(images) * epochs / (time.perf_counter() - start)


def work(connection: Connection, device: torch.device, ledger_root: Path) -> None:
    """A worker process: on each message it makes itself ready, says so, waits for a word, trains, and says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    prepare_device(device)
    ledger = Ledger(ledger_root)
    try:
        while True:
            workload, num_images, epochs = connection.recv()
            go = ready_to_train(workload, random_images(num_images, device), epochs, ledger)
            connection.send("ready")
            connection.recv()
            go()
            connection.send("done")
    except (EOFError, BrokenPipeError):
        return  # the parent has gone, or needs no more


class PackedWorkers:
    """Worker processes as the local executor starts them, one thread each on a CPU. Use as a context manager."""

    def __init__(self, device: torch.device, num_workers: int, ledger: Ledger) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.connections: list[Connection] = []
        self.processes = []
        for worker_device in devices_of_workers(device.type, num_workers):
            mine, theirs = spawn.Pipe()
            process = spawn.Process(target=work, args=(theirs, worker_device, ledger.root), daemon=True)
            process.start()
            theirs.close()
            self.connections.append(mine)
            self.processes.append(process)

    def rate(self, workload: Workload, num_images: int, epochs: int, num_workers: int) -> float:
        """Images/s of so many workers together, from their common start until the last has finished."""
        connections = self.connections[:num_workers]
        try:
            for connection in connections:
                connection.send((workload, num_images, epochs))
            for connection in connections:
                connection.recv()
            start = time.perf_counter()
            for connection in connections:
                connection.send("go")
            for connection in connections:
                connection.recv()
        except (EOFError, BrokenPipeError):
            raise RuntimeError("a worker process of the benchmark ended early") from None
        return num_workers * num_images * epochs / (time.perf_counter() - start)

    def __enter__(self) -> "PackedWorkers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self.connections:
            connection.close()
        for process in self.processes:
            if error is not None:
                process.kill()
            process.join()
