"""What posing does to an image's pixels does not tell the pose: no statistic shows the angle, and no network reads it.

Legend: N images, C channels, H = W rows and columns, F features, K answers.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.images.draws import uniform
from experiments.images.poses import PoseMaps, affine_pose, put_in_pose
from experiments.images.resampling import resample
from stn.affine import from_parts
from stn.sampler import Sampler

Resample = Callable[[Tensor, PoseMaps, int], Tensor]


def bilinear(x_NCHW: Tensor, where: PoseMaps, size_px: int) -> Tensor:
    """As images were posed before."""
    return Sampler(padding="border")(x_NCHW, where, (size_px, size_px))


def turned(x_NCHW: Tensor, angle_deg_N: Tensor, by: Resample) -> Tensor:
    """The images turned in one step, in whole numbers from 0 to 255, as under the pose R but for its disc."""
    poses = affine_pose(from_parts(angle_rad_B=angle_deg_N.deg2rad()))
    chunks = torch.arange(len(x_NCHW)).split(500)
    return torch.cat([by(x_NCHW[index], poses[index], x_NCHW.shape[-1]).round().clamp(0, 255) for index in chunks])


def laplacian(x_NHW: Tensor) -> Tensor:
    """Of the pixels that have four neighbours."""
    next_to_NHW = x_NHW[:, :-2, 1:-1] + x_NHW[:, 2:, 1:-1] + x_NHW[:, 1:-1, :-2] + x_NHW[:, 1:-1, 2:]
    return 4 * x_NHW[:, 1:-1, 1:-1] - next_to_NHW


CENTRE_HW = torch.from_numpy(np.hypot(*np.mgrid[-14.5:15, -14.5:15]) < 13)


def rough(x_NHW: Tensor) -> np.ndarray:
    """Of the pixels well inside of the disc, (N, pixels)."""
    return laplacian(x_NHW.double())[:, CENTRE_HW].square().numpy()


def noise(num: int) -> Tensor:
    return (128 + 40 * torch.randn(num, 32, 32)).round().clamp(0, 255)


def test_is_the_same_at_every_angle():
    x_NHWC = noise(4000)[..., None].to(torch.uint8)
    seen_NHWC, maps = put_in_pose(x_NHWC, torch.arange(4000), "R", part="train")
    angle_deg_N = torch.atan2(maps.theta_N33[:, 1, 0], maps.theta_N33[:, 0, 0]).rad2deg().abs().numpy()
    of_image_N = rough(seen_NHWC[..., 0]).mean(1)
    of_bin = [of_image_N[(angle_deg_N >= low) & (angle_deg_N < low + 10)].mean() for low in range(0, 90, 10)]
    assert max(of_bin) < 1.03 * min(of_bin)


@pytest.mark.parametrize("angle_deg", [4.0, 17.0, 45.0])
def test_is_the_same_in_every_place(angle_deg):
    """Bilinear sampling makes bands, sharp and blurred ones."""

    def spread(by: Resample) -> float:
        """What two halves of the images have in common: by chance they have nothing."""
        seen_NCHW = turned(noise(4000)[:, None], torch.full((4000,), angle_deg), by)
        half, other = (rough(part).mean(0) for part in seen_NCHW[:, 0].split(2000))
        return math.sqrt(max(0.0, np.cov(half, other)[0, 1])) / float(half.mean())

    assert spread(resample) < 0.015
    assert spread(bilinear) > 0.1


class Reader:
    """A network of 96,000 parameters that is told by how much images are turned, and shown where to look.

    It sees the spectrum of an image's Laplacian and that of how rough the image is from place to place, in which bands
    are points. A network that has to find that out for itself needs ten times as many images. Quarter turns look the
    same to it.
    """

    answers_deg = 5.0

    def __init__(self, train_NCHW: Tensor, by: Resample) -> None:
        self.by, views = by, 2
        angle_N = torch.cat([angles(len(train_NCHW), f"told {view}") for view in range(views)])
        feature_NF = torch.cat(
            [self.features(turned(train_NCHW, part_N, by)) for part_N in angle_N.split(len(train_NCHW))]
        )
        self.mean_F, self.std_F = feature_NF.mean(0), feature_NF.std(0) + 1e-6
        num_features, num_answers, epochs = feature_NF.shape[1], round(90 / self.answers_deg), 15
        self.network = nn.Sequential(
            nn.Linear(num_features, 128), nn.GELU(), nn.Dropout(0.2), nn.Linear(128, num_answers)
        )
        answer_N = ((angle_N + 90) % 90 / self.answers_deg).long().clamp_max(num_answers - 1)
        optimiser = torch.optim.AdamW(self.network.parameters(), weight_decay=1e-2)
        total = epochs * math.ceil(len(answer_N) / 256)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=total)
        for _ in range(epochs):
            for index_B in torch.randperm(len(answer_N)).split(256):
                optimiser.zero_grad()
                F.cross_entropy(self.logits(feature_NF[index_B]), answer_N[index_B], label_smoothing=0.05).backward()
                optimiser.step()
                schedule.step()
        self.network.eval()

    def features(self, x_NCHW: Tensor) -> Tensor:
        """Logarithms of the two spectra, of the part of the image that is inside its disc."""
        rough_NHW = laplacian(x_NCHW.mean(1))[:, 2:-2, 2:-2]
        window_H = torch.hann_window(rough_NHW.shape[-1], periodic=False)
        window_HW = window_H[:, None] * window_H
        energy_NHW = (rough_NHW.abs() + 0.5).log()
        energy_NHW = energy_NHW - (energy_NHW * window_HW).sum((1, 2), keepdim=True) / window_HW.sum()
        spectra = (torch.fft.rfft2(each * window_HW).abs().flatten(1) for each in (rough_NHW, energy_NHW))
        return torch.cat([(each + floor).log() for each, floor in zip(spectra, (1.0, 0.1), strict=True)], dim=1)

    def logits(self, feature_NF: Tensor) -> Tensor:
        logits_NK: Tensor = self.network((feature_NF - self.mean_F) / self.std_F)
        return logits_NK

    @torch.no_grad()
    def error_deg(self, x_NCHW: Tensor, angle_deg_N: Tensor) -> float:
        """Median; 22.5 by chance."""
        read_N = (self.logits(self.features(x_NCHW)).argmax(1) + 0.5) * self.answers_deg
        apart_N = (read_N - angle_deg_N % 90).abs()
        return torch.minimum(apart_N, 90 - apart_N).median().item()

    def errors_deg(self, test_NCHW: Tensor) -> tuple[float, float]:
        """On images turned in one step, and on the same that come to the same angle by way of any other."""
        angle_N, first_N = angles(len(test_NCHW), "read"), angles(len(test_NCHW), "first")
        two_NCHW = turned(turned(test_NCHW, first_N, self.by), angle_N - first_N, self.by)
        return self.error_deg(turned(test_NCHW, angle_N, self.by), angle_N), self.error_deg(two_NCHW, angle_N)


def angles(num: int, purpose: str) -> Tensor:
    """Degrees, uniform between -90 and 90."""
    return 180 * uniform(torch.arange(num), 1, seed=0, epoch=0, purpose=purpose)[:, 0] - 90


@pytest.fixture(params=["sprites", "real"])
def upright(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    """Training and test images of 32 px, float32 from 0 to 255, (N, C, H, W)."""
    if request.param == "sprites":
        from experiments.images.tasks.sprites import draw

        parts = [draw(seed, range(num)).pixels_NHWC for seed, num in ((0, 6000), (1, 3000))]
    else:
        folder: Path = request.getfixturevalue("real_images")
        from PIL import Image

        parts = []
        for part, of_class in (("train", 600), ("test", 300)):
            paths = [path for kind in sorted((folder / part).iterdir()) for path in sorted(kind.iterdir())[:of_class]]
            parts.append(np.stack([np.asarray(Image.open(path).convert("RGB").resize((32, 32))) for path in paths]))
    train, test = (torch.from_numpy(part).permute(0, 3, 1, 2).float() for part in parts)
    return train, test


@pytest.mark.long
def test_the_angle_is_told_no_better_in_one_step_than_in_two(upright):
    """What is read of it is in the picture (sky is above, and a JPEG has its own grid), not in how it was turned."""
    train, test = upright
    found = {by.__name__: Reader(train, by).errors_deg(test) for by in (resample, bilinear)}
    print(found)
    one, two = found["resample"]
    assert one > 0.85 * two
    one, two = found["bilinear"]
    assert one < 0.5 * two
