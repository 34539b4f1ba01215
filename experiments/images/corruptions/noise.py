"""Noise: each value of an image by itself. Levels are CIFAR-10-C's."""

import torch
from torch import Tensor

from experiments.images.corruptions.corruption import corruption
from experiments.images.draws import normal


@corruption("photometric", "gaussian_noise", 0.04, 0.06, 0.08, 0.09, 0.10, num_draws="values")
def gaussian_noise(x_BCHW: Tensor, u_BCHW: Tensor, sd: float) -> Tensor:
    """Normal noise of this standard deviation."""
    return x_BCHW + sd * normal(u_BCHW).float()


@corruption("photometric", "speckle_noise", 0.06, 0.1, 0.12, 0.16, 0.2, num_draws="values", is_extra=True)
def speckle_noise(x_BCHW: Tensor, u_BCHW: Tensor, sd: float) -> Tensor:
    """Normal noise of this standard deviation times the value."""
    return x_BCHW + x_BCHW * sd * normal(u_BCHW).float()


@corruption("photometric", "impulse_noise", 0.01, 0.02, 0.03, 0.05, 0.07, num_draws="values")
def impulse_noise(x_BCHW: Tensor, u_BCHW: Tensor, share: float) -> Tensor:
    """This share of the values replaced, half of them by 0, half by 1."""
    # From both ends, so that what is replaced at one severity is replaced by the same at the next.
    x_BCHW = torch.where(u_BCHW < share / 2, 0.0, x_BCHW)
    return torch.where(u_BCHW >= 1 - share / 2, 1.0, x_BCHW)


@corruption("photometric", "shot_noise", 500.0, 250.0, 100.0, 75.0, 50.0, num_draws="values", is_extra=True)
def shot_noise(x_BCHW: Tensor, u_BCHW: Tensor, num_photons: float) -> Tensor:
    """Poisson noise, where a value of 1 stands for so many photons. Values are taken as 8-bit numbers."""
    # The inverse of the distribution, of which there are 256. Each row of the table lies above the one before it, so
    # all are one sorted list, and one search finds every count.
    device, dtype = x_BCHW.device, torch.float64
    mean_V1 = torch.arange(256, device=device, dtype=dtype)[:, None] / 255 * num_photons
    count_J = torch.arange(int(num_photons + 8 * num_photons**0.5 + 10), device=device, dtype=dtype)
    chance_VJ = (torch.xlogy(count_J, mean_V1) - mean_V1 - (count_J + 1).lgamma()).exp()
    at_most_VJ = chance_VJ.cumsum(1).clamp(max=1)
    row_BCHW = (x_BCHW * 255).round().long()
    table = (at_most_VJ + torch.arange(256, device=device)[:, None]).flatten()
    place_BCHW = torch.searchsorted(table, (u_BCHW.double() + row_BCHW).contiguous())
    return (place_BCHW - row_BCHW * len(count_J)).to(x_BCHW.dtype) / num_photons
