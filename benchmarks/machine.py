"""What this machine can do at best: the rate of dense matrix products."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from experiments.machine.cores import num_cores
from experiments.machine.device import device_name
from experiments.runs.costs import environment

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def describe(device: torch.device) -> dict[str, Any]:
    """The machine as a run's cost.json has it, with the processor beside the device."""
    processor = {"cpu": device_name(torch.device("cpu")), "cpu_capability": torch.backends.cpu.get_cpu_capability()}
    return {**environment(device), **processor}


def thread_counts(device: torch.device) -> tuple[int, ...]:
    """One thread and one for each core on a CPU; elsewhere threads do not compute, and stay as they are."""
    if device.type != "cpu":
        return (torch.get_num_threads(),)
    return tuple(sorted({1, num_cores()}))


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given; a CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def mean_seconds(call: Callable[[], object], device: torch.device, at_least: float, *, between_waits: int = 1) -> float:
    """Seconds of one call, the mean of as many as take so long; the device is waited for after so many at a time."""
    wait_for(device)
    start, num_calls = time.perf_counter(), 0
    while num_calls == 0 or time.perf_counter() - start < at_least:
        for _ in range(between_waits):
            call()
        wait_for(device)
        num_calls += between_waits
    return (time.perf_counter() - start) / num_calls


def matrix_rate(device: torch.device, precision: str, *, seconds: float, sizes: Sequence[int] = ()) -> float:
    """GFLOP/s of the product of two square matrices at the size that is fastest, a multiply-add counted as two.

    seconds: for all sizes together. sizes: rows; a GPU needs larger matrices if none are given.
    """
    sizes = sizes or ((512, 1024, 2048) if device.type == "cpu" else (1024, 2048, 4096, 8192))
    generator = torch.Generator(device).manual_seed(0)

    def rate(size: int) -> float:
        a_XX, b_XX = (
            torch.rand(size, size, device=device, generator=generator).to(PRECISIONS[precision]) for _ in range(2)
        )
        out_XX = torch.mm(a_XX, b_XX)
        each_s = mean_seconds(lambda: torch.mm(a_XX, b_XX, out=out_XX), device, seconds / len(sizes))
        return 2 * size**3 / each_s / 1e9

    return max(map(rate, sizes))
