"""Changes of colour and light. Levels are CIFAR-10-C's."""

import torch
from torch import Tensor

from experiments.images.corruptions.corruption import corruption


@corruption("photometric", "contrast", 0.75, 0.5, 0.4, 0.3, 0.15)
def contrast(x_BCHW: Tensor, u_BK: Tensor, factor: float) -> Tensor:
    """The distance of each channel from its mean times this factor."""
    return torch.lerp(x_BCHW.mean((2, 3), keepdim=True).expand_as(x_BCHW), x_BCHW, factor)


@corruption("photometric", "brightness", 0.05, 0.1, 0.15, 0.2, 0.3)
def brightness(x_BCHW: Tensor, u_BK: Tensor, step: float) -> Tensor:
    """The value of HSV raised by this much; hue and saturation stay."""
    value_B1HW = x_BCHW.amax(1, keepdim=True)
    raised_B1HW = (value_B1HW + step).clamp(max=1)
    # A colour is its value times what hue and saturation say. Black has neither and becomes grey.
    tint_BCHW = torch.where(value_B1HW > 0, x_BCHW / value_B1HW.clamp_min(1e-9), 1.0)
    return raised_B1HW * tint_BCHW


@corruption("photometric", "saturate", (0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2), is_extra=True)
def saturate(x_BCHW: Tensor, u_BK: Tensor, level: tuple[float, float]) -> Tensor:
    """The saturation of HSV times a factor, plus a step. Greys, whose hue is 0, are tinted red by the step.

    Images of one channel have no hue to be tinted with, and stay as they are.
    """
    factor, step = level
    value_B1HW = x_BCHW.amax(1, keepdim=True)
    missing_BCHW = value_B1HW - x_BCHW
    range_B1HW = missing_BCHW.amax(1, keepdim=True)
    saturation_B1HW = range_B1HW / value_B1HW.clamp_min(1e-9)
    changed_B1HW = (saturation_B1HW * factor + step).clamp(0, 1)
    # How much of what the strongest lack a channel lacks is a matter of hue alone.
    red_1C11 = (torch.arange(x_BCHW.shape[1], device=x_BCHW.device) > 0).to(x_BCHW.dtype)[None, :, None, None]
    share_BCHW = torch.where(range_B1HW > 0, missing_BCHW / range_B1HW.clamp_min(1e-9), red_1C11)
    return value_B1HW * (1 - changed_B1HW * share_BCHW)
