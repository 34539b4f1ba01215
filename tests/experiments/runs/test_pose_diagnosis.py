"""What is said of a transformer's maps, on maps whose turns, sizes, shifts and noise are known."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.images.poses import PoseMaps, put_in_pose
from experiments.runs.diagnostics import (
    MAX_IMAGES,
    Diagnosis,
    FoundMaps,
    PoseRecovery,
    find_maps,
    fit_affine,
    recover,
    turn,
)
from experiments.runs.images import DeviceImages
from stn.affine import compose, from_parts
from stn.maps import AffineMap
from stn.sampler import base_grid
from stn.spline import NUM_CONTROL, SplineMap
from tests.support.networks import build

GRID_M2 = base_grid(6, 6, torch.device("cpu")).double()
NUM = 400


def uniform(low: float, high: float, *more: int) -> Tensor:
    return low + (high - low) * torch.rand(NUM, *more, dtype=torch.float64)


def normal(sd: float, *more: int) -> Tensor:
    return sd * torch.randn(NUM, *more, dtype=torch.float64)


def maps(angle_rad: Tensor | float = 0.0, log_scale: Tensor | float = 0.0, shift: Tensor | float = 0.0) -> Tensor:
    """Affine maps (N, 2, 3)."""
    nothing = torch.zeros(NUM, dtype=torch.float64)
    shift_N2 = shift if isinstance(shift, Tensor) else torch.full((NUM, 2), shift, dtype=torch.float64)
    return from_parts(angle_rad_B=nothing + angle_rad, log_scale_B=nothing + log_scale, shift_B2=shift_N2)


def described(theta_N23: Tensor, true_N23: Tensor | None = None, image_px: int = 32) -> Diagnosis:
    points_NM2 = AffineMap(theta_N23).apply(GRID_M2)
    # All of the same pose, where none is given.
    true_NM2 = AffineMap(maps() if true_N23 is None else true_N23).apply(GRID_M2)
    return FoundMaps(points_NM2[None], true_NM2, GRID_M2, image_px).describe()


def recovered(theta_N23: Tensor, true_N23: Tensor, image_px: int = 32) -> PoseRecovery:
    found = recover(theta_N23, true_N23, image_px)
    assert found is not None
    return found


def test_identity_maps_are_idle():
    found = described(maps())
    assert found == Diagnosis(NUM, "idle", 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, None)


def test_one_turn_for_all_is_idle_too():
    found = described(maps(math.radians(-66)))
    assert (found.verdict, found.identity_fraction, found.spread_px) == ("idle", 0.0, 0.0)
    assert found.angle_deg == pytest.approx(-66, abs=1e-3)
    assert found.angle_sd_deg == pytest.approx(0, abs=1e-3)


def test_angles_are_circular():
    angle_N = math.pi + normal(math.radians(10))
    found = described(maps(angle_N))
    assert abs(found.angle_deg) > 178
    assert found.angle_sd_deg == pytest.approx(10, abs=1)
    assert found.verdict == "working"


@pytest.mark.parametrize("spread", [0.01, 0.5])
def test_spread_is_the_root_mean_square_distance_from_the_mean_map(spread):
    shift_N2 = normal(spread, 2)
    found = described(maps(shift=shift_N2), image_px=48)
    by_hand_px = 24 * math.sqrt(((shift_N2 - shift_N2.mean(0)) ** 2).sum(1).mean())
    assert found.spread_px == pytest.approx(by_hand_px, rel=1e-4)
    assert found.verdict == ("working" if by_hand_px >= 48 / 64 else "idle")


def test_images_whose_corners_stay_within_half_a_pixel_are_left_as_they_are():
    shift_N2 = torch.zeros(NUM, 2, dtype=torch.float64)
    shift_N2[: NUM // 4, 0] = 0.51 / 16
    shift_N2[NUM // 4 :, 1] = 0.49 / 16
    assert described(maps(shift=shift_N2)).identity_fraction == pytest.approx(0.75)
    # A turn moves the outermost points of the 6x6 grid most.
    limit_rad = 0.5 / (16 * 5 / 6 * math.sqrt(2))
    assert described(maps(0.99 * limit_rad)).identity_fraction == 1
    assert described(maps(1.01 * limit_rad)).identity_fraction == 0


@pytest.mark.parametrize("spread", [0.015, 0.03])
def test_larger_images_are_judged_alike(spread):
    """By shares of the side: half a pixel of 32 is one and a half of 96."""
    theta_N23 = maps(shift=normal(spread, 2))
    small, large = (described(theta_N23, image_px=image_px) for image_px in (32, 96))
    assert small.verdict == large.verdict == ("working" if spread > 0.02 else "idle")
    assert 0 < small.identity_fraction == large.identity_fraction < 1
    assert large.spread_px == pytest.approx(3 * small.spread_px, rel=1e-4)


def test_zoom_and_condition_are_of_the_linear_part():
    theta_N23 = maps()
    theta_N23[:, :, :2] = torch.tensor([[0.0, -1.5], [0.6, 0.0]])
    found = described(theta_N23)
    assert found.zoom == pytest.approx(math.sqrt(0.9), rel=1e-5)
    assert found.condition == pytest.approx(2.5, rel=1e-5)
    assert found.angle_deg == pytest.approx(90, abs=1e-3)


def test_out_of_frame_counts_points():
    shift_N2 = torch.zeros(NUM, 2, dtype=torch.float64)
    shift_N2[: NUM // 2, 0] = 0.3  # of the columns -5/6, -3/6, ..., 5/6 the last goes out
    assert described(maps(shift=shift_N2)).out_of_frame == pytest.approx(0.5 * 1 / 6, rel=1e-5)
    assert described(maps(log_scale=math.log(2))).out_of_frame == pytest.approx(1 - 4 / 9, rel=1e-5)


def test_what_bends_is_described_by_the_closest_affine_maps():
    theta_N23 = maps(uniform(-1, 1), uniform(-0.3, 0.3), normal(0.2, 2))
    torch.testing.assert_close(fit_affine(AffineMap(theta_N23).apply(GRID_M2), GRID_M2), theta_N23)
    bent_NM2 = SplineMap(normal(0.1, NUM_CONTROL, 2)).apply(GRID_M2)
    basis_M3 = np.column_stack([GRID_M2.numpy(), np.ones(36)])
    expected = [np.linalg.lstsq(basis_M3, sent, rcond=None)[0].T for sent in bent_NM2.numpy()]
    np.testing.assert_allclose(fit_affine(bent_NM2, GRID_M2), np.stack(expected), atol=1e-9)


def test_the_turn_of_a_linear_map_is_that_of_its_polar_factor():
    linear_N22 = torch.eye(2).double() + normal(0.4, 2, 2)
    linear_N22 = linear_N22[torch.linalg.det(linear_N22) > 0.05]
    u, _, vh = np.linalg.svd(linear_N22.numpy())
    rotation = u @ vh
    np.testing.assert_allclose(turn(linear_N22), np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0]), atol=1e-9)


@pytest.mark.parametrize(
    "theta",
    [
        pytest.param(maps(uniform(-1, 1), log_scale=math.log(0.2)), id="a crop"),
        pytest.param(maps(uniform(-1, 1), log_scale=math.log(5)), id="a dot"),
        pytest.param(maps(uniform(-1, 1), shift=1.9), id="elsewhere"),
        pytest.param(maps(uniform(-1, 1)) * torch.tensor([[0.05], [1.0]]), id="a stripe"),
        pytest.param(maps(uniform(-1, 1)) * 0.0, id="one point"),
        pytest.param(maps(uniform(-1, 1)) * math.nan, id="nothing"),
        pytest.param(maps(uniform(-1, 1)) * 1e30, id="far away"),
    ],
)
def test_extreme_maps(theta):
    found = described(theta, maps(uniform(-1, 1)))
    assert found.verdict == "collapsed"
    numbers = [v for v in (asdict(found) | asdict(found.pose or found)).values() if isinstance(v, float)]
    assert len(numbers) >= 7
    assert all(math.isfinite(number) for number in numbers), "the ledger holds numbers only"


def test_a_few_extreme_maps_are_no_collapse():
    theta_N23 = maps(uniform(-1, 1))
    theta_N23[: NUM // 10] *= 0.01
    assert described(theta_N23).verdict == "working"


def test_one_map_that_is_not_finite_is_a_collapse():
    theta_N23 = maps(uniform(-1, 1))
    theta_N23[0, 0, 0] = math.inf
    found = described(theta_N23)
    assert (found.verdict, found.spread_px) == ("collapsed", 1e9)


def true_maps() -> Tensor:
    return maps(uniform(-1.5, 1.5), uniform(-0.3, 0.3), normal(0.3, 2))


def test_the_truth_is_recovered():
    true = true_maps()
    assert recovered(true, true) == PoseRecovery(0.0, 1.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    "constant", [{"angle_rad": 0.7}, {"angle_rad": -2.0}, {"angle_rad": math.pi}, {"shift": 0.4}, {"log_scale": -0.4}]
)
def test_a_constant_turn_place_or_size_is_no_error(constant):
    """What is found is true(C y): another picture is called upright. Each map finds its own image's copy of a place."""
    true = true_maps()
    found = recovered(compose(true, maps(**constant)), true)
    assert (found.angle_r2, found.log_scale_r2, found.shift_r2) == pytest.approx((1, 1, 1))
    assert found.angle_error_deg == pytest.approx(0, abs=1e-5)
    if "shift" in constant:
        assert found.shift_error_px == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("constant_rad", [0.0, 1.0])
def test_a_constant_map_recovers_nothing(constant_rad):
    true = true_maps()
    found = recovered(maps(constant_rad, 0.1, 0.2), true)
    assert (found.angle_r2, found.log_scale_r2) == pytest.approx((0, 0), abs=1e-5)
    assert found.shift_r2 == pytest.approx(0, abs=0.01)  # two numbers are fitted to chance
    assert found.angle_error_deg == pytest.approx(math.degrees(0.75), rel=0.1)  # half of U(-1.5, 1.5)
    assert found.shift_error_px == pytest.approx(16 * 0.3 * math.sqrt(2 * math.log(2)), rel=0.15)


def test_noise_is_measured():
    true = true_maps()
    noise_deg, log_noise, shift_noise = 12.0, 0.05, 0.1
    noisy = maps(
        turn(true[:, :, :2]) + normal(math.radians(noise_deg)),
        torch.linalg.det(true[:, :, :2]).log() / 2 + normal(log_noise),
        true[:, :, 2] + normal(shift_noise, 2),
    )
    found = recovered(noisy, true, image_px=48)
    assert found.angle_error_deg == pytest.approx(0.6745 * noise_deg, rel=0.15)  # median of |N(0, 1)|
    spread_truth = 1 - math.sin(1.5) / 1.5  # mean of 1 - cos over U(-1.5, 1.5)
    spread_noise = 1 - math.exp(-(math.radians(noise_deg) ** 2) / 2)
    assert found.angle_r2 == pytest.approx(1 - spread_noise / spread_truth, abs=0.02)
    assert found.log_scale_r2 == pytest.approx(1 - log_noise**2 / (0.6**2 / 12), abs=0.03)
    assert found.shift_r2 == pytest.approx(1 - shift_noise**2 / 0.3**2, abs=0.03)
    assert found.shift_error_px == pytest.approx(24 * shift_noise * math.sqrt(2 * math.log(2)), rel=0.15)


def test_turning_the_wrong_way_is_worse_than_nothing():
    true = true_maps()
    found = recovered(maps(-turn(true[:, :, :2])), true)
    assert found.angle_r2 is not None and found.angle_r2 < -0.5


def test_the_whole_circle_can_be_recovered():
    true = maps(uniform(-math.pi, math.pi))
    shifted = maps(turn(true[:, :, :2]) + 3.0)
    assert recovered(shifted, true).angle_r2 == pytest.approx(1)
    assert recovered(maps(uniform(-math.pi, math.pi)), true).angle_r2 == pytest.approx(0, abs=0.2)


def test_what_does_not_vary_has_no_score():
    some = true_maps()
    assert recover(some, maps(), 32) is None
    assert recover(some, maps(0.5, 0.2, 0.3), 32) is None
    turned = recovered(some, maps(uniform(-1, 1)))
    assert turned.angle_r2 is not None and turned.angle_error_deg is not None
    assert (turned.log_scale_r2, turned.shift_r2, turned.shift_error_px) == (None, None, None)
    grown = recovered(some, maps(log_scale=uniform(-0.3, 0.3)))
    assert grown.log_scale_r2 is not None
    assert (grown.angle_r2, grown.angle_error_deg, grown.shift_r2) == (None, None, None)
    shifted = recovered(some, maps(shift=normal(0.2, 2)))
    assert shifted.shift_r2 is not None and shifted.shift_error_px is not None
    assert (shifted.angle_r2, shifted.log_scale_r2) == (None, None)


def images_in(pose: str, num: int = 60) -> DeviceImages:
    pixels_NHWC = torch.randint(0, 256, (num, 32, 32, 3), dtype=torch.uint8)
    posed_NHWC, poses = put_in_pose(pixels_NHWC, torch.arange(num), pose, part="test")
    return DeviceImages(posed_NHWC, torch.zeros(num, dtype=torch.int64), poses)


def diagnosed(name: str, images: DeviceImages, precision: str = "fp32") -> Diagnosis:
    found = find_maps(build(name), images, precision)
    assert found is not None
    return found.describe()


@pytest.mark.parametrize("pose", ["R", "RTS"])
def test_the_oracle_knows_the_pose(pose):
    found = diagnosed("oracle_unwarp", images_in(pose))
    assert found.pose is not None
    assert found.verdict == "working" and found.num_images == 60
    assert found.pose.angle_error_deg == pytest.approx(0, abs=0.01)
    assert found.pose.angle_r2 == pytest.approx(1, abs=1e-4)
    scores = (found.pose.log_scale_r2, found.pose.shift_r2)
    assert scores == ((None, None) if pose == "R" else pytest.approx((1, 1), abs=1e-4))


@pytest.mark.parametrize("noise_deg", [5.0, 20.0])
def test_an_error_that_is_planted_is_found(noise_deg):
    """Half of a Gaussian's values are within 0.674 standard deviations."""
    images = images_in("R", 1000)
    found = diagnosed(f"oracle_unwarp:noise_deg={noise_deg}", images)
    assert found == diagnosed(f"oracle_unwarp:noise_deg={noise_deg}", images)
    assert found.pose is not None
    assert found.pose.angle_error_deg == pytest.approx(0.674 * noise_deg, rel=0.15)
    assert found.pose.angle_r2 is not None and 0.8 < found.pose.angle_r2 < 0.999


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["stn_affine", "stn_frozen", "stn_tps", "stn_affine:place=shared"])
def test_a_transformer_that_has_not_learned_is_idle(name, precision):
    found = diagnosed(name, images_in("R"), precision)
    assert (found.verdict, found.identity_fraction, found.spread_px) == ("idle", 1.0, 0.0)
    assert found.pose is not None and found.pose.angle_r2 == pytest.approx(0, abs=1e-4)


def test_random_maps_work_and_recover_nothing():
    images = images_in("R", 300)
    found = diagnosed("stn_random", images)
    assert found.pose is not None and found.pose.angle_r2 is not None
    assert found.verdict == "working"
    assert found.pose.angle_r2 < 0
    assert found == diagnosed("stn_random", images)


def test_several_heads_are_described_together_and_have_no_pose():
    found = diagnosed("stn_affine:heads=4", images_in("R"))
    assert (found.pose, found.num_images) == (None, 60)


def test_a_network_without_a_transformer_has_no_diagnosis():
    assert find_maps(build("cnn"), images_in("R"), "fp32") is None


def test_upright_images_have_no_pose_to_recover():
    assert diagnosed("stn_affine", images_in("upright")).pose is None


def test_only_the_first_images_are_looked_at():
    many = MAX_IMAGES + 10
    images = images_in("upright", 8).subset(torch.arange(many) % 8)
    images = replace(images, true_poses=PoseMaps(torch.eye(3).repeat(many, 1, 1)))
    assert diagnosed("stn_frozen", images).num_images == MAX_IMAGES
