"""The image operations that AutoAugment and its successors draw from, for whole batches, each image its own magnitude.

Pixels are floats in [0, 1]. The operations are PIL's and torchvision's, which are defined on 8-bit images:
where a decision hangs on an 8-bit value (posterize, solarize, auto_contrast, equalize) pixels are rounded to one.
Images are not rounded between operations. Those that move pixels are bilinear, for square images.

Legend: B images, C channels, H rows, W columns, N operations one after the other, L operations there are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.policies import Fill, Filling, Warp
from baselines.policies.rotate import rotation


def _with_offset(offset_B: Tensor, *places: tuple[int, int]) -> Tensor:
    """The identity, (B, 2, 3), with each image's offset added at these rows and columns."""
    theta_B23 = torch.eye(2, 3, device=offset_B.device).repeat(len(offset_B), 1, 1)
    for row, column in places:
        theta_B23[:, row, column] = offset_B
    return theta_B23


MOVES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "shear_x": lambda tangent_B, image_px: _with_offset(tangent_B, (0, 1), (0, 2)),
    "shear_y": lambda tangent_B, image_px: _with_offset(tangent_B, (1, 0), (1, 2)),
    "translate_x": lambda shift_px_B, image_px: _with_offset(-2 * shift_px_B / image_px, (0, 2)),
    "translate_y": lambda shift_px_B, image_px: _with_offset(-2 * shift_px_B / image_px, (1, 2)),
    "rotate": lambda angle_deg_B, image_px: F.pad(rotation(angle_deg_B.deg2rad()), (0, 1)),
}
"""Operations that move pixels: from magnitudes and the image's side to maps from output to input, (B, 2, 3).

Shears move rows left and columns up, about the top left corner; shifts move the picture right and down; it is turned
anticlockwise about its centre.
"""


def _rounded(x_BCHW: Tensor) -> Tensor:
    return (x_BCHW * 255).round()


def _grey(x_BCHW: Tensor) -> Tensor:
    """Brightness as ITU-R BT.601 weighs the colours, (B, 1, H, W); the mean of other than three channels."""
    if x_BCHW.shape[1] != 3:
        return x_BCHW.mean(1, keepdim=True)
    red_BHW, green_BHW, blue_BHW = x_BCHW.unbind(1)
    return (0.2989 * red_BHW + 0.587 * green_BHW + 0.114 * blue_BHW)[:, None]


def _blend(x_BCHW: Tensor, other: Tensor, factor_B: Tensor) -> Tensor:
    """From the other image at factor 0 to this one at 1, and beyond."""
    return torch.lerp(other.expand_as(x_BCHW), x_BCHW, factor_B[:, None, None, None]).clamp(0, 1)


def brightness(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Black at 0, the image at 1."""
    return (x_BCHW * factor_B[:, None, None, None]).clamp(0, 1)


def saturation(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Greys at 0, the image at 1; does nothing to images of one channel. Called colour in the papers."""
    return _blend(x_BCHW, _grey(x_BCHW), factor_B)


def contrast(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """The mean of its greys at 0, the image at 1."""
    return _blend(x_BCHW, _grey(x_BCHW).flatten(1).mean(1)[:, None, None, None], factor_B)


def sharpness(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blurred over 3 x 3 pixels at 0, the image at 1. The outermost pixels stay as they are."""
    rows_BChW = x_BCHW[:, :, :-2] + x_BCHW[:, :, 1:-1] + x_BCHW[:, :, 2:]
    sum_BChw = rows_BChW[..., :-2] + rows_BChW[..., 1:-1] + rows_BChW[..., 2:]
    inner_BChw = x_BCHW[:, :, 1:-1, 1:-1]
    sharp_BCHW = x_BCHW.clone()
    sharp_BCHW[:, :, 1:-1, 1:-1] = _blend(inner_BChw, (sum_BChw + 4 * inner_BChw) / 13, factor_B)
    return sharp_BCHW


def posterize(x_BCHW: Tensor, bits_B: Tensor) -> Tensor:
    """Only the highest bits of each 8-bit value kept, 0 to 8 of them."""
    mask_B = ((0xFF << (8 - bits_B.long())) & 0xFF).to(torch.uint8)
    return (_rounded(x_BCHW).to(torch.uint8) & mask_B[:, None, None, None]).to(x_BCHW.dtype) / 255


def solarize(x_BCHW: Tensor, threshold_B: Tensor) -> Tensor:
    """Pixels whose 8-bit value reaches the threshold inverted."""
    return torch.where(_rounded(x_BCHW) >= threshold_B[:, None, None, None], 1 - x_BCHW, x_BCHW)


def auto_contrast(x_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Each channel stretched to [0, 1]; one that has a single 8-bit value stays as it is."""
    low_BC11, high_BC11 = (extreme(_rounded(x_BCHW), (2, 3), keepdim=True) for extreme in (torch.amin, torch.amax))
    range_BC11 = high_BC11 - low_BC11
    stretched_BCHW = ((255 * x_BCHW - low_BC11) / range_BC11.clamp(min=1)).clamp(0, 1)
    return torch.where(range_BC11 > 0, stretched_BCHW, x_BCHW)


def equalize(x_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """The 8-bit values of each channel spread so that they are about equally frequent, as PIL does it.

    A channel with too few pixels below its highest value stays as it is.
    """
    num_px = x_BCHW.shape[2] * x_BCHW.shape[3]
    value_MP = _rounded(x_BCHW).long().reshape(-1, num_px)  # every channel of every image, its pixels
    count_MV = torch.zeros(len(value_MP), 256, dtype=torch.long, device=x_BCHW.device)
    count_MV.scatter_add_(1, value_MP, torch.ones_like(value_MP))
    highest_M1 = value_MP.amax(1, keepdim=True)
    step_M1 = (num_px - count_MV.gather(1, highest_M1)) // 255
    below_MV = count_MV.cumsum(1) - count_MV
    # PIL leaves 0 at 0, whatever half a step says; that is what whole division gives, since none are below 0.
    table_MV = ((below_MV + step_M1 // 2) // step_M1.clamp(min=1)).clamp(max=255).to(x_BCHW.dtype) / 255
    equal_BCHW = table_MV.gather(1, value_MP).view(x_BCHW.shape)
    return torch.where(step_M1.view(*x_BCHW.shape[:2], 1, 1) > 0, equal_BCHW, x_BCHW)


def invert(x_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """The negative."""
    return 1 - x_BCHW


PAINTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    paint.__name__: paint
    for paint in (brightness, saturation, contrast, sharpness, posterize, solarize, auto_contrast, equalize, invert)
}
"""Operations that change values, from images and magnitudes. Those from auto_contrast on have no magnitude."""

OPERATIONS = ("identity", *MOVES, *PAINTS)
"""Names of all operations; parameters hold their places in it. All but the last, invert, are RandAugment's."""


@dataclass(frozen=True)
class Strength:
    """What an operation does at full level. At level 0 one that has a level leaves images (nearly) as they are.

    max_shear: tangent. max_shift_px: whole pixels, rounded towards 0. max_angle_deg: degrees.
    max_change: brightness, saturation, contrast and sharpness go to 1 plus or minus this.
    min_bits: what posterize keeps, from 8 at level 0.
    Solarize's threshold falls from 255 to 0, whatever the strength.
    """

    max_shear: float
    max_shift_px: float
    max_angle_deg: float
    max_change: float
    min_bits: int

    def magnitudes(self, operation_BN: Tensor, level_BN: Tensor, negative_BN: Tensor) -> Tensor:
        """What each operation is applied with, (B, N), in its own unit.

        level_BN: between 0 and 1. negative_BN: whether to go the other way, where an operation has one.
        """
        neutral_span_signed = {
            **dict.fromkeys(("shear_x", "shear_y"), (0.0, self.max_shear, True)),
            **dict.fromkeys(("translate_x", "translate_y"), (0.0, self.max_shift_px, True)),
            "rotate": (0.0, self.max_angle_deg, True),
            **dict.fromkeys(("brightness", "saturation", "contrast", "sharpness"), (1.0, self.max_change, True)),
            "posterize": (8.0, self.min_bits - 8.0, False),
            "solarize": (255.0, -255.0, False),
        }
        rows = [neutral_span_signed.get(name, (0.0, 0.0, False)) for name in OPERATIONS]
        table_L3 = torch.tensor(rows, dtype=torch.float32, device=level_BN.device)
        neutral_BN, span_BN, signed_BN = table_L3[operation_BN].unbind(-1)
        sign_BN = 1 - 2 * (negative_BN * signed_BN)
        magnitude_BN = neutral_BN + sign_BN * span_BN * level_BN
        shift_x, shift_y, bits = (OPERATIONS.index(name) for name in ("translate_x", "translate_y", "posterize"))
        is_shift_BN = (operation_BN == shift_x) | (operation_BN == shift_y)
        magnitude_BN = torch.where(is_shift_BN, magnitude_BN.trunc(), magnitude_BN)
        return torch.where(operation_BN == bits, magnitude_BN.round(), magnitude_BN)


def operate(x_BCHW: Tensor, operation_BN: Tensor, magnitude_BN: Tensor, warp: Warp, fill: Fill = "black") -> Tensor:
    """Each image after its own N operations, (B, C, H, W). Each operation sees only the images that drew it.

    operation_BN: int64, places in OPERATIONS. magnitude_BN: in the operations' own units. fill: what those that
    move pixels find outside an image.
    """
    kinds_L = torch.arange(len(OPERATIONS), device=operation_BN.device)
    # One wait for the device, for all N.
    counts_NL = (operation_BN[:, :, None] == kinds_L).sum(0).tolist()
    for n, counts in enumerate(counts_NL):
        order_B = operation_BN[:, n].argsort(stable=True)
        drawn = dict(zip(OPERATIONS, order_B.split(counts), strict=True))
        source_BCHW, x_BCHW = x_BCHW, x_BCHW.clone()
        moved_B = torch.cat([drawn[name] for name in MOVES])
        if len(moved_B):
            thetas = [maps(magnitude_BN[drawn[name], n], x_BCHW.shape[-1]) for name, maps in MOVES.items()]
            x_BCHW[moved_B] = warp(source_BCHW[moved_B], torch.cat(thetas), fill).clamp(0, 1)
        for name, paint in PAINTS.items():
            if len(index_B := drawn[name]):
                x_BCHW[index_B] = paint(source_BCHW[index_B], magnitude_BN[index_B, n])
    return x_BCHW


@dataclass(frozen=True)
class OperationPolicy(Filling):
    """Base of the policies that draw operations and their magnitudes."""

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        return operate(x_BCHW, params["operation"], params["magnitude"], warp, self.fill)
