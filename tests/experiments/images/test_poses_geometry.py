"""Poses against NumPy that knows nothing of them: splines from the textbook, corners, canvases, pixel by pixel."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from experiments.images.draws import uniform
from experiments.images.poses import PoseMaps, parse_pose, put_in_pose
from experiments.images.poses.projective import Projective
from stn.sampler import Sampler, base_grid

CPU = torch.device("cpu")
POSED = ["R", "RTS", "P", "E", "TC", "P:canvas_px=44"]
SQUARE = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])


def draws(pose: str, num: int, part: str = "train") -> Tensor:
    """What put_in_pose draws for the first images."""
    num_draws = parse_pose(pose).num_draws
    return uniform(torch.arange(num), num_draws, seed=0, epoch=0, purpose=f"pose {pose.split(':')[0]} {part}")


def standard_normal(u: np.ndarray) -> np.ndarray:
    inverse = np.vectorize(NormalDist().inv_cdf)
    return np.asarray(inverse(u.astype(np.float64) + 2.0**-25))


def pixel_centres(size_px: int) -> np.ndarray:
    x, y = np.meshgrid(*2 * [(2 * np.arange(size_px) + 1) / size_px - 1])
    return np.stack([x.ravel(), y.ravel()], 1)


def bilinear(image_HWC: np.ndarray, points_M2: np.ndarray) -> np.ndarray:
    """One pixel after the other, black outside, (M, C)."""
    size_px = len(image_HWC)
    found = np.zeros((len(points_M2), image_HWC.shape[2]))
    for m, (x, y) in enumerate(((points_M2 + 1) * size_px - 1) / 2):
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                if 0 <= row < size_px and 0 <= column < size_px:
                    found[m] += (1 - abs(x - column)) * (1 - abs(y - row)) * image_HWC[row, column]
    return found


def cosines(image_HWC: np.ndarray, points_M2: np.ndarray) -> np.ndarray:
    """The sum of the image's cosine waves, those left out that are finer than a pixel can show, (M, C)."""
    size_px = len(image_HWC)
    wave_K = np.arange(size_px)
    cycles_KK = np.hypot(wave_K[:, None], wave_K) / (2 * size_px)
    kept_KK = np.where(cycles_KK < 0.5, np.cos(np.pi / 2 * np.clip((cycles_KK - 0.45) / 0.05, 0, 1)) ** 2, 0)
    # From a quarter-sample transform's definition: each wave's share in the image, by projection.
    at_HK = np.cos(np.pi * wave_K * (np.arange(size_px)[:, None] + 0.5) / size_px)
    share_KKC = np.einsum("hj,wk,hwc->jkc", at_HK, at_HK, image_HWC)
    share_KKC /= ((at_HK**2).sum(0)[:, None] * (at_HK**2).sum(0))[..., None]
    x_MK, y_MK = (np.cos(np.pi / 2 * wave_K * (points_M2[:, axis, None] + 1)) for axis in (0, 1))
    return np.asarray(np.einsum("mj,mk,jkc->mc", y_MK, x_MK, kept_KK[..., None] * share_KKC))


def homography(from_42: np.ndarray, to_42: np.ndarray) -> np.ndarray:
    """The matrix that takes four points to four others: eight equations, its last number 1."""
    rows, values = [], []
    for (x, y), (u, v) in zip(from_42, to_42, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.append(np.linalg.solve(np.array(rows), np.array(values)), 1).reshape(3, 3)


def through(matrix_33: np.ndarray, points_M2: np.ndarray) -> np.ndarray:
    image_M3 = np.column_stack([points_M2, np.ones(len(points_M2))]) @ matrix_33.T
    return image_M3[:, :2] / image_M3[:, 2:]


def test_corners_are_scaled_and_moved_as_drawn():
    """Moves of 2 % fold nothing, so nothing is cut."""
    pose, u_NK = Projective(min_scale=0.8, corner_sd=0.02), draws("P", 50)
    scale_N = 0.8 + 0.2 * u_NK[:, 0].double().numpy()
    move_N42 = 2 * 0.02 * standard_normal(u_NK[:, 1:].numpy()).reshape(-1, 4, 2)
    expected = scale_N[:, None, None] * SQUARE + move_N42
    np.testing.assert_allclose(pose.posed_corners(u_NK), expected, atol=1e-6)


@pytest.mark.parametrize("pose", ["P", "P:min_scale=0.2:corner_sd=0.4"])
def test_maps_take_the_moved_corners_to_the_image_s(pose):
    u_NK = draws(pose, 200)
    corner_N42, maps = parse_pose(pose).posed_corners(u_NK), parse_pose(pose).draw(u_NK, 28)  # type: ignore[attr-defined]
    # The least turn keeps a corner from the line that goes to infinity; float32 has seven digits.
    np.testing.assert_allclose(maps.apply(corner_N42.float()), np.broadcast_to(SQUARE, (200, 4, 2)), atol=2e-4)
    for n in range(0, 200, 10):
        expected = homography(corner_N42[n].numpy(), SQUARE)
        np.testing.assert_allclose(maps.theta_N33[n], expected, rtol=1e-4, atol=1e-5)


@given(st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=9, max_size=9))
@settings(max_examples=300)
def test_no_image_is_folded_over_whatever_is_drawn(u):
    for pose in (Projective(), Projective(min_scale=0.1, corner_sd=0.5)):
        corner_42 = pose.posed_corners(torch.tensor([u]))[0].numpy()
        scale = pose.min_scale + (1 - pose.min_scale) * u[0]
        assert (np.sign(corner_42) == np.sign(SQUARE)).all()
        for k in range(4):
            last, here, after = corner_42[k - 1], corner_42[k], corner_42[(k + 1) % 4]
            area = np.linalg.det(np.stack([here - last, after - here]))
            assert area >= 0.2 * 4 * scale**2 * (1 - 1e-5)


def test_few_draws_are_cut():
    u_NK = uniform(torch.arange(20_000), 9, seed=0, epoch=0, purpose="any")
    scale_N11 = (0.75 + 0.25 * u_NK[:, 0].double().numpy())[:, None, None]
    move_N42 = 10 / 28 * standard_normal(u_NK[:, 1:].numpy()).reshape(-1, 4, 2)
    cut_N42 = np.clip(move_N42, -0.9 * scale_N11, 0.9 * scale_N11)
    assert (cut_N42 != move_N42).mean() == pytest.approx(0.03, abs=0.005)
    shrunk_N42 = Projective().posed_corners(u_NK).numpy() - scale_N11 * SQUARE
    changed_N = (np.abs(shrunk_N42 - cut_N42) > 1e-6).any((1, 2))
    assert changed_N.mean() == pytest.approx(0.05, abs=0.01)
    # The four of an image are shrunk alike.
    factor_N = np.linalg.norm(shrunk_N42, axis=(1, 2)) / np.linalg.norm(cut_N42, axis=(1, 2))
    np.testing.assert_allclose(shrunk_N42, factor_N[:, None, None] * cut_N42, atol=1e-6)
    assert 0.9**11 < factor_N.min() < factor_N[changed_N].max() < 0.91


def test_nearly_all_of_the_disturbed_image_is_seen_on_a_large_canvas():
    """Its area is that of the quadrilateral of its corners."""
    white = torch.full((20, 28, 28, 1), 255, dtype=torch.uint8)
    pose = "P:corner_sd=0.1:canvas_px=56:corners=zeros"
    seen, _ = put_in_pose(white, torch.arange(20), pose, part="train")
    corner_N42 = parse_pose(pose).posed_corners(draws(pose, 20)).numpy() * 14  # type: ignore[attr-defined]
    x, y = corner_N42[..., 0], corner_N42[..., 1]
    area_N = (x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1) / 2
    np.testing.assert_allclose(seen.double().sum((1, 2, 3)) / 255, area_N, rtol=0.03)


def textbook(step_K2: np.ndarray, points_M2: np.ndarray) -> np.ndarray:
    """Bookstein 1989: weights of r^2 log r and an affine part, from 19 equations."""
    side = np.linspace(-1, 1, 4)
    control_K2 = np.array([[x, y] for y in side for x in side])

    def kernel(a: np.ndarray) -> np.ndarray:
        r = np.linalg.norm(a[:, None] - control_K2[None], axis=2)
        return np.where(r > 0, r**2 * np.log(np.where(r > 0, r, 1)), 0)

    system, values = np.zeros((19, 19)), np.zeros((19, 2))
    system[:16, :16] = kernel(control_K2)
    system[:16, 16], system[:16, 17:] = 1, control_K2
    system[16:, :16] = system[:16, 16:].T
    values[:16] = control_K2 + step_K2
    weights = np.linalg.solve(system, values)
    return kernel(points_M2) @ weights[:16] + weights[16] + points_M2 @ weights[17:]


def test_maps_are_those_of_the_textbook():
    maps = parse_pose("E").draw(draws("E", 6), 32)
    assert maps.bend is not None
    points_M2 = pixel_centres(9) * 1.2
    found = maps.apply(torch.from_numpy(points_M2).float())
    for n in range(6):
        expected = textbook(maps.bend.step_BK2[n].double().numpy(), points_M2)
        np.testing.assert_allclose(found[n], expected, atol=1e-5)


def test_steps_are_normal_and_shrunk_together_at_most():
    u_NK = draws("E", 3000)
    maps = parse_pose("E").draw(u_NK, 32)
    assert maps.bend is not None
    drawn_NK = 2 * 1.5 / 28 * standard_normal(u_NK.numpy())
    factor_NK = maps.bend.step_BK2.flatten(1).double().numpy() / drawn_NK
    assert (np.ptp(factor_NK, axis=1) < 1e-3).all()
    factor_N = np.median(factor_NK, axis=1)
    assert factor_N.max() <= 1 + 1e-6
    shrunk_N = factor_N < 1 - 1e-6
    assert shrunk_N.mean() == pytest.approx(0.46, abs=0.03)
    assert factor_N[shrunk_N].mean() == pytest.approx(0.88, abs=0.01)


@pytest.mark.parametrize("pose", ["E", "E:sigma=0.1"])
def test_nothing_is_folded_over(pose):
    maps = parse_pose(pose).draw(draws(pose, 1000), 32)
    near = 1e-2
    point_M2 = base_grid(20, 20, CPU)
    right, left, below, above = (
        maps.apply(point_M2 + near * torch.tensor(way)) for way in ([1.0, 0], [-1.0, 0], [0, 1.0], [0, -1.0])
    )
    x, y = (right - left) / (2 * near), (below - above) / (2 * near)
    assert (x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]).min() > 0.05


@pytest.mark.parametrize("pose", ["E", "E:sigma=0.1"])
def test_bends_are_undone_to_a_twentieth_of_a_pixel_of_32(pose):
    maps = parse_pose(pose).draw(draws(pose, 500), 32)
    point_M2 = base_grid(12, 12, CPU)
    back = maps.apply(maps.from_upright().apply(point_M2))
    assert (back - point_M2).norm(dim=2).max() * 16 < 0.05


@pytest.mark.parametrize(
    ("pose", "image_px", "canvas_px", "num_pieces", "piece_px"),
    [
        ("TC", 28, 60, 16, 6),
        ("TC:canvas_px=21:num_pieces=3:piece=0.5", 9, 21, 3, 4),
        ("TC:canvas_px=9", 9, 9, 16, 2),
    ],
)
def test_canvases_are_those_of_a_loop(pose, image_px, canvas_px, num_pieces, piece_px):
    pool = torch.randint(1, 256, (11, image_px, image_px, 3), dtype=torch.uint8)
    seen, maps = put_in_pose(pool, torch.arange(11), pose, part="train")
    free_px = canvas_px - image_px
    for n, u in enumerate(draws(pose, 11).double().numpy()):
        canvas = np.zeros((canvas_px, canvas_px, 3), np.uint8)
        for piece in range(num_pieces):
            which, from_y, from_x, to_y, to_x = u[2 + 5 * piece : 7 + 5 * piece]
            others = [(n + 1 + k) % 11 for k in range(10)]
            source = pool[others[int(which * 10)]].numpy()
            row, column = (int(v * (image_px - piece_px + 1)) for v in (from_y, from_x))
            top, left = (int(v * (canvas_px - piece_px + 1)) for v in (to_y, to_x))
            cut = source[row : row + piece_px, column : column + piece_px]
            canvas[top : top + piece_px, left : left + piece_px] = cut
        left, top = (int(v * (free_px + 1)) for v in u[:2])
        canvas[top : top + image_px, left : left + image_px] = pool[n].numpy()
        np.testing.assert_array_equal(seen[n], canvas)
        # Canvas coordinates of the image's top left and bottom right corners.
        corner_22 = 2 * np.array([[left, top], [left + image_px, top + image_px]]) / canvas_px - 1
        found = maps[torch.tensor([n])].apply(torch.from_numpy(corner_22).float())[0]
        np.testing.assert_allclose(found, [[-1, -1], [1, 1]], atol=1e-5)


def test_every_place_is_taken_as_often():
    pool = torch.randint(1, 256, (4, 8, 8, 1), dtype=torch.uint8).repeat(500, 1, 1, 1)
    _, maps = put_in_pose(pool, torch.arange(2000), "TC:canvas_px=11:num_pieces=0", part="train")
    left_N = ((1 - maps.theta_N33[:, 0, 2] - 11 / 8) * 4).round()
    top_N = ((1 - maps.theta_N33[:, 1, 2] - 11 / 8) * 4).round()
    place_N = ((left_N - left_N.min()) * 4 + top_N - top_N.min()).long()
    counts = place_N.bincount(minlength=16)
    assert len(counts) == 16
    assert (counts - 125).abs().max() < 50


def test_clutter_is_never_cut_from_the_image_itself_and_comes_from_all_others():
    """Each image has a value of its own."""
    pool = (torch.arange(20) + 1).to(torch.uint8)[:, None, None, None].expand(20, 8, 8, 1)
    seen, _ = put_in_pose(pool, torch.arange(20), "TC:canvas_px=40:num_pieces=64", part="test")
    found = set()
    for n, canvas in enumerate(seen):
        assert (canvas == n + 1).sum() == 64
        found |= set(canvas.unique().tolist()) - {0, n + 1}
    assert found == set(range(1, 21))


def test_clutter_of_a_subset_is_that_of_the_whole_part():
    pool = torch.randint(1, 256, (30, 8, 8, 3), dtype=torch.uint8)
    full, _ = put_in_pose(pool, torch.arange(30), "TC:canvas_px=20", part="test")
    index_N = torch.tensor([3, 17, 29])
    few, _ = put_in_pose(pool[index_N], index_N, "TC:canvas_px=20", part="test", pool_MHWC=pool)
    assert torch.equal(few, full[index_N])


def test_an_image_that_is_alone_is_its_own_clutter():
    pool = torch.full((1, 8, 8, 3), 7, dtype=torch.uint8)
    seen, _ = put_in_pose(pool, torch.tensor([5]), "TC:canvas_px=20", part="test")
    assert set(seen.unique().tolist()) == {0, 7}
    assert (seen == 7).sum() > 3 * 64


@pytest.mark.parametrize(
    "pose", ["RTS:corners=zeros", "P:corners=zeros", "E:corners=zeros", "P:canvas_px=21:corners=zeros"]
)
def test_images_are_sampled_pixel_by_pixel_where_the_maps_say(pose):
    x_NHWC = torch.randint(0, 256, (3, 16, 16, 2), dtype=torch.uint8)
    seen, maps = put_in_pose(x_NHWC, torch.arange(3), pose, part="test")
    size_px = seen.shape[1]
    centre_M2 = pixel_centres(size_px)
    for n in range(3):
        points_M2 = centre_M2
        if maps.bend is not None:
            points_M2 = textbook(maps.bend.step_BK2[n].double().numpy(), points_M2)
        points_M2 = through(maps.theta_N33[n].double().numpy(), points_M2)
        cover_M1 = bilinear(np.ones((16, 16, 1)), points_M2)
        expected = (cover_M1 * cosines(x_NHWC[n].double().numpy(), points_M2)).clip(0, 255)
        # A quarter for rounding; the rest for the cubic between the finer grid's points, on noise, its hardest case.
        error = np.abs(seen[n].numpy() - expected.reshape(size_px, size_px, 2))
        assert error.mean() < 1.5
        assert error.max() < 10


def smooth(num: int, size_px: int) -> Tensor:
    """Waves no shorter than half of the image."""
    centre_M2 = base_grid(size_px, size_px, CPU)
    wave_NW2 = (torch.rand(num, 5, 2) - 0.5) * 4 * math.pi
    phase_NW1 = torch.rand(num, 5, 1) * 2 * math.pi
    value_NM = (wave_NW2 @ centre_M2.T + phase_NW1).sin().mean(1)
    return (128 + 120 * value_NM).round().to(torch.uint8).view(num, size_px, size_px, 1)


@pytest.mark.parametrize("pose", [f"{pose}:corners=zeros" if pose != "TC" else "TC:canvas_px=80" for pose in POSED])
def test_restore_the_image(pose):
    pose = pose.replace("canvas_px=44", "canvas_px=72")
    size_px, index_N = 48, torch.arange(24)
    x_NHWC = smooth(24, size_px)
    seen, maps = put_in_pose(x_NHWC, index_N, pose, part="train")
    white, _ = put_in_pose(torch.full_like(x_NHWC, 255), index_N, pose, part="train")

    def unwarped(y_NHWC: Tensor, where: PoseMaps) -> Tensor:
        return Sampler()(y_NHWC.permute(0, 3, 1, 2).float(), where.from_upright(), (size_px, size_px))[:, 0]

    # What was in the frame all the way; elsewhere something is lost.
    kept = unwarped(white, maps) > 254
    assert kept.float().mean() > 0.5
    error = (unwarped(seen, maps) - x_NHWC[..., 0]).abs()
    assert error[kept].max() < 16
    assert error[kept].mean() < 1
    if pose.startswith("TC"):
        assert kept.all()
        assert error.max() < 0.01
    # Another image's map does not.
    assert (unwarped(seen, maps[index_N.roll(1)]) - x_NHWC[..., 0]).abs()[kept].mean() > 8


@pytest.mark.parametrize("pose", POSED)
@given(data=st.data())
@settings(max_examples=30)
def test_there_and_back_is_nowhere(pose, data):
    """Upright points that were in the frame; and posed points of the image."""
    num_draws = parse_pose(pose).num_draws
    seed = data.draw(st.integers(0, 2**31))
    maps = parse_pose(pose).draw(uniform(torch.arange(seed, seed + 4), num_draws, seed=0, epoch=0, purpose="x"), 32)
    xy = st.floats(-1, 1, width=32)
    upright_M2 = torch.tensor(data.draw(st.lists(st.tuples(xy, xy), min_size=1, max_size=8)))
    posed_NM2 = maps.from_upright().apply(upright_M2)
    # 0.05 px of 32 for bends, which are undone by iteration.
    tolerance = 0.05 / 16 if maps.bend is not None else 2e-4
    torch.testing.assert_close(maps.apply(posed_NM2), upright_M2.expand(4, -1, 2), atol=tolerance, rtol=0)
    again_NM2 = maps.from_upright().apply(maps.apply(posed_NM2))
    torch.testing.assert_close(again_NM2, posed_NM2, atol=4 * tolerance, rtol=0)
