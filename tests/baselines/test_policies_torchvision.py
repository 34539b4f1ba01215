"""The augmentation ladder against torchvision, image by image on the same parameters, and its draws."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as TF

from baselines.policies import POLICIES
from baselines.policies.cutout import Cutout
from baselines.policies.elastic import Elastic
from baselines.policies.perspective import CORNERS, Perspective, homography_to_corners
from baselines.policies.scale import Scale
from baselines.policies.translate import Translate
from stn.sampler import warp
from tests.support.policies import applied, draws

BILINEAR = InterpolationMode.BILINEAR
u01 = st.floats(0, 1, exclude_max=True, width=32)


@pytest.mark.parametrize("image_px", [17, 32])
def test_translate_and_scale_are_torchvision_s(image_px):
    x_BCHW = torch.rand(12, 3, image_px, image_px)
    shift, scale = Translate(max_shift=0.4), Scale(max_scale=2.5)
    shifts, scales = shift.draw(draws(shift, 12), image_px), scale.draw(draws(scale, 12), image_px)
    shifted, scaled = shift.apply(x_BCHW, shifts, warp), scale.apply(x_BCHW, scales, warp)
    for i in range(12):
        move_px = (shifts["shift"][i] * image_px).tolist()
        theirs = TF.affine(x_BCHW[i], 0.0, move_px, 1.0, [0.0, 0.0], BILINEAR)
        torch.testing.assert_close(shifted[i], theirs, atol=2e-4, rtol=0)
        theirs = TF.affine(x_BCHW[i], 0.0, [0.0, 0.0], scales["scale"][i].item(), [0.0, 0.0], BILINEAR)
        torch.testing.assert_close(scaled[i], theirs, atol=2e-4, rtol=0)


def test_whole_pixels_are_moved_exactly():
    x_BCHW = torch.rand(1, 3, 32, 32)
    moved = Translate().apply(x_BCHW, {"shift": torch.tensor([[3 / 32, -2 / 32]])}, warp)
    torch.testing.assert_close(moved[:, :, :-2, 3:], x_BCHW[:, :, 2:, :-3], atol=1e-5, rtol=0)
    assert moved[:, :, -2:].abs().max() < 1e-4
    assert moved[..., :3].abs().max() < 1e-4


@given(u01, st.floats(1, 8))
def test_scales_are_log_uniform(u, max_scale):
    policy = Scale(max_scale=max_scale)
    scale = policy.draw(torch.tensor([[u]]), 32)["scale"].item()
    assert math.log(scale) == pytest.approx((2 * u - 1) * math.log(max_scale), abs=1e-5)


@pytest.mark.parametrize("image_px", [17, 32])
@pytest.mark.parametrize("distortion_scale", [0.2, 0.5, 0.65])
def test_perspective_is_torchvision_s(image_px, distortion_scale):
    policy = Perspective(distortion_scale)
    # Smooth, so that a coordinate's rounding shows as little in the value as it is.
    x_BCHW = torch.nn.functional.interpolate(torch.rand(12, 3, 5, 5), image_px, mode="bicubic").clamp(0, 1)
    params = policy.draw(draws(policy, 12), image_px)
    ours = policy.apply(x_BCHW, params, warp)
    assert ours.isfinite().all()
    # Without `fill`: with fill=0 torchvision multiplies the half-covered pixels of an edge by their cover twice.
    start = ((torch.tensor(CORNERS) + 1) * image_px / 2).tolist()
    for i in range(12):
        end = ((params["corners"][i] + 1) * image_px / 2).tolist()
        theirs = TF.perspective(x_BCHW[i], start, end, BILINEAR)
        torch.testing.assert_close(ours[i], theirs, atol=1e-3, rtol=0)


@given(st.lists(u01, min_size=8, max_size=8), st.floats(0, 0.6))
def test_moved_corners_come_from_the_image_s_own(u, distortion_scale):
    corners_142 = Perspective(distortion_scale).draw(torch.tensor([u]), 32)["corners"]
    inward = 1 - corners_142.abs()
    assert inward.min() >= -1e-6
    assert inward.max() <= distortion_scale + 1e-6
    theta_133 = homography_to_corners(corners_142.double())
    there_143 = torch.cat([corners_142, torch.ones(1, 4, 1)], -1).double() @ theta_133.mT
    assert there_143[..., 2].min() > 0  # nothing lies behind the horizon
    found_142 = there_143[..., :2] / there_143[..., 2:]
    torch.testing.assert_close(found_142[0], torch.tensor(CORNERS).double(), atol=1e-9, rtol=0)


def test_corners_that_stay_leave_the_image_as_it_is():
    x_BCHW = torch.rand(2, 3, 32, 32)
    still = Perspective().apply(x_BCHW, {"corners": torch.tensor(CORNERS).expand(2, 4, 2)}, warp)
    torch.testing.assert_close(still, x_BCHW, atol=1e-5, rtol=0)


@pytest.mark.parametrize("image_px", [17, 32])
def test_elastic_is_torchvision_s_on_the_same_displacements(image_px):
    policy = Elastic(alpha=120)
    x_BCHW = torch.rand(6, 3, image_px, image_px)
    params = policy.draw(draws(policy, 6), image_px)
    ours = policy.apply(x_BCHW, params, warp)
    moved_BHW2 = policy.displacement(params["noise"], image_px, image_px)
    assert moved_BHW2.abs().max() > 0.1
    for i in range(6):
        theirs = TF.elastic(x_BCHW[i], moved_BHW2[i : i + 1], BILINEAR)
        torch.testing.assert_close(ours[i], theirs, atol=2e-4, rtol=0)


@pytest.mark.parametrize(("alpha", "sigma_px"), [(50.0, 5.0), (34.0, 3.0)])
def test_the_field_is_distributed_as_torchvision_s(alpha, sigma_px):
    policy, oracle = Elastic(alpha, sigma_px), v2.ElasticTransform(alpha, sigma_px)
    num, image = 1500, [torch.zeros(3, 32, 32)]
    ours = policy.displacement(policy.draw(draws(policy, num), 32)["noise"], 32, 32)
    theirs = torch.cat([oracle.make_params(image)["displacement"] for _ in range(num)])
    for rows in (slice(0, 3), slice(14, 18), slice(29, 32)):  # the edges as well
        torch.testing.assert_close(ours[:, rows].std(), theirs[:, rows].std(), atol=0, rtol=0.06)
    for lag in (1, 3, 6):
        alike = [(a[:, :, lag:] * a[:, :, :-lag]).mean() / (a**2).mean() for a in (ours, theirs)]
        torch.testing.assert_close(*alike, atol=0.05, rtol=0)
    down_right = (ours[..., 0] * ours[..., 1]).mean() / (ours**2).mean()
    assert abs(down_right) < 0.05


def test_the_same_field_at_every_size():
    policy = Elastic()
    noise = policy.draw(draws(policy, 4), 32)["noise"]
    coarse, fine = policy.displacement(noise, 32, 32), policy.displacement(noise, 96, 96)
    torch.testing.assert_close(fine[:, 1::3, 1::3], coarse, atol=1e-5, rtol=0)


def test_no_strength_leaves_images_as_they_are():
    policy, x_BCHW = Elastic(alpha=0), torch.rand(2, 3, 32, 32)
    assert torch.equal(applied(policy, x_BCHW), x_BCHW)


@pytest.mark.parametrize(("image_px", "side_px"), [(32, 16), (64, 32), (8, 4), (33, 16)])
def test_cutout_is_torchvision_s_erasing(image_px, side_px):
    policy = Cutout(fill=0.25)
    x_BCHW = torch.rand(50, 3, image_px, image_px)
    params = policy.draw(draws(policy, 50), image_px)
    ours = policy.apply(x_BCHW, params, warp)
    for i, (row, column) in enumerate(params["centre_px"].tolist()):
        top, left = max(row - side_px // 2, 0), max(column - side_px // 2, 0)
        bottom, right = min(row + side_px // 2, image_px), min(column + side_px // 2, image_px)
        theirs = TF.erase(x_BCHW[i], top, left, bottom - top, right - left, torch.tensor(0.25))
        assert torch.equal(ours[i], theirs)


def test_every_centre_is_as_likely():
    policy = Cutout()
    centre_px_B2 = policy.draw(draws(policy, 16_000), 8)["centre_px"]
    counts = (centre_px_B2[:, 0] * 8 + centre_px_B2[:, 1]).bincount(minlength=64)
    assert counts.shape == (64,)
    # 250 each, of standard deviation 16.
    assert counts.min() > 185
    assert counts.max() < 320


@given(st.integers(1, 100), u01)
def test_centres_are_in_the_image(image_px, u):
    centre_px = Cutout().draw(torch.tensor([[u, 1 - 2.0**-24]]), image_px)["centre_px"].tolist()[0]
    assert 0 <= centre_px[0] < image_px
    assert centre_px[1] == image_px - 1


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("affine", "max_scale", 0.9),
        ("affine", "max_scale", 0.0),
        ("affine", "max_scale", math.inf),
        ("affine", "max_shear_deg", 90.0),
        ("translate", "max_shift", -0.1),
        ("translate", "max_shift", 1.1),
        ("scale", "max_scale", 0.5),
        ("scale", "max_scale", math.inf),
        ("perspective", "distortion_scale", -0.1),
        ("perspective", "distortion_scale", 2 / 3),
        ("elastic", "alpha", -1.0),
        ("elastic", "sigma_px", 2.0),
        ("elastic", "sigma_px", 17.0),
        ("cutout", "hole_px", -1.0),
        ("cutout", "fill", 1.5),
        ("rand_augment", "num_ops", 0),
        ("rand_augment", "num_ops", 5),
        ("rand_augment", "num_ops", 1.5),
        ("rand_augment", "magnitude", 31.0),
    ],
)
def test_absurd_hyperparameters_are_refused(name, key, value):
    with pytest.raises(ValueError, match=f"{key}: {value} is not "):
        POLICIES[name](**{key: value})


@pytest.mark.parametrize(
    "name", ["affine", "rotate", "translate", "scale", "perspective", "elastic", "cutout", "rand_augment"]
)
def test_what_is_not_a_number_is_refused(name):
    numbers = [field for field in dataclasses.fields(POLICIES[name]) if not isinstance(field.default, str)]  # type: ignore[arg-type]
    for field in numbers:
        with pytest.raises(ValueError, match=f"{field.name}: nan is not "):
            POLICIES[name](**{field.name: math.nan})


@pytest.mark.parametrize("name", list(POLICIES))
@pytest.mark.parametrize("fill", [0.0, 0.5, 1.0])
def test_flat_images_give_numbers(name, fill):
    y_BCHW = applied(POLICIES[name](), torch.full((64, 3, 16, 16), fill))
    assert y_BCHW.isfinite().all()
    assert 0 <= y_BCHW.min() <= y_BCHW.max() <= 1
