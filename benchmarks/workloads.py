"""What all sides train, and on which images.

Legend: N images, H rows, W columns, C channels.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import torch

from experiments.runs.images import DeviceImages
from ledger.config import Optim, Protocol, RunConfig

NUM_CLASSES = 10


@dataclass(frozen=True)
class Workload:
    """What all sides train.

    protocol: holds no images out, since validation is not timed.
    targets: what the ratios of the report are hoped to reach, by name.
    """

    name: str
    variant: str
    protocol: Protocol
    optim: Optim
    targets: dict[str, float] = field(default_factory=dict)

    def with_precision(self, precision: Literal["fp32", "bf16"]) -> "Workload":
        return dataclasses.replace(self, protocol=dataclasses.replace(self.protocol, precision=precision))

    def run(self, epochs: int) -> RunConfig:
        """The configuration of a run of so many epochs."""
        protocol = dataclasses.replace(self.protocol, epochs=epochs)
        return RunConfig(variant=self.variant, protocol=protocol, optim=self.optim)


@dataclass(frozen=True)
class Effort:
    """How long to look. seconds: of each figure in each round; the engine's takes one whole epoch at least.

    method_batch, method_s: images of a batch, and seconds of each figure (one call at least), where methods are timed.
    """

    num_rounds: int
    num_images: int
    seconds: float
    num_skipped_batches: int
    method_batch: int
    method_s: float


FULL = Effort(3, num_images=6400, seconds=2.5, num_skipped_batches=16, method_batch=128, method_s=0.3)
QUICK = Effort(1, num_images=384, seconds=0.1, num_skipped_batches=2, method_batch=8, method_s=0.0)

WORKLOADS = (
    Workload(
        "PyTorch's tutorial network",
        "stn_affine@lenet",
        Protocol(
            val_images=0,
            batch_size=64,
            optimiser="sgd",
            momentum=0.0,
            nesterov=False,
            schedule="constant",
            averaging=False,
            label_smoothing=0.0,
        ),
        Optim(lr=0.01, weight_decay=0.0),
        targets={"engine / usual way": 1.8, "engine, packed / usual way": 3.0, "engine / bare step": 0.9},
    ),
    Workload(
        "default network",
        "cnn+flip_crop",
        Protocol(val_images=0),
        Optim(),
        targets={
            "engine / bare step": 0.9,
            "engine / bf16 matrix rate": 0.45,
            "engine, packed / bf16 matrix rate": 0.45,
        },
    ),
)

OLD_RECIPE = Workload(
    "former default network, as it was trained",
    "cnn@cnn4+flip_crop:border=black:mirror=random:padding_px=4",
    Protocol(val_images=0, batch_size=128, optimiser="sgd", momentum=0.9, schedule="one_cycle", averaging=False),
    Optim(lr=0.1),
)
"""That of this suite's first results: what a person would train with SGD."""


def random_images(num_images: int, device: torch.device) -> DeviceImages:
    """Noise of 32x32 pixels, always the same: speed does not depend on what is in the pictures."""
    generator = torch.Generator().manual_seed(0)
    pixels_NHWC = torch.randint(0, 256, (num_images, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels_N = torch.randint(0, NUM_CLASSES, (num_images,), generator=generator)
    return DeviceImages(pixels_NHWC.to(device), labels_N.to(device))
