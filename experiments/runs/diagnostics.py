"""What a transformer does: the maps it chooses, how they differ from image to image, and whether they follow the pose.

Legend: H heads, N images, M points, 2 their x and y; 22 and 23 rows and columns of linear and affine maps.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from experiments.images.draws import permutation
from experiments.machine.device import autocast
from experiments.networks.network import Network
from experiments.runs.images import DeviceImages, stratified
from stn.sampler import base_grid
from stn.transformer import tile_maps

MAX_IMAGES = 2000
POINTS = 6
"""Maps are compared on a grid of so many points a side."""

SAME = 1 / 64
"""Of the image's side, half a pixel of 32: maps that differ by less do the same, as far as the classifier can tell."""
COLLAPSED_ZOOM = (0.25, 4.0)
COLLAPSED_CONDITION = 10.0
COLLAPSED_OUT_OF_FRAME = 0.6


@dataclass(frozen=True)
class PoseRecovery:
    """Predicted against true pose, modulo what cannot be known: which constant turn, size or place is upright.

    angle_error_deg: median absolute error. angle_r2: 1 - sum(1 - cos(error)) / sum(1 - cos(spread of the truth)), the
    circular counterpart of R2: 1 is perfect, a constant has 0. log_scale_r2, shift_r2: R2; shift_error_px: median.
    None where the truth does not vary.
    """

    angle_error_deg: float | None
    angle_r2: float | None
    log_scale_r2: float | None
    shift_r2: float | None
    shift_error_px: float | None


@dataclass(frozen=True)
class Diagnosis:
    """The maps of a transformer over images.

    verdict: collapsed if typical maps are extreme; idle if all images get the same map; else working.
    identity_fraction: share of images no point of which moves by SAME. out_of_frame: mean share of output points
    that look outside the image. condition: median ratio of the map's singular values. zoom: median root of the
    determinant, above 1 where the picture is shrunk. angle_deg, angle_sd_deg: circular mean and standard deviation of
    the turns. spread_px: root mean square distance from the mean map. pose: None where the true poses are all the same.
    """

    num_images: int
    verdict: Literal["working", "idle", "collapsed"]
    identity_fraction: float
    out_of_frame: float
    condition: float
    zoom: float
    angle_deg: float
    angle_sd_deg: float
    spread_px: float
    pose: PoseRecovery | None


@dataclass(frozen=True)
class FoundMaps:
    """What a transformer does to some images, and what it would do if it undid their poses.

    found_HNM2: for each head, where its maps send the points of a grid, float64 on the CPU; relative to its tile.
    true_NM2: where the true poses, from upright to posed coordinates, send them. grid_M2: the points.
    """

    found_HNM2: Tensor
    true_NM2: Tensor
    grid_M2: Tensor
    image_px: int

    def closest_affine(self) -> tuple[Tensor, Tensor]:
        """The affine maps closest to the transformer's (H, N, 2, 3) and to the true ones (N, 2, 3)."""
        theta_N23 = fit_affine(self.found_HNM2.flatten(0, 1), self.grid_M2)
        return theta_N23.view(*self.found_HNM2.shape[:2], 2, 3), fit_affine(self.true_NM2, self.grid_M2)

    def describe(self) -> Diagnosis:
        """The diagnosis; several heads are described together, and recover no single pose."""
        num_heads, num_images = self.found_HNM2.shape[:2]
        seen_HNM2, start_HM2 = self.found_HNM2, self.grid_M2.expand(num_heads, -1, 2)
        if num_heads > 1:
            seen_HNM2, start_HM2 = _on_tiles(seen_HNM2), _on_tiles(start_HM2)
        theta_HN23, true_theta_N23 = self.closest_affine()
        theta_N23 = theta_HN23.flatten(0, 1)
        linear_N22, px = theta_N23[:, :, :2], self.image_px / 2
        singular_N2 = torch.linalg.svdvals(linear_N22)
        condition = (singular_N2[:, 0] / singular_N2[:, 1].clamp_min(1e-9)).median().item()
        zoom = torch.linalg.det(linear_N22).abs().sqrt().median().item()
        moved_px_HN = px * (seen_HNM2 - start_HM2[:, None]).norm(dim=3).amax(2)
        out_of_frame = (~(seen_HNM2.abs() <= 1).all(3)).double().mean().item()
        spread_px = px * (seen_HNM2 - seen_HNM2.mean(1, keepdim=True)).square().sum(3).mean().sqrt().item()
        angle_N = turn(linear_N22)
        resultant = torch.complex(angle_N.cos().mean(), angle_N.sin().mean())
        angle_sd = (-2 * resultant.abs().clamp(1e-12, 1).log()).clamp_min(0).sqrt()
        verdict: Literal["working", "idle", "collapsed"] = "working"
        if not (
            self.found_HNM2.isfinite().all()
            and COLLAPSED_ZOOM[0] <= zoom <= COLLAPSED_ZOOM[1]
            and condition <= COLLAPSED_CONDITION
            and out_of_frame <= COLLAPSED_OUT_OF_FRAME
        ):
            verdict = "collapsed"
        elif spread_px < SAME * self.image_px:
            verdict = "idle"
        return Diagnosis(
            num_images=num_images,
            verdict=verdict,
            identity_fraction=_number((moved_px_HN < SAME * self.image_px).double().mean()),
            out_of_frame=_number(out_of_frame),
            condition=_number(condition),
            zoom=_number(zoom),
            angle_deg=_number(resultant.angle().rad2deg()),
            angle_sd_deg=_number(angle_sd.rad2deg()),
            spread_px=_number(spread_px),
            pose=recover(theta_N23, true_theta_N23, self.image_px) if num_heads == 1 else None,
        )


def _on_tiles(points: Tensor) -> Tensor:
    """Points (H, ..., 2) relative to each head's tile to points of the image."""
    tiles = tile_maps(len(points), 1, torch.device("cpu"))
    pairs = zip(tiles, points, strict=True)
    return torch.stack([tile.apply(own.reshape(-1, 2).float())[0] for tile, own in pairs]).double().view(points.shape)


@torch.inference_mode()
def find_maps(network: Network, images: DeviceImages, precision: str) -> FoundMaps | None:
    """The transformer's maps for some of the images, in evaluation mode; None for a network without one."""
    network.eval()
    device, image_px = images.labels_N.device, images.pixels_NHWC.shape[1]
    order_N = permutation(torch.arange(len(images), device=device), seed=0, epoch=0, purpose="diagnosis")
    grid_M2 = base_grid(POINTS, POINTS, device)
    found, true = [], []
    chosen_N, _ = stratified(order_N, images.labels_N, MAX_IMAGES)
    for _, batch in images.subset(chosen_N).batches(network.num_draws, 500):
        with autocast(device, precision):
            maps = network.maps(batch)
        if maps is None:
            return None
        found.append(torch.stack([head.apply(grid_M2).float() for head in maps]))
        true.append(batch.poses.from_upright().apply(grid_M2))
    found_HNM2, true_NM2 = torch.cat(found, dim=1).double().cpu(), torch.cat(true).double().cpu()
    return FoundMaps(found_HNM2, true_NM2, grid_M2.double().cpu(), image_px)


def fit_affine(points_NM2: Tensor, grid_M2: Tensor) -> Tensor:
    """The affine maps (N, 2, 3) that come closest to sending the grid to the points, in least squares."""
    grid_M3 = torch.cat([grid_M2, torch.ones_like(grid_M2[:, :1])], dim=1)
    return (torch.linalg.pinv(grid_M3) @ points_NM2.nan_to_num(0.0, 0.0, 0.0)).mT


def turn(linear_N22: Tensor) -> Tensor:
    """Angle of the rotation that is closest to each linear map, radians, positive from x to y."""
    return torch.atan2(linear_N22[:, 1, 0] - linear_N22[:, 0, 1], linear_N22[:, 0, 0] + linear_N22[:, 1, 1])


def recover(theta_N23: Tensor, true_N23: Tensor, image_px: int) -> PoseRecovery | None:
    """How well maps from upright to posed coordinates follow the true ones."""
    angle_error = angle_r2 = log_scale_r2 = shift_r2 = shift_error = None
    true_angle_N = turn(true_N23[:, :, :2])
    if (truth := _circular_spread(true_angle_N)) > 1e-4:
        error_N = turn(theta_N23[:, :, :2]) - true_angle_N
        angle_r2 = _number(1 - _circular_spread(error_N) / truth)
        centred_N = error_N - torch.atan2(error_N.sin().mean(), error_N.cos().mean())
        angle_error = _number(torch.atan2(centred_N.sin(), centred_N.cos()).abs().median().rad2deg())
    scale_N, true_scale_N = (
        torch.linalg.det(each[:, :, :2]).abs().clamp_min(1e-12).log() / 2 for each in (theta_N23, true_N23)
    )
    if (truth := true_scale_N.var(correction=0).item()) > 1e-5:
        log_scale_r2 = _number(1 - (scale_N - true_scale_N).var(correction=0).item() / truth)
    shift_N2, true_shift_N2 = theta_N23[:, :, 2], true_N23[:, :, 2]
    if (truth := true_shift_N2.var(0, correction=0).sum().item()) > 1e-5:
        # Another choice of which place is the centre moves each map by that place, as its own image has it turned.
        error_N2, place_N22 = shift_N2 - true_shift_N2, true_N23[:, :, :2]
        known_N24 = torch.cat([place_N22, torch.eye(2, dtype=place_N22.dtype).expand_as(place_N22)], dim=2)
        best_4 = torch.linalg.lstsq(known_N24.reshape(-1, 4), error_N2.reshape(-1, 1), driver="gelsd").solution[:, 0]
        error_N2 = error_N2 - known_N24 @ best_4
        shift_r2 = _number(1 - error_N2.square().sum(1).mean().item() / truth)
        shift_error = _number(error_N2.norm(dim=1).median() * image_px / 2)
    if angle_r2 is None and log_scale_r2 is None and shift_r2 is None:
        return None
    return PoseRecovery(angle_error, angle_r2, log_scale_r2, shift_r2, shift_error)


def _circular_spread(angle_N: Tensor) -> float:
    """Mean of 1 - cos of the distance from the circular mean."""
    return 1 - torch.complex(angle_N.cos().mean(), angle_N.sin().mean()).abs().item()


def _number(value: Tensor | float) -> float:
    """Six digits, to a millionth: more would be noise. What is not finite cannot be stored, and is as bad as 1e9."""
    number = float(value)
    return float(f"{round(number, 6):.6g}") + 0.0 if abs(number) < 1e9 else 1e9  # + 0.0: no minus before zero
