"""Poses: each image's is its own, for ever; what the disc hides, and which way pictures turn."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from experiments.images.draws import normal, uniform
from experiments.images.poses import (
    POSES,
    PoseMaps,
    disc_mask,
    no_pose,
    parse_pose,
    posed_px,
    posing,
    put_in_pose,
)
from experiments.images.resampling import resample
from stn.maps import AffineMap
from stn.sampler import Sampler, base_grid

POSED = ["R", "RTS", "P", "E", "TC", "R:max_deg=180:corners=zeros", "RTS:shift=0.25:canvas_px=42", "P:corners=reflect"]
every_pose = pytest.mark.parametrize("pose", POSED)
CPU = torch.device("cpu")
u01 = st.floats(0, 1, exclude_max=True, width=32)


def pixels(num: int, size_px: int = 32) -> Tensor:
    return torch.randint(0, 256, (num, size_px, size_px, 3), dtype=torch.uint8)


def posed(*args, **kwargs) -> Tensor:
    return put_in_pose(*args, **kwargs)[0]


def in_to_out(pose: str, *u: float) -> Tensor:
    """Where a pose without a bend sends upright points, (2, 3), float64."""
    theta_N33 = parse_pose(pose).draw(torch.tensor([u]), 32).theta_N33.double()
    return torch.linalg.inv(theta_N33)[0, :2]


def same(a: PoseMaps, b: PoseMaps) -> bool:
    bends = [each.bend.step_BK2 for each in (a, b) if each.bend is not None]
    return torch.equal(a.theta_N33, b.theta_N33) and (not bends or torch.equal(*bends))


def test_every_pose_is_tested():
    assert {pose.split(":")[0] for pose in POSED} == set(POSES) - {"upright"}


def test_upright_images_stay_as_they_are():
    x_NHWC = pixels(5)
    x_too, maps = put_in_pose(x_NHWC, torch.arange(5), "upright", part="train")
    assert torch.equal(x_too, x_NHWC)
    assert torch.equal(maps.theta_N33, torch.eye(3).expand(5, 3, 3))
    assert maps.bend is None


@every_pose
def test_pose_which_is_a_function_of_part_and_index_alone(pose):
    pool, index_N = pixels(140, 16), torch.arange(100, 140)
    x_NHWC = pool[100:]
    together, maps = put_in_pose(x_NHWC, index_N, pose, part="train", pool_MHWC=pool)
    torch.manual_seed(7)
    order = torch.randperm(40)
    for some in (torch.arange(40), order, torch.arange(1), torch.arange(5, 12), torch.arange(12, 40)):
        few, few_maps = put_in_pose(x_NHWC[some], index_N[some], pose, part="train", pool_MHWC=pool)
        assert torch.equal(few, together[some])
        assert same(few_maps, maps[some])


@pytest.mark.parametrize("pose", ["R", "E", "TC:canvas_px=12"])
def test_in_chunks_without_seams(pose, monkeypatch):
    monkeypatch.setattr(posing, "POSED_AT_ONCE_PX", 900 * 8**2)  # 900 images, or 400 of TC's canvases
    x_NHWC, index_N = pixels(2060, 8), torch.arange(2060)
    together, maps = put_in_pose(x_NHWC, index_N, pose, part="train")
    assert len(together) == len(maps) == 2060
    last, last_maps = put_in_pose(x_NHWC[2040:], index_N[2040:], pose, part="train", pool_MHWC=x_NHWC)
    assert torch.equal(last, together[2040:])
    assert same(last_maps, maps[index_N[2040:]])


@every_pose
def test_in_each_part(pose):
    x_NHWC = pixels(1).expand(30, -1, -1, -1)
    index_N = torch.arange(30)
    train, test = (posed(x_NHWC, index_N, pose, part=part) for part in ("train", "test"))
    assert (train != test).flatten(1).any(1).all()
    assert len({image.numpy().tobytes() for image in train}) == 30


def test_in_each_kind_of_pose():
    index_N = torch.arange(200)
    angles = []
    for pose in ("R", "RTS"):
        theta_N33 = put_in_pose(pixels(200, 8), index_N, pose, part="train")[1].theta_N33
        angles.append(torch.atan2(theta_N33[:, 1, 0], theta_N33[:, 0, 0]))
    assert abs(torch.corrcoef(torch.stack(angles))[0, 1]) < 0.25


@pytest.mark.parametrize("max_deg", [15, 30, 60, 180])
def test_of_turns(max_deg):
    x_NHWC, index_N = pixels(50, 8), torch.arange(50)
    angles = []
    for pose in ("R", f"R:max_deg={max_deg}:corners=zeros"):
        theta_N33 = put_in_pose(x_NHWC, index_N, pose, part="train")[1].theta_N33.double()
        angles.append(torch.atan2(theta_N33[:, 1, 0], theta_N33[:, 0, 0]).rad2deg())
    torch.testing.assert_close(angles[1], angles[0] * (max_deg / 90), atol=1e-3, rtol=0)
    assert 0.8 * max_deg < angles[1].abs().max() <= max_deg


def test_of_shifts_bends_and_corners():
    x_NHWC, index_N = pixels(50, 8), torch.arange(50)

    def maps(pose: str) -> PoseMaps:
        return put_in_pose(x_NHWC, index_N, pose, part="train")[1]

    still = "RTS:max_deg=0:min_scale=1:max_scale=1"
    wide, narrow = (maps(f"{still}:shift={shift}").theta_N33[:, :2, 2] for shift in (0.2, 0.1))
    torch.testing.assert_close(wide, 2 * narrow)
    weak, weaker = (maps(f"E:sigma={sigma}").bend.step_BK2 for sigma in (0.02, 0.01))  # type: ignore[union-attr]
    torch.testing.assert_close(weak, 2 * weaker)
    u_NK = uniform(index_N, 9, seed=0, epoch=0, purpose="any")
    corner_N42, upright_42 = (
        parse_pose(f"P:min_scale=1:corner_sd={sd}").posed_corners(u_NK)  # type: ignore[attr-defined]
        for sd in (0.02, 0)
    )
    wider_N42 = parse_pose("P:min_scale=1:corner_sd=0.04").posed_corners(u_NK)  # type: ignore[attr-defined]
    torch.testing.assert_close(wider_N42 - upright_42, 2 * (corner_N42 - upright_42))


def test_of_clutter():
    """More pieces lie on those that were there; the place stays."""
    x_NHWC, index_N = pixels(30, 8), torch.arange(30)
    few, few_maps = put_in_pose(x_NHWC, index_N, "TC:canvas_px=30:num_pieces=3", part="train")
    many, many_maps = put_in_pose(x_NHWC, index_N, "TC:canvas_px=30:num_pieces=4", part="train")
    assert same(few_maps, many_maps)
    changed_N = (few != many).any(-1).flatten(1).sum(1)
    assert 0 < changed_N.max() <= 4  # one piece of 2 x 2 pixels
    assert (changed_N > 0).float().mean() > 0.6


@pytest.mark.parametrize("pose", ["R", "RTS", "P", "E", "RTS:canvas_px=42"])
@pytest.mark.parametrize("size_px", [16, 31, 32])
def test_outside_the_disc_is_black_and_inside_is_the_warped_picture(pose, size_px):
    x_NHWC, index_N = pixels(6, size_px), torch.arange(6)
    seen, maps = put_in_pose(x_NHWC, index_N, pose, part="test")
    side_px = posed_px(pose, size_px)
    assert seen.shape == (6, side_px, side_px, 3)
    assert seen.dtype == torch.uint8
    inside_NHW = (maps.apply(base_grid(side_px, side_px, CPU)).norm(dim=2) <= 1).view(6, side_px, side_px)
    assert not seen[~inside_NHW].any()
    warped = resample(x_NHWC.permute(0, 3, 1, 2).float(), maps, side_px).clamp(0, 255)
    assert (seen.float() - warped.permute(0, 2, 3, 1))[inside_NHW].abs().max() <= 0.5 + 1e-3


@pytest.mark.parametrize("pose", ["R", "RTS", "P", "E"])
def test_corners_say_what_is_outside(pose):
    white, index_N = torch.full((20, 32, 32, 3), 255, dtype=torch.uint8), torch.arange(20)
    disc, zeros, reflect = (
        posed(white, index_N, f"{pose}:corners={corners}", part="train") for corners in ("disc", "zeros", "reflect")
    )
    assert ((disc == 0) | (disc == 255)).all()
    assert ((zeros > 0) & (disc == 0)).any()
    assert 0 < (zeros == 0).float().mean() < (disc == 0).float().mean() < 0.8
    assert (reflect >= 254).all()


def test_a_uniform_picture_does_not_reveal_its_angle():
    """Without the disc the black corners would."""
    white = torch.full((20, 32, 32, 3), 255, dtype=torch.uint8)
    seen = posed(white, torch.arange(20), "R", part="train")
    assert (seen == seen[:1]).all()


def test_a_positive_angle_turns_the_picture_clockwise():
    x_NHWC = torch.zeros(40, 32, 32, 3, dtype=torch.uint8)
    x_NHWC[:, 14:18, 24:28] = 255  # to the right of the centre
    seen, maps = put_in_pose(x_NHWC, torch.arange(40), "R", part="train")
    theta_N33 = torch.linalg.inv(maps.theta_N33.double())
    angle_deg_N = torch.atan2(theta_N33[:, 1, 0], theta_N33[:, 0, 0]).rad2deg()
    light_NHW, at_32 = seen[..., 0].double(), torch.arange(32) - 15.5
    down_N, right_N = ((light_NHW.sum(3 - axis) * at_32).sum(1) / light_NHW.flatten(1).sum(1) for axis in (1, 2))
    torch.testing.assert_close(torch.atan2(down_N, right_N).rad2deg(), angle_deg_N, atol=1.0, rtol=0)
    assert angle_deg_N.max() > 60
    assert angle_deg_N.min() < -60


@pytest.mark.parametrize(
    ("pose", "rows"),
    [
        (
            "R",
            [
                "0 89 133 72 100 157 48 110 196 47 120 209 103 131 220 144 141 133 63 152 168 74 162 169 97 158 "
                "146 111 155 122 59 0",
                "0 64 111 192 56 145 200 120 166 128 114 79 55 152 61 89 186 122 124 143 115 158 103 96 193 150 "
                "131 151 68 158 134 0",
            ],
        ),
        (
            "RTS",
            [
                "0 187 118 94 174 151 110 158 105 74 156 225 103 146 148 57 136 139 104 126 122 49 116 198 121 105 "
                "188 171 124 168 115 0",
                "0 0 180 126 185 134 162 137 138 125 128 102 124 78 125 54 126 70 111 108 97 151 81 200 83 187 179 "
                "167 155 143 131 0",
            ],
        ),
    ],
)
def test_r_and_rts_are_those_of_version_0_1(pose, rows):
    """Rows of images that it made, by bilinear sampling, but for what another CPU may round its way."""
    value_N = (torch.arange(2 * 32 * 32 * 3) * 2654435761 >> 13).remainder(256)
    x_NHWC = value_N.to(torch.uint8).view(2, 32, 32, 3)
    maps = put_in_pose(x_NHWC, torch.tensor([5, 6]), pose, part="test")[1]
    seen = Sampler()(x_NHWC.permute(0, 3, 1, 2).float(), maps).permute(0, 2, 3, 1).round().int()
    for image, row in enumerate(rows):
        expected = torch.tensor([int(value) for value in row.split()], dtype=torch.int32)
        # Its disc hid the first and the last pixel of the rows.
        assert (seen[image, 9 + image, 1:-1, 1] - expected[1:-1]).abs().max() <= 1


@given(st.integers(1, 65))
def test_the_disc_touches_the_edges_and_is_symmetric(size_px):
    mask = disc_mask(no_pose(1), size_px)[0, :, :, 0]
    assert mask.dtype == torch.bool
    for other in (mask.flip(0), mask.flip(1), mask.T):
        assert torch.equal(mask, other)
    assert mask[0].any()
    assert mask[size_px // 2].all()
    if size_px >= 8:
        assert not mask[0, 0]
        assert mask.float().mean() == pytest.approx(math.pi / 4, abs=1 / size_px)


@given(u01)
def test_r_turns_by_up_to_90_degrees(u):
    theta = in_to_out("R", u, 0.1, 0.2, 0.3)
    assert math.degrees(math.atan2(theta[1, 0], theta[0, 0])) == pytest.approx(-90 + 180 * u, abs=1e-4)
    torch.testing.assert_close(theta[:, :2] @ theta[:, :2].T, torch.eye(2).double(), atol=1e-6, rtol=0)
    assert theta[:, 2].abs().max() < 1e-6


@given(u01, u01, u01, u01)
def test_rts_turns_scales_and_shifts_in_its_ranges(turn, grow, right, down):
    theta = in_to_out("RTS", turn, grow, right, down)
    scale = theta[:, :2].det().sqrt().item()
    assert math.degrees(math.atan2(theta[1, 0], theta[0, 0])) == pytest.approx(-45 + 90 * turn, abs=1e-4)
    assert scale == pytest.approx(0.7 + 0.5 * grow, abs=1e-5)
    torch.testing.assert_close(theta[:, :2] @ theta[:, :2].T, scale**2 * torch.eye(2).double(), atol=1e-5, rtol=0)
    # Normalised coordinates are 2 wide, so 5/32 of the side are 10/32.
    assert theta[:, 2].tolist() == pytest.approx([(2 * right - 1) * 10 / 32, (2 * down - 1) * 10 / 32], abs=1e-6)


def test_the_paper_s_rts_keeps_digits_on_their_canvas():
    """28 pixels on 42: a shift by a quarter of a digit's side reaches the edge of the canvas."""
    white = torch.full((60, 28, 28, 1), 255, dtype=torch.uint8)
    pose = "RTS:max_deg=0:min_scale=1:max_scale=1:shift=0.25:canvas_px=42:corners=zeros"
    seen = posed(white, torch.arange(60), pose, part="train").double()[..., 0] / 255
    torch.testing.assert_close(seen.sum((1, 2)), torch.full((60,), 784.0, dtype=torch.float64), atol=2, rtol=0)
    spread = (seen.sum(1) * torch.arange(42)).sum(1) / seen.sum((1, 2)) - 20.5
    assert 6 < spread.abs().max() <= 7


def test_are_symmetric_finite_and_normal():
    ends = normal(torch.tensor([[0.0, 0.5 - 2.0**-24, 0.5, 1 - 2.0**-24]]))[0]
    assert ends.tolist() == pytest.approx((-ends.flip(0)).tolist())
    assert 5 < ends[3] < 5.5
    z_N = normal(uniform(torch.arange(20_000), 1, seed=0, epoch=0, purpose="any"))[:, 0]
    for limit in (0.5, 1.0, 2.0):
        assert (z_N < limit).double().mean() == pytest.approx(0.5 * (1 + math.erf(limit / 2**0.5)), abs=0.01)


@pytest.mark.parametrize("pose", ["upright", *POSED])
def test_come_after_those_of_the_pose(pose):
    _, maps = put_in_pose(pixels(7), torch.arange(7), pose, part="train")
    own_N23 = torch.randn(7, 2, 3)
    point_M2 = base_grid(3, 3, torch.device("cpu"))
    torch.testing.assert_close(
        maps.before(own_N23).apply(point_M2), AffineMap(own_N23).apply(maps.apply(point_M2)), atol=1e-4, rtol=1e-4
    )


def test_sprites_stand_where_the_maps_say():
    """The true map of a posed sprite takes it back to the shape's upright outline."""
    from experiments.images.tasks.sprites import coverage, draw

    images = draw(0, range(40), 64)
    own_N23 = torch.from_numpy(images.theta_N23)
    drawn = torch.from_numpy(coverage(images.labels_N, images.theta_N23, 64)).float()
    x_NHWC = (255 * drawn).round().to(torch.uint8)[..., None]
    seen, maps = put_in_pose(x_NHWC, torch.arange(40), "R:corners=zeros", part="train")
    upright = Sampler()(seen.permute(0, 3, 1, 2).float() / 255, maps.before(own_N23).from_upright())[:, 0]
    identity_N23 = torch.eye(2, 3).expand(40, 2, 3).numpy()
    expected = torch.from_numpy(coverage(images.labels_N, identity_N23, 64)).float()
    overlap_N = torch.minimum(upright, expected).sum((1, 2)) / torch.maximum(upright, expected).sum((1, 2))
    # A shape may hang over the frame, and its edges are blurred twice.
    assert overlap_N.median() > 0.9
    without = Sampler()(seen.permute(0, 3, 1, 2).float() / 255, no_pose(40).before(own_N23).from_upright())[:, 0]
    wrong_N = torch.minimum(without, expected).sum((1, 2)) / torch.maximum(without, expected).sum((1, 2))
    assert wrong_N.median() < 0.7
