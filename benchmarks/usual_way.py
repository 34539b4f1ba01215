"""What a user would otherwise write: a Dataset of PIL images, torchvision's transforms on each, a DataLoader, fp32.

The networks are those of the engine's workloads, layer by layer, in plain PyTorch; their weights start as PyTorch has
them. The optimiser is torch's SGD also where the engine has Muon, of which torch has none for convolutions: that is
what would be written, and it takes less time.

Legend: N images, B images of a batch, C channels, H rows, W columns, X logits.
"""

import time
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.machine import wait_for
from benchmarks.workloads import NUM_CLASSES, OLD_RECIPE, Workload, random_images
from experiments.runs.evaluation import BATCH_SIZE as EVALUATION_BATCH
from experiments.runs.images import DeviceImages

NUM_LOADERS = 2
BATCHES_PER_LOG = 50
MEAN, STD = 0.5, 0.25
"""Roughly those of the pixels, which are normalised by them."""


class PlainLeNet(nn.Module):
    """A classifier of two convolutions behind an affine spatial transformer.

    Source of the architecture: PyTorch's spatial transformer tutorial, with RGB input of 32x32 pixels.
    """

    def __init__(self, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.locate = nn.Sequential(
            nn.Conv2d(3, 8, 7), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(8, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(160, 32), nn.ReLU(),
        )  # fmt: skip
        self.theta = nn.Linear(32, 6)
        self.classify = nn.Sequential(
            nn.Conv2d(3, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(10, 20, 5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(500, 50), nn.ReLU(), nn.Dropout(), nn.Linear(50, num_classes),
        )  # fmt: skip
        nn.init.zeros_(self.theta.weight)
        with torch.no_grad():
            self.theta.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        theta_B23 = self.theta(self.locate(x_BCHW)).view(-1, 2, 3)
        grid_BHW2 = F.affine_grid(theta_B23, list(x_BCHW.shape), align_corners=False)
        return self.classify(F.grid_sample(x_BCHW, grid_BHW2, align_corners=False))


def plain_cnn(num_classes: int = NUM_CLASSES) -> nn.Module:
    """The default classifier: a first layer whose filters stay as they are, three pairs of convolutions, a maximum."""

    def norm(channels: int) -> nn.Module:
        layer = nn.BatchNorm2d(channels)
        layer.weight.requires_grad_(False)
        return layer

    def pair(in_channels: int, out_channels: int) -> list[nn.Module]:
        first, second = (
            nn.Conv2d(channels, out_channels, 3, padding=1, bias=False) for channels in (in_channels, out_channels)
        )
        return [first, nn.MaxPool2d(2), norm(out_channels), nn.GELU(), second, norm(out_channels), nn.GELU()]

    whitening = nn.Conv2d(3, 24, 2)
    whitening.weight.requires_grad_(False)
    return nn.Sequential(
        whitening, nn.GELU(),
        *pair(24, 16), *pair(16, 64), *pair(64, 64),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, num_classes, bias=False),
    )  # fmt: skip


def plain_cnn4(num_classes: int = NUM_CLASSES) -> nn.Module:
    """The former default: four convolutions with batch normalisation, and a global average."""

    def convolution(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
        convolve = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=1, bias=False)
        return [convolve, nn.BatchNorm2d(out_channels), nn.ReLU()]

    return nn.Sequential(
        *convolution(3, 32, kernel=4, stride=2),
        *convolution(32, 64), nn.MaxPool2d(2),
        *convolution(64, 128), nn.MaxPool2d(2),
        *convolution(128, 128), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(128, num_classes),
    )  # fmt: skip


PLAIN_NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "stn_affine@lenet": PlainLeNet,
    "cnn+flip_crop": plain_cnn,
    OLD_RECIPE.variant: plain_cnn4,
}
"""By the variant that they do the work of; they take the number of classes."""

AUGMENTATIONS: dict[str, list[nn.Module]] = {
    "stn_affine@lenet": [],
    "cnn+flip_crop": [transforms.RandomCrop(32, padding=2, padding_mode="reflect"), transforms.RandomHorizontalFlip()],
    OLD_RECIPE.variant: [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()],
}
"""By the variant whose policy they do the work of."""


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's own data sets hand them out: an array becomes a PIL image, then its transforms."""

    def __init__(self, images: DeviceImages, augmentation: list[nn.Module]) -> None:
        self.pixels_NHWC, self.labels_N = images.pixels_NHWC.numpy(), images.labels_N.tolist()
        normalise = transforms.Normalize((MEAN,) * 3, (STD,) * 3)
        self.transform = transforms.Compose([*augmentation, transforms.ToTensor(), normalise])

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels_NHWC[index])), self.labels_N[index]


def new_loader(images: PilImages, batch_size: int) -> DataLoader[Any]:
    """Each time through it is an epoch in a new random order; its processes stay alive in between."""
    return DataLoader(images, batch_size, shuffle=True, num_workers=NUM_LOADERS, persistent_workers=True)


class PlainTraining:
    """What a plain training loop has at hand: the workload's network, SGD on all of it, and the loss."""

    def __init__(self, workload: Workload, device: torch.device, num_classes: int = NUM_CLASSES) -> None:
        protocol, optim = workload.protocol, workload.optim
        self.device = device
        self.network = PLAIN_NETWORKS[workload.variant](num_classes).to(device)
        self.optimiser = torch.optim.SGD(
            self.network.parameters(),
            lr=optim.lr,
            momentum=protocol.momentum,
            nesterov=protocol.nesterov,
            weight_decay=optim.weight_decay,
        )
        self.loss_function = nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing)

    def step(self, x_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        """Train on a batch; returns its loss."""
        x_BCHW, labels_B = x_BCHW.to(self.device), labels_B.to(self.device)
        self.optimiser.zero_grad()
        loss: Tensor = self.loss_function(self.network(x_BCHW), labels_B)
        loss.backward()
        self.optimiser.step()
        return loss

    @torch.inference_mode()
    def accuracy(self, images: DeviceImages) -> float:
        """The share of the images, which lie in the CPU's memory, that the network is right about as they are."""
        self.network.eval()
        num_correct = 0
        for index_B in torch.arange(len(images)).split(EVALUATION_BATCH):
            logits_BX = self.network(((images.raw(index_B) - MEAN) / STD).to(self.device))
            num_correct += int((logits_BX.argmax(1).cpu() == images.labels_N[index_B]).sum())
        return num_correct / len(images)


class UsualWay:
    """The plain training loop, as it runs in a process with its default settings."""

    def __init__(self, device: torch.device, num_images: int) -> None:
        self.device = device
        self.images = random_images(num_images, torch.device("cpu"))

    def ready(self) -> None:
        """Returns once the process is up."""

    def num_threads(self) -> int:
        return torch.get_num_threads()

    def rate(self, workload: Workload, seconds: float, num_skipped_batches: int) -> float:
        """Images/s of training, with a look at the loss now and then.

        num_skipped_batches: not timed, while the loaders start and their queues fill.
        """
        images, training = PilImages(self.images, AUGMENTATIONS[workload.variant]), PlainTraining(workload, self.device)
        epochs = repeat(new_loader(images, workload.protocol.batch_size))
        start, num_images, losses = 0.0, 0, []
        training.network.train()
        for step, (x_BCHW, labels_B) in enumerate(chain.from_iterable(epochs)):
            if step == num_skipped_batches:
                wait_for(self.device)
                start = time.perf_counter()
            loss = training.step(x_BCHW, labels_B)
            if step % BATCHES_PER_LOG == 0:
                losses.append(loss.item())
            if step >= num_skipped_batches:
                num_images += len(labels_B)
                if time.perf_counter() - start > seconds:
                    break
        wait_for(self.device)
        return num_images / (time.perf_counter() - start)
