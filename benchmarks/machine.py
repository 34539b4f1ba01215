"""What this machine can do at best: the rate of dense matrix products."""

import time
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


def matrix_sizes(device: torch.device) -> tuple[int, ...]:
    """Rows of the square matrices among which the fastest counts; a GPU needs larger ones."""
    return (512, 1024, 2048) if device.type == "cpu" else (1024, 2048, 4096, 8192)


def matrix_rate(device: torch.device, precision: str, size: int, *, seconds: float) -> float:
    """GFLOP/s of the product of two square matrices, a multiplication and an addition counted as two."""
    generator = torch.Generator(device).manual_seed(0)
    a_XX, b_XX = (
        torch.rand(size, size, device=device, generator=generator).to(PRECISIONS[precision]) for _ in range(2)
    )
    out_XX = torch.mm(a_XX, b_XX)
    wait_for(device)
    start, num_products = time.perf_counter(), 0
    while num_products == 0 or time.perf_counter() - start < seconds:
        torch.mm(a_XX, b_XX, out=out_XX)
        wait_for(device)
        num_products += 1
    return 2 * size**3 * num_products / (time.perf_counter() - start) / 1e9


def best_matrix_rate(device: torch.device, precision: str, *, seconds: float) -> float:
    """GFLOP/s at the size that is fastest. seconds: for all sizes together."""
    sizes = matrix_sizes(device)
    return max(matrix_rate(device, precision, size, seconds=seconds / len(sizes)) for size in sizes)
