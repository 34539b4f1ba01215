"""Turns of images by degrees, and networks that turn each image before they classify it.

Legend: B images, C channels, H rows, W columns.
"""

import math

import torch
from torch import Tensor

from experiments.networks.network import Batch, Network
from stn.affine import from_parts
from stn.maps import AffineMap, Map
from stn.sampler import Sampler


class TurningNetwork(Network):
    """A network that classifies each image turned by an angle of its own."""

    def turn_deg(self, raw_BCHW: Tensor) -> Tensor:
        """By how many degrees each image is to be turned counter-clockwise, (B,)."""
        raise NotImplementedError

    def maps(self, batch: Batch) -> list[Map]:
        return [turn(self.turn_deg(batch.raw_BCHW))]

    def look(self, batch: Batch) -> Tensor:
        return each_turned(batch.raw_BCHW, self.turn_deg(batch.raw_BCHW))


def turned(raw_BCHW: Tensor, angle_deg: float) -> Tensor:
    """Square images turned counter-clockwise about their centre, bilinear, black outside; in channels-last memory.

    Quarter turns move pixels and nothing else, and come first: the copies of an image and those of the same image
    turned by a quarter are the same, bit for bit.
    """
    quarters, rest_deg = divmod(angle_deg, 90)
    rest = turn(torch.full((raw_BCHW.shape[0],), rest_deg, device=raw_BCHW.device)) if rest_deg else None
    return after_quarters(raw_BCHW, int(quarters), rest)


def each_turned(raw_BCHW: Tensor, angle_deg_B: Tensor) -> Tensor:
    """As `turned`, each image by an angle of its own."""
    quarters_B = torch.div(angle_deg_B, 90, rounding_mode="floor")
    return each_after_quarters(raw_BCHW, quarters_B.long(), turn(angle_deg_B - 90 * quarters_B))


def after_quarters(raw_BCHW: Tensor, quarters: int, rest: Map | None) -> Tensor:
    """Square images turned counter-clockwise by quarters, then sampled under maps, if any; in channels-last memory."""
    raw_BCHW = raw_BCHW.rot90(quarters, (2, 3))
    if rest is not None:
        raw_BCHW = Sampler()(raw_BCHW, rest)
    return raw_BCHW.contiguous(memory_format=torch.channels_last)


def each_after_quarters(raw_BCHW: Tensor, quarters_B: Tensor, rest: Map) -> Tensor:
    """As `after_quarters`, each image by quarters of its own."""
    quarter_4BCHW = torch.stack([raw_BCHW.rot90(quarters, (2, 3)) for quarters in range(4)])
    chosen_BCHW = quarter_4BCHW[quarters_B % 4, torch.arange(raw_BCHW.shape[0], device=raw_BCHW.device)]
    return Sampler()(chosen_BCHW, rest).contiguous(memory_format=torch.channels_last)


def turn(angle_deg_B: Tensor) -> AffineMap:
    """The maps under which images are sampled to turn them counter-clockwise."""
    return AffineMap(from_parts(angle_rad_B=angle_deg_B * (math.pi / 180)))


def even_turns_deg(num_turns: int, max_deg: float) -> tuple[float, ...]:
    """Equal steps from -max_deg to max_deg, both included; with 180 round the whole circle, from 0."""
    if num_turns == 1:
        return (0.0,)
    if max_deg == 180:
        return tuple(360 * turn / num_turns for turn in range(num_turns))
    # Whole numbers first, so that the middle is 0 exactly.
    last = num_turns - 1
    return tuple(max_deg * (2 * turn - last) / last for turn in range(num_turns))
