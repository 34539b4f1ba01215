"""How much memory a worker on a CPU takes, and how many of them there is room for.

Figures were measured, a little too large, never too small. Workers share what the cache has decoded, mapped.
"""

import torch
from rich.filesize import decimal
from torch import Tensor

from experiments.images.poses import posed_px
from experiments.images.tasks import Say
from experiments.machine.cores import free_memory
from experiments.networks.network import Batch
from experiments.study.arms import network_of
from experiments.study.plan import Plan
from ledger.config import Protocol
from ledger.errors import UserError
from ledger.wording import count

PROCESS = 400 * 2**20
"""Bytes of a process that has imported everything and trains nothing, beside what all of them share."""
WORKSPACE = 1.75
"""A step's most memory, over the tensors kept for its backward pass: 1.3 to 1.7, whatever network and image size."""
COPIES = 2
"""Of the task's images: under the pose, and those of the run's split or of the test part. One more, of upright ones,
where they are posed anew."""
SMALL_PX = 32
"""Kept tensors are counted for images of this size at most: they grow with the area."""


def fit_to_memory(plan: Plan, number: int, processes: int, say: Say) -> int:
    """So many workers of so many processes, or as many as there is memory for, at least 1; `say` hears of these."""
    need, free = worker_bytes(plan) + (processes - 1) * PROCESS, free_memory()
    spare = free - PROCESS  # that one is W&B's
    if number * need <= spare:
        return number
    fit = max(1, int(spare // need))
    more = f", where there are cores for {number}; JOBS={number} starts all of them" if fit < number else ""
    say(
        f"A worker takes about {decimal(int(need))} of memory, and {decimal(int(free))} are free: "
        f"{count(fit, 'worker')}{more}."
    )
    return fit


def worker_bytes(plan: Plan) -> float:
    """Bytes of memory that a worker takes at most, by the largest of the plan's arms."""
    protocol, task = plan.protocol, plan.task
    size_of = {arm.pose: posed_px(arm.pose, protocol.image_px) for arm in plan.arms}
    num_copies = COPIES + (len(size_of) > 1)  # a worker keeps the images of two poses
    posed = num_copies * task.num_bytes * (max(size_of.values()) / protocol.image_px) ** 2
    images = posed + any(arm.posed_anew for arm in plan.arms) * task.num_bytes
    kinds = {(arm.variant, size_of[arm.pose]) for arm in plan.arms}
    step = max(kept_bytes(name, protocol, px, len(task.classes), task.num_channels) for name, px in kinds)
    return PROCESS + images + WORKSPACE * min(protocol.batch_size, protocol.train_images) * step


def kept_bytes(variant: str, protocol: Protocol, image_px: int, num_classes: int, num_channels: int = 3) -> float:
    """Bytes of an image's tensors, without weights, that the forward pass keeps for the backward pass."""
    small_px = min(image_px, SMALL_PX)
    try:
        network = network_of(variant, protocol, small_px, num_classes, {}, num_channels, device="cpu")
    except UserError:  # it takes larger images only
        small_px = image_px
        network = network_of(variant, protocol, small_px, num_classes, {}, num_channels, device="cpu")
    weights = {weight.untyped_storage().data_ptr() for weight in network.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = Batch.of(torch.zeros(2, num_channels, small_px, small_px), network.num_draws)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train().logits_and_penalty(batch)
    return sum(kept.values()) / len(batch) * (image_px / small_px) ** 2
