"""What the corners of turned images give away: with a disc nothing, with black ones the angle.

The frame of a square image looks the same after a quarter turn, so what can be read from it is four times the angle.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.images.poses import disc_mask, no_pose, put_in_pose


@pytest.fixture(scope="module", params=["sprites", "real"])
def upright(request: pytest.FixtureRequest) -> Tensor:
    """2,000 images of 32 px, uint8 (N, H, W, C)."""
    if request.param == "sprites":
        from experiments.images.tasks.sprites import draw

        return torch.from_numpy(draw(0, range(2000)).pixels_NHWC)
    folder: Path = request.getfixturevalue("real_images")
    from PIL import Image

    paths = [path for kind in sorted((folder / "train").iterdir()) for path in sorted(kind.iterdir())[:200]]
    images = [np.asarray(Image.open(path).convert("RGB").resize((32, 32))) for path in paths]
    return torch.from_numpy(np.stack(images))


def corners() -> Tensor:
    return ~disc_mask(no_pose(1), 32)[0, :, :, 0]


def rim() -> Tensor:
    """The outermost pixels of the disc, a ring 0.7 px wide."""
    centre_px = torch.arange(32) - 15.5
    return disc_mask(no_pose(1), 32)[0, :, :, 0] & (centre_px[:, None] ** 2 + centre_px**2 > 15.3**2)


def r2_of_the_angle(upright_NHWC: Tensor, pose: str, seen_HW: Tensor) -> float:
    """R2 on images held out of a ridge regression from these pixels to the cosine and sine of four times the angle."""
    num = len(upright_NHWC)
    posed_NHWC, maps = put_in_pose(upright_NHWC, torch.arange(num), pose, part="train")
    angle_N = torch.atan2(maps.theta_N33[:, 1, 0], maps.theta_N33[:, 0, 0]).double()
    target_N2 = torch.stack([(4 * angle_N).cos(), (4 * angle_N).sin()], dim=1)
    grey_NP = posed_NHWC[:, seen_HW].double().mean(2) / 255
    # A layer of random neurons makes the regression see more than straight lines.
    hidden_NQ = (grey_NP @ torch.randn(grey_NP.shape[1], 300, dtype=torch.float64) / grey_NP.shape[1] ** 0.5).relu()
    black_NP = (grey_NP < 0.02).double()
    feature_NF = torch.cat([grey_NP, black_NP, hidden_NQ, torch.ones(num, 1, dtype=torch.float64)], dim=1)
    order_N = torch.randperm(num)
    fit, rest = order_N[: num * 3 // 4], order_N[num * 3 // 4 :]
    gram_FF = feature_NF[fit].T @ feature_NF[fit] + 3 * torch.eye(feature_NF.shape[1], dtype=torch.float64)
    weight_F2 = torch.linalg.solve(gram_FF, feature_NF[fit].T @ target_N2[fit])
    error = (feature_NF[rest] @ weight_F2 - target_N2[rest]).square().sum()
    return 1 - (error / (target_N2[rest] - target_N2[fit].mean(0)).square().sum()).item()


@pytest.mark.parametrize(
    "pose", ["R", *(pytest.param(f"R:max_deg={deg}", marks=pytest.mark.long) for deg in (30, 180))]
)
def test_behind_a_disc_the_corners_do_not_tell_the_angle(upright, pose):
    posed_NHWC, _ = put_in_pose(upright, torch.arange(len(upright)), pose, part="train")
    assert not posed_NHWC[:, corners()].any()
    assert abs(r2_of_the_angle(upright, pose, corners())) < 0.02


@pytest.mark.parametrize("pose", ["R:corners=zeros", "R:max_deg=180:corners=zeros"])
def test_black_corners_do(upright, pose):
    assert r2_of_the_angle(upright, pose, corners()) > 0.9


def test_the_frame_of_a_shifted_image_does_not_tell_the_angle():
    """White images show nothing but their outline; under `zeros` that is a turned square."""
    white = torch.full((2000, 32, 32, 3), 255, dtype=torch.uint8)
    everywhere = torch.ones(32, 32, dtype=torch.bool)
    assert r2_of_the_angle(white, "RTS", everywhere) < 0.1
    assert r2_of_the_angle(white, "RTS:corners=zeros", everywhere) > 0.5


def test_reflected_corners_tell_little(upright):
    assert r2_of_the_angle(upright, "R:corners=reflect", corners()) < 0.4


def test_the_rim_of_the_disc_does_not_tell_the_angle(upright):
    assert r2_of_the_angle(upright, "R", rim()) < 0.2
