"""Turned copies of images."""

import math

import torch
from torch import Tensor

from stn.affine import from_parts
from stn.maps import AffineMap
from stn.sampler import Sampler


def turned(raw_BCHW: Tensor, angle_deg: float) -> Tensor:
    """Square images turned counter-clockwise about their centre, bilinear, black outside; in channels-last memory.

    Quarter turns move pixels and nothing else, and come first: the copies of an image and those of the same image
    turned by a quarter are the same, bit for bit.
    """
    quarters, rest_deg = divmod(angle_deg, 90)
    raw_BCHW = raw_BCHW.rot90(int(quarters), (2, 3))
    if rest_deg:
        raw_BCHW = Sampler()(raw_BCHW, turn(torch.full((len(raw_BCHW),), rest_deg, device=raw_BCHW.device)))
    return raw_BCHW.contiguous(memory_format=torch.channels_last)


def each_turned(raw_BCHW: Tensor, angle_deg_B: Tensor) -> Tensor:
    """As `turned`, each image by an angle of its own."""
    quarters_B = torch.div(angle_deg_B, 90, rounding_mode="floor")
    index_B = torch.arange(len(raw_BCHW), device=raw_BCHW.device)
    quarter_4BCHW = torch.stack([raw_BCHW.rot90(quarters, (2, 3)) for quarters in range(4)])
    upright_BCHW = quarter_4BCHW[quarters_B.long() % 4, index_B]
    x_BCHW = Sampler()(upright_BCHW, turn(angle_deg_B - 90 * quarters_B))
    return x_BCHW.contiguous(memory_format=torch.channels_last)


def turn(angle_deg_B: Tensor) -> AffineMap:
    """The maps under which images are sampled to turn them counter-clockwise."""
    return AffineMap(from_parts(angle_rad_B=angle_deg_B * (math.pi / 180)))
