"""The algebra of 2x3 affine maps. Every function takes and returns batches.

Legend: B images; 23 the two rows of a 3x3 homogeneous matrix whose last row is (0, 0, 1).
Convention: (x, y) column vectors, x to the right, y down, origin in the image's centre. A map says nothing of its
direction; the names of the tensors that hold one do (`theta_out_to_in_B23`).
"""

import torch
from torch import Tensor


def identity(num: int, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """num copies of the identity, (B, 2, 3)."""
    return torch.eye(2, 3, device=device, dtype=dtype).expand(num, 2, 3).clone()


def from_parts(
    *,
    angle_rad_B: Tensor,
    log_scale_B: Tensor | None = None,
    shear_rad_B: Tensor | None = None,
    shift_B2: Tensor | None = None,
) -> Tensor:
    """Shear along x, then scale, then rotate, then shift: (B, 2, 3).

    angle_rad_B: positive turns x towards y, which on the screen (y down) is clockwise.
    log_scale_B: natural logarithm of the isotropic scale. shear_rad_B: x gains tan(shear) * y.
    shift_B2: in normalised coordinates, where the image is 2 wide.
    """
    cos_B, sin_B = angle_rad_B.cos(), angle_rad_B.sin()
    linear_B22 = torch.stack([torch.stack([cos_B, -sin_B], -1), torch.stack([sin_B, cos_B], -1)], -2)
    if log_scale_B is not None:
        linear_B22 = linear_B22 * log_scale_B.exp()[:, None, None]
    if shear_rad_B is not None:
        tan_B = shear_rad_B.tan()
        one_B, zero_B = torch.ones_like(tan_B), torch.zeros_like(tan_B)
        shear_B22 = torch.stack([torch.stack([one_B, tan_B], -1), torch.stack([zero_B, one_B], -1)], -2)
        linear_B22 = linear_B22 @ shear_B22
    if shift_B2 is None:
        shift_B2 = torch.zeros_like(linear_B22[:, :, 0])
    return torch.cat([linear_B22, shift_B2[:, :, None]], dim=-1)


def compose(outer_B23: Tensor, inner_B23: Tensor) -> Tensor:
    """The map that applies `inner` first and `outer` to its result: (B, 2, 3)."""
    linear_B22, shift_B21 = outer_B23[:, :, :2], outer_B23[:, :, 2:]
    product_B23 = linear_B22 @ inner_B23
    return torch.cat([product_B23[:, :, :2], product_B23[:, :, 2:] + shift_B21], dim=-1)


def inverse(theta_B23: Tensor) -> Tensor:
    """The map that undoes theta: (B, 2, 3). A singular theta gives infinities or NaN, not an error."""
    a_B, b_B = theta_B23[:, 0, 0], theta_B23[:, 0, 1]
    c_B, d_B = theta_B23[:, 1, 0], theta_B23[:, 1, 1]
    adjugate_B22 = torch.stack([torch.stack([d_B, -b_B], -1), torch.stack([-c_B, a_B], -1)], -2)
    linear_B22 = adjugate_B22 / (a_B * d_B - b_B * c_B)[:, None, None]
    return torch.cat([linear_B22, -linear_B22 @ theta_B23[:, :, 2:]], dim=-1)
