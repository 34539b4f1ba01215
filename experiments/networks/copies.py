"""Copies of images to choose among: each turned, enlarged or shrunk, and shifted, in every combination.

Legend: K copies of an image, B images, C channels, H rows, W columns, 2 x and y, 23 rows and columns of affine maps.
"""

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

from experiments.networks.turning import after_quarters, each_after_quarters
from stn.affine import from_parts
from stn.maps import AffineMap


class Copies(nn.Module):
    """The copies of an image under similarities, in square images of any size; the first is the image itself.

    Turned by quarters first, then resampled once for all else: an image that is turned by a quarter has the same
    copies in another order, bit for bit, where the angles are the same in each quarter of the circle.
    theta_K23: the map from each copy's coordinates to those of the image.
    """

    def __init__(self, angles_deg: Sequence[float], scales: Sequence[float], shifts: Sequence[float]) -> None:
        """Of each list the first is that of the image itself.

        angles_deg: by which copies are turned, counter-clockwise. scales: of the maps, so that 2 shrinks the picture.
        shifts: of the maps, along each axis, where the image is 2 wide: 1 shows in a copy's middle what lies at the
            image's edge. The same on both sides of 0, so that quarter turns permute the places.
        """
        super().__init__()
        copies = list(product(angles_deg, scales, product(shifts, shifts)))
        self.quarters = [int(angle_deg // 90) for angle_deg, _, _ in copies]
        rest = [(angle_deg % 90, scale, shift) for angle_deg, scale, shift in copies]
        self.is_resampled = [each != (0, 1, (0, 0)) for each in rest]
        whole = [(angle_deg, scale, by_quarters(*shift, int(angle_deg // 90))) for angle_deg, scale, shift in copies]
        self.quarters_K: Tensor
        self.rest_K23: Tensor
        self.theta_K23: Tensor
        # On the CPU also where a network without numbers is built: they say what is to be computed.
        self.register_buffer("quarters_K", torch.tensor(self.quarters, device="cpu"), persistent=False)
        self.register_buffer("rest_K23", _similarities(rest), persistent=False)
        self.register_buffer("theta_K23", _similarities(whole), persistent=False)

    def __len__(self) -> int:
        return len(self.quarters)

    def forward(self, raw_BCHW: Tensor) -> Tensor:
        """All copies, (K, B, C, H, W)."""
        return torch.stack([self._copy(raw_BCHW, index) for index in range(len(self))])

    def _copy(self, raw_BCHW: Tensor, index: int) -> Tensor:
        rest = AffineMap(self.rest_K23[index].expand(raw_BCHW.shape[0], 2, 3)) if self.is_resampled[index] else None
        return after_quarters(raw_BCHW, self.quarters[index], rest)

    def each(self, raw_BCHW: Tensor, index_B: Tensor) -> Tensor:
        """One copy of each image, (B, C, H, W)."""
        return each_after_quarters(raw_BCHW, self.quarters_K[index_B], AffineMap(self.rest_K23[index_B]))

    def maps(self, index_B: Tensor) -> AffineMap:
        """The maps under which images look like these copies of them."""
        return AffineMap(self.theta_K23[index_B])


def from_the_middle(num: int, end: float) -> list[float]:
    """An odd number of equal steps from -end to end, 0 first and the ends last."""
    half = num // 2
    return [end * step / max(half, 1) for step in sorted(range(-half, half + 1), key=abs)]


def by_quarters(x: float, y: float, quarters: int) -> tuple[float, float]:
    """The point turned from x to y by quarters of a circle, exactly."""
    for _ in range(quarters % 4):
        x, y = -y, x
    return x, y


def _similarities(parts: Sequence[tuple[float, float, tuple[float, float]]]) -> Tensor:
    """Maps by angle in degrees, scale and shift, (K, 2, 3), on the CPU."""
    angle_deg_K, scale_K, shift_K2 = (torch.tensor(part, device="cpu") for part in zip(*parts, strict=True))
    angle_rad_K = angle_deg_K * (math.pi / 180)
    return from_parts(angle_rad_B=angle_rad_K, log_scale_B=scale_K.log(), shift_B2=shift_K2)
