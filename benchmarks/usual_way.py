"""What a user would otherwise write: a Dataset of PIL images, torchvision's transforms on each, a DataLoader, fp32.

The networks are those of the engine's workloads, layer by layer, in plain PyTorch; SGD trains them.

Legend: N images, B images of a batch, C channels, H rows, W columns.
"""

import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.machine import wait_for
from benchmarks.workloads import Workload, random_images
from experiments.images import DeviceImages
from experiments.variants import parse_variant

NUM_LOADERS = 2
BATCHES_PER_LOG = 50


class PlainLeNet(nn.Module):
    """A classifier of two convolutions behind an affine spatial transformer.

    Source of the architecture: PyTorch's spatial transformer tutorial, with RGB input of 32x32 pixels.
    """

    def __init__(self) -> None:
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
            nn.Flatten(), nn.Linear(500, 50), nn.ReLU(), nn.Dropout(), nn.Linear(50, 10),
        )  # fmt: skip
        nn.init.zeros_(self.theta.weight)
        with torch.no_grad():
            self.theta.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        theta_B23 = self.theta(self.locate(x_BCHW)).view(-1, 2, 3)
        grid_BHW2 = F.affine_grid(theta_B23, list(x_BCHW.shape), align_corners=False)
        return self.classify(F.grid_sample(x_BCHW, grid_BHW2, align_corners=False))


def plain_cnn() -> nn.Module:
    """The default classifier: frozen patch whitening, and three pairs of convolutions with batch normalisation."""

    def pair(in_channels: int, out_channels: int) -> list[nn.Module]:
        return [
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.MaxPool2d(2), nn.BatchNorm2d(out_channels), nn.GELU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels), nn.GELU(),
        ]  # fmt: skip

    network = nn.Sequential(
        nn.Conv2d(3, 24, 2), nn.GELU(),
        *pair(24, 16), *pair(16, 64), *pair(64, 64),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 10, bias=False),
    )  # fmt: skip
    for layer in network:
        if isinstance(layer, nn.BatchNorm2d) or layer is network[0]:
            layer.get_parameter("weight").requires_grad_(False)
    return network


PLAIN_NETWORKS: dict[str, Callable[[], nn.Module]] = {"stn_affine@lenet": PlainLeNet, "cnn+flip_crop": plain_cnn}
"""By the variant that they do the work of."""

AUGMENTATIONS: dict[str, list[nn.Module]] = {
    "none": [],
    "flip_crop": [transforms.RandomCrop(32, padding=2, padding_mode="reflect"), transforms.RandomHorizontalFlip()],
}
"""By the policy that they do the work of."""


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's own data sets hand them out: an array becomes a PIL image, then its transforms."""

    def __init__(self, images: DeviceImages, augmentation: list[nn.Module]) -> None:
        self.pixels_NHWC, self.labels_N = images.pixels_NHWC.numpy(), images.labels_N.tolist()
        normalise = transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        self.transform = transforms.Compose([*augmentation, transforms.ToTensor(), normalise])

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels_NHWC[index])), self.labels_N[index]


def batches_for_ever(images: PilImages, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch in a new random order, with loaders that stay alive in between."""
    loader = DataLoader(images, batch_size, shuffle=True, num_workers=NUM_LOADERS, persistent_workers=True)
    while True:
        yield from loader


class UsualWay:
    """The plain training loop, as it runs in a process whose settings nobody has touched."""

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
        protocol, device = workload.protocol, self.device
        images = PilImages(self.images, AUGMENTATIONS[parse_variant(workload.variant).policy])
        network = PLAIN_NETWORKS[workload.variant]().to(device)
        optimiser = torch.optim.SGD(
            [parameter for parameter in network.parameters() if parameter.requires_grad],
            lr=workload.optim.lr,
            momentum=protocol.momentum,
            nesterov=protocol.nesterov,
            weight_decay=workload.optim.weight_decay,
        )
        loss_function = nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing)
        start, num_images, losses = 0.0, 0, []
        network.train()
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
