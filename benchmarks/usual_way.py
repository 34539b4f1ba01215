"""What a user would otherwise write: a Dataset of PIL images, torchvision's transforms on each, a DataLoader, fp32.

The networks are those of the engine's workloads, layer by layer, in plain PyTorch.

Legend: B images, C channels, H rows, W columns.
"""

import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.machine import wait_for
from experiments.config import Optim, Protocol

NUM_LOADERS = 2
BATCHES_PER_LOG = 50


class PlainLeNet(nn.Module):
    """A two-layer convolutional classifier, optionally behind a spatial transformer.

    Source of the architecture: PyTorch's spatial transformer tutorial, with RGB input of 32x32 pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(
            nn.Conv2d(3, 8, 7), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(8, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(160, 32), nn.ReLU(), nn.Linear(32, 6),
        )  # fmt: skip
        self.classify = nn.Sequential(
            nn.Conv2d(3, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(10, 20, 5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(500, 50), nn.ReLU(), nn.Dropout(), nn.Linear(50, 10),
        )  # fmt: skip
        last = self.locate[-1]
        nn.init.zeros_(last.weight)
        last.bias.data.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        theta_B23 = self.locate(x_BCHW).view(-1, 2, 3)
        grid_BHW2 = F.affine_grid(theta_B23, list(x_BCHW.shape), align_corners=False)
        return self.classify(F.grid_sample(x_BCHW, grid_BHW2, align_corners=False))


def plain_cnn() -> nn.Module:
    """The default classifier: four convolutions with batch normalisation, and a global average."""
    layers: list[nn.Module] = []
    for in_channels, out_channels, kernel, stride in ((3, 32, 4, 2), (32, 64, 3, 1), (64, 128, 3, 1), (128, 128, 3, 1)):
        layers += [
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        ]
        if out_channels != in_channels and in_channels != 3:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


class PilImages(Dataset[tuple[Tensor, int]]):
    """Arrays of images as torchvision's own data sets hand them out: a PIL image each, then its transforms."""

    def __init__(self, pixels_NHWC: npt.NDArray[np.uint8], labels_N: npt.NDArray[np.int64], *, augmented: bool) -> None:
        self.pixels_NHWC, self.labels_N = pixels_NHWC, labels_N
        augmentation = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if augmented else []
        normalise = transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        self.transform = transforms.Compose([*augmentation, transforms.ToTensor(), normalise])

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.pixels_NHWC[index])
        return self.transform(image), int(self.labels_N[index])


def batches_for_ever(images: PilImages, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch in a new random order, with loaders that stay alive between them."""
    loader = DataLoader(images, batch_size, shuffle=True, num_workers=NUM_LOADERS, persistent_workers=True)
    while True:
        yield from loader


def usual_rate(
    network: nn.Module,
    images: PilImages,
    protocol: Protocol,
    optim: Optim,
    device: torch.device,
    *,
    seconds: float,
    num_skipped_batches: int,
) -> float:
    """Images/s of a plain training loop: default threads and memory format, fp32, a look at the loss now and then.

    num_skipped_batches: not timed, while the loaders start and their queues fill.
    """
    network.to(device).train()
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=optim.lr,
        momentum=protocol.momentum,
        nesterov=protocol.nesterov,
        weight_decay=optim.weight_decay,
    )
    loss_function = nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing)
    start, num_images, losses = 0.0, 0, []
    for step, (x_BCHW, labels_B) in enumerate(batches_for_ever(images, protocol.batch_size)):
        if step == num_skipped_batches:
            wait_for(device)
            start = time.perf_counter()
        x_BCHW, labels_B = x_BCHW.to(device), labels_B.to(device)
        optimiser.zero_grad()
        loss = loss_function(network(x_BCHW), labels_B)
        loss.backward()
        optimiser.step()
        if step % BATCHES_PER_LOG == 0:
            losses.append(loss.item())
        if step >= num_skipped_batches:
            num_images += len(labels_B)
            if time.perf_counter() - start > seconds:
                break
    wait_for(device)
    return num_images / (time.perf_counter() - start)
