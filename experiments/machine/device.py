"""Which device trains, and in which precision: found, measured, and said aloud."""

import ctypes
import json
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from typing import Protocol as Interface

import torch
import torch.nn.functional as F

from baselines.backbones import BACKBONES
from ledger.config import Protocol
from ledger.errors import UserError
from ledger.files import write_atomically

T = TypeVar("T")


class Call(Interface):
    """Calls a function somewhere, such as on the machine that is to train."""

    def __call__(self, function: Callable[..., T], *arguments: Any) -> T: ...


def here(function: Callable[..., T], *arguments: Any) -> T:
    """Call the function on this machine."""
    return function(*arguments)


def find_device(name: str) -> str:
    """`auto` becomes cuda, mps or cpu; a named device that is not there raises UserError."""
    available = available_devices()
    if name == "auto":
        return available[0]
    if name not in available:
        raise UserError(f"device: {name!r} is not available on this machine; available: {', '.join(available)}")
    return name


def available_devices() -> tuple[str, ...]:
    """Kinds of device that this machine has, the fastest first."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return tuple(device for device, is_there in there.items() if is_there)


def device_name(device: torch.device) -> str:
    """What people call the device, such as `NVIDIA H100` or `Intel(R) Xeon(R) Processor`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """The context in which convolutions and matrix products run in the protocol's precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def train_rate(device: torch.device, precision: str, *, seconds: float = 0.5, batch_size: int = 128) -> float:
    """Images/s of the default network's training step on ready tensors."""
    torch.manual_seed(0)
    network = BACKBONES["cnn"](num_classes=10, image_px=32, in_channels=3, width=1.0)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)
    x_BCHW = torch.rand(batch_size, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels_B = torch.zeros(batch_size, dtype=torch.int64, device=device)

    def step() -> float:
        with autocast(device, precision):
            logits_BK = network(x_BCHW)
        loss = F.cross_entropy(logits_BK.float(), labels_B)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return loss.item()  # waits for the device

    step()
    start, num_steps = time.perf_counter(), 0
    while num_steps < 3 or time.perf_counter() - start < seconds:
        step()
        num_steps += 1
    return batch_size * num_steps / (time.perf_counter() - start)


def faster_precision(device: torch.device) -> str:
    """bf16 where it trains at least a tenth faster than fp32, else fp32."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers run
    rates = {precision: train_rate(device, precision) for precision in ("fp32", "bf16")}
    torch.set_num_threads(num_threads)
    return "bf16" if rates["bf16"] > 1.1 * rates["fp32"] else "fp32"


def measured_precision(device: torch.device, cache: Path, call: Call = here) -> str:
    """The faster precision on the machine that trains.

    Measured once on a kind of machine and kept in the cache here, so that studies of one machine have the same.
    """
    memory = cache / "precision.json"
    machine = f"{call(device_name, device)} torch {torch.__version__}"
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if not isinstance(known.get(machine), str):
        known[machine] = call(faster_precision, device)
        try:
            cache.mkdir(parents=True, exist_ok=True)
            write_atomically(memory, json.dumps(known, indent=1).encode())
        except OSError as error:
            message = f"{cache}: the cache cannot be written ({error.strerror})"
            raise UserError(f"{message}; set STN_BENCH_CACHE to another folder") from None
    return known[machine]


def resolve(protocol: Protocol, cache: Path, call: Call = here, settled: Protocol | None = None) -> Protocol:
    """The protocol with `auto` replaced by what the machine that trains has. Raises UserError for a missing device.

    settled: of the study that is gone on with. It takes the place of what is found, its device if the machine has one:
    another one makes other runs. Any device computes in any precision.
    """
    device, precision = call(find_device, protocol.device), protocol.precision
    if settled and protocol.device == "auto" and settled.device in call(available_devices):
        device = settled.device
    if precision == "auto":
        measured = settled.precision if settled else measured_precision(torch.device(device), cache, call)
        precision = measured  # type: ignore[assignment]
    return replace(protocol, device=device, precision=precision)  # type: ignore[arg-type]


def prepare_device(device: torch.device) -> None:
    """Settings under which a run gives the same result whatever else the machine does."""
    if device.type == "cuda":
        if device.index is not None:
            torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32; bf16 is there for speed
    else:
        torch.set_num_threads(1)
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Have glibc keep large blocks that are freed; other C libraries are left alone.

    Given back to the system and taken again, every page of every step's activations would fault anew, which costs
    up to a fifth of the time.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
            mallopt(parameter, 2**30)
