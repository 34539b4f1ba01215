"""Thin-plate splines through a regular grid of control points.

Legend: B images, N points, K control points, 2 their x and y.
"""

from functools import lru_cache

import torch
from torch import Tensor

from stn.maps import in_float32

GRID = 4
NUM_CONTROL = GRID * GRID


def control_points(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """(K, 2) points (x, y), row by row, from corner to corner of the image."""
    side = torch.linspace(-1, 1, GRID, device="cpu", dtype=torch.float64)
    y_K, x_K = (axis.flatten() for axis in torch.meshgrid(side, side, indexing="ij"))
    return torch.stack([x_K, y_K], dim=1).to(device, dtype)


def _radial(points: Tensor, control_K2: Tensor) -> Tensor:
    """U(r) = r^2 log r^2 of the distances r, and 1, x, y: (..., K + 3)."""
    square = (points[..., None, :] - control_K2).square().sum(-1)
    bend = square * square.clamp_min(1e-12).log()
    return torch.cat([bend, torch.ones_like(points[..., :1]), points], dim=-1)


@lru_cache(maxsize=16)
def _solution(device: torch.device, dtype: torch.dtype) -> Tensor:
    """(K + 3, K): from the control points' moves to the spline's weights."""
    with torch.inference_mode(False):
        control_K2 = control_points(dtype=torch.float64)
        system = torch.zeros(NUM_CONTROL + 3, NUM_CONTROL + 3, dtype=torch.float64, device="cpu")
        system[:NUM_CONTROL] = _radial(control_K2, control_K2)
        system[NUM_CONTROL:, :NUM_CONTROL] = system[:NUM_CONTROL, NUM_CONTROL:].T
        return torch.linalg.inv(system)[:, :NUM_CONTROL].to(device, dtype)


class SplineMap:
    """The smoothest maps that move each control point by its own step.

    step_BK2: in normalised coordinates.
    Source: Bookstein 1989, Principal Warps: Thin-Plate Splines and the Decomposition of Deformations.
    """

    def __init__(self, step_BK2: Tensor) -> None:
        self.step_BK2 = step_BK2

    def __len__(self) -> int:
        return len(self.step_BK2)

    def apply(self, points: Tensor) -> Tensor:
        dtype = self.step_BK2.dtype
        with in_float32(points):
            basis = _radial(points, control_points(points.device, dtype)) @ _solution(points.device, dtype)
            return points + basis @ self.step_BK2

    def apply_inverse(self, points_BN2: Tensor, num_iterations: int = 20) -> Tensor:
        """The points that the map sends to these, by fixed-point iteration; for moves that fold nothing over."""
        source_BN2 = points_BN2
        for _ in range(num_iterations):
            source_BN2 = source_BN2 + (points_BN2 - self.apply(source_BN2))
        return source_BN2
