"""What a run costs: FLOPs of training and of a prediction, peak memory, and on which machine."""

import ctypes
import datetime
import importlib.metadata
import platform
import resource
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from experiments.machine.cores import num_cores
from experiments.machine.device import device_name
from experiments.networks.network import Batch, Network


def count_train_flops(network: Network, image_px: int) -> float:
    """Floating-point operations of one image's forward and backward pass.

    Counted by torch.utils.flop_counter: convolutions and matrix products, a multiplication and an addition as two.
    Sampling, normalisation and activations are not counted. In the middle of training: what changes with its progress
    has its mean there. Leaves gradients and statistics as they were.
    """
    device = next(network.parameters()).device
    state = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    batch = Batch.of(torch.zeros(2, network.num_channels, image_px, image_px, device=device), network.num_draws)
    batch = replace(batch, progress=0.5)
    with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
        logits_BX, penalty = network.logits_and_penalty(batch)
        loss = F.cross_entropy(logits_BX, torch.zeros(2, dtype=torch.int64, device=device))
        (loss if penalty is None else loss + penalty).backward()
    network.zero_grad(set_to_none=True)
    network.load_state_dict(state)
    return counter.get_total_flops() / 2


@torch.no_grad()
def prediction_costs(network: Network, image_px: int) -> dict[str, float]:
    """What it takes to classify one image when the network is tested, by the names of ledger/scores.py.

    FLOPs are counted as those of training, and so are those of all that looks at the image or at copies of it. A pass
    is one image through the last stage of the backbone. Leaves the network as it was.
    """
    was_training, passes = network.training, list[int]()
    last_stage = [network.backbone.head, *network.backbone.stages][-1]
    hook = last_stage.register_forward_hook(lambda stage, args, map_BCHW: passes.append(len(args[0])))
    device = next(network.parameters()).device
    image_1CHW = torch.zeros(1, network.num_channels, image_px, image_px, device=device)
    with hook, FlopCounterMode(display=False) as counter:
        network.eval()(Batch.of(image_1CHW, network.num_draws))
    network.train(was_training)
    return {"predict_flops": float(counter.get_total_flops()), "predict_passes": float(sum(passes))}


class PeakMemory:
    """The most memory in use since this was made: of the device on a GPU, of the process elsewhere.

    A long-lived worker's own high-water mark is reset where the system can (Linux); elsewhere the figure is
    the most since the process began.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with suppress(AttributeError, OSError, TypeError):
                ctypes.CDLL(None).malloc_trim(0)  # what an earlier run freed is not this run's
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")

    def mib(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        try:
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            return int(status.split("VmHWM:")[1].split()[0]) / 1024
        except (OSError, IndexError):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return peak / (2**20 if sys.platform == "darwin" else 1024)


def environment(device: torch.device, *more: str) -> dict[str, Any]:
    """What differs between two machines that make the same run. more: libraries that not all runs depend on."""
    versions = {"python": platform.python_version()}
    for library in ("torch", "torchvision", "numpy", "optuna", "wandb", *more):
        with suppress(importlib.metadata.PackageNotFoundError):  # a run needs torch and numpy only
            versions[library] = importlib.metadata.version(library)
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "device": device.type,
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "cores": num_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }
