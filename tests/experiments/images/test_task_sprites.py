"""Sprites: the stored poses are true, the drawing never changes, a linear model fails."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from experiments.images.tasks import Images, load_task, sprites
from experiments.images.tasks.sprites import SHAPES, coverage, draw
from ledger.errors import UserError

Array = npt.NDArray[Any]

SUPER_PX = 640
GOLDEN = "5303624aaae03a5e5668ac881d7f04b79aee50250cbdd2e9a3e45b063daabced"
"""SHA-256 of the first 40 images of each part: runs of before and after a change must not be compared unawares."""


def upright_masks() -> Array:
    """Every shape upright as Pillow fills its outline, large; (classes, SUPER_PX, SUPER_PX) of bool."""
    masks = []
    for corners in SHAPES.values():
        image = Image.new("1", (SUPER_PX, SUPER_PX))
        ImageDraw.Draw(image).polygon([tuple(corner) for corner in (corners + 1) / 2 * SUPER_PX - 0.5], fill=1)
        masks.append(np.asarray(image))
    return np.stack(masks)


def look_up(masks_NHW: Array, x_NHW: Array, y_NHW: Array) -> Array:
    """Nearest pixel of N images at normalised coordinates (align_corners=False); 0 outside."""
    height, width = masks_NHW.shape[1:]
    column, row = np.floor((x_NHW + 1) / 2 * width).astype(int), np.floor((y_NHW + 1) / 2 * height).astype(int)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    n = np.arange(len(masks_NHW))[:, None, None]
    return np.where(inside, masks_NHW[n, row.clip(0, height - 1), column.clip(0, width - 1)], 0)


def mapped(theta_N23: Array, x_HW: Array, y_HW: Array) -> tuple[Array, Array]:
    points = np.stack([x_HW.ravel(), y_HW.ravel(), np.ones(x_HW.size)])
    x_y = theta_N23.astype(np.float64) @ points
    return x_y[:, 0].reshape(-1, *x_HW.shape), x_y[:, 1].reshape(-1, *x_HW.shape)


def centres(image_px: int) -> tuple[Array, Array]:
    axis = (np.arange(image_px) + 0.5) / image_px * 2 - 1
    x_HW, y_HW = np.meshgrid(axis, axis)
    return x_HW, y_HW


def inverse(theta_N23: Array) -> Array:
    square = np.tile(np.eye(3), (len(theta_N23), 1, 1))
    square[:, :2] = theta_N23
    return np.linalg.inv(square)[:, :2]


def overlap(a_NHW: Array, b_NHW: Array) -> Array:
    """Intersection over union of N pairs of masks."""
    return (a_NHW & b_NHW).sum((1, 2)) / (a_NHW | b_NHW).sum((1, 2))


@pytest.fixture(scope="module")
def some() -> Images:
    return draw(0, range(300))


def test_what_is_drawn_never_changes() -> None:
    images = [draw(0, range(40)), draw(1, range(40))]
    digest = hashlib.sha256()
    for part in images:
        digest.update(part.pixels_NHWC.tobytes() + part.labels_N.tobytes() + part.theta_N23.tobytes())
    assert digest.hexdigest() == GOLDEN


def test_an_image_depends_on_its_index_alone(some: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    few = draw(0, [211, 2, 299])
    assert np.array_equal(few.pixels_NHWC, some.pixels_NHWC[[211, 2, 299]])
    assert np.array_equal(few.theta_N23, some.theta_N23[[211, 2, 299]])
    assert np.array_equal(few.labels_N, some.labels_N[[211, 2, 299]])
    other = draw(1, [211, 2, 299])
    assert not np.isclose(few.theta_N23, other.theta_N23).all((1, 2)).any()
    assert len(np.unique(some.theta_N23[:, 0, 0])) == len(some)


def test_form(some: Images) -> None:
    assert some.pixels_NHWC.shape == (300, 32, 32, 3)
    assert some.pixels_NHWC.dtype == np.uint8
    assert some.theta_N23.shape == (300, 2, 3)
    assert some.theta_N23.dtype == np.float32
    assert some.labels_N.dtype == np.int64
    assert np.bincount(some.labels_N).tolist() == [30] * 10
    assert len(SHAPES) == 10


@pytest.mark.parametrize("image_px", [8, 20, 64])
def test_another_size_shows_the_same_sprites(some: Images, image_px: int) -> None:
    images = draw(0, range(60), image_px)
    assert images.pixels_NHWC.shape == (60, image_px, image_px, 3)
    assert np.array_equal(images.theta_N23, some.theta_N23[:60])
    if image_px == 64:
        half = images.pixels_NHWC.reshape(60, 32, 2, 32, 2, 3).mean((2, 4))
        correlation = [
            np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(half, some.pixels_NHWC[:60], strict=True)
        ]
        assert min(correlation) > 0.7


def test_poses_are_in_range(some: Images) -> None:
    posed = inverse(some.theta_N23)  # upright to posed: rotation of a scaled shear
    scale = np.hypot(posed[:, 0, 0], posed[:, 1, 0])
    assert 0.699 < scale.min() < 0.72
    assert 1.18 < scale.max() < 1.201
    degrees = np.degrees(np.arctan2(posed[:, 1, 0], posed[:, 0, 0]))
    assert -30.01 < degrees.min() < -28
    assert 28 < degrees.max() < 30.01
    assert (np.linalg.det(posed[:, :, :2]) > 0).all()
    assert 0.23 < np.abs(posed[:, :, 2]).max() < 0.2501


def test_an_upright_sprite_is_centred_and_of_normal_size() -> None:
    cover = coverage(np.arange(10), np.tile(np.eye(2, 3), (10, 1, 1)), 160) > 0.5
    expected = look_up(upright_masks(), *(np.tile(axis, (10, 1, 1)) for axis in centres(160)))
    assert overlap(cover, expected > 0).min() > 0.95
    x_HW, y_HW = centres(160)
    for mask in cover:
        assert abs(x_HW[mask].max() + x_HW[mask].min()) < 0.03
        assert abs(y_HW[mask].max() + y_HW[mask].min()) < 0.03
        assert 0.58 < np.hypot(x_HW[mask], y_HW[mask]).max() < 0.63


def test_theta_takes_the_posed_mask_to_the_upright_one(some: Images) -> None:
    posed_NHW = coverage(some.labels_N, some.theta_N23, 32)
    x_HW, y_HW = centres(96)
    upright_NHW = look_up(posed_NHW, *mapped(inverse(some.theta_N23), x_HW, y_HW)) > 0.5
    expected_NHW = look_up(upright_masks()[some.labels_N], *mapped(np.tile(np.eye(2, 3), (300, 1, 1)), x_HW, y_HW)) > 0
    right = overlap(upright_NHW, expected_NHW)
    assert np.median(right) > 0.85
    assert right.min() > 0.7
    wrong_NHW = look_up(posed_NHW, *mapped(some.theta_N23, x_HW, y_HW)) > 0.5
    assert np.median(overlap(wrong_NHW, expected_NHW)) < 0.5


def test_a_pixel_is_covered_as_much_as_its_square_lies_in_the_shape(some: Images) -> None:
    """Eight by eight points a pixel, through theta, against the anti-aliased drawing."""
    fine_NHW = look_up(upright_masks()[some.labels_N], *mapped(some.theta_N23, *centres(256)))
    expected_NHW = fine_NHW.reshape(-1, 32, 8, 32, 8).mean((2, 4))
    edge_NHW = (expected_NHW > 0.02) & (expected_NHW < 0.98)
    error = np.abs(coverage(some.labels_N, some.theta_N23, 32) - expected_NHW)
    assert error[edge_NHW].mean() < 0.06


def test_theta_finds_the_sprite_in_the_stored_pixels(some: Images) -> None:
    """Where theta says the sprite is, its one colour is; a wrong theta finds several."""
    masks_NHW = upright_masks()[some.labels_N]

    def colour_spread(theta_N23: Array) -> Array:
        """Standard deviation of the colours of all pixels that lie whole in the shape."""
        x_HW, y_HW = centres(32)
        inside_NHW = np.ones((300, 32, 32), bool)
        for dx, dy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            inside_NHW &= look_up(masks_NHW, *mapped(theta_N23, x_HW + dx / 32, y_HW + dy / 32)) > 0
        return np.array(
            [
                pixels[inside].std(0).mean() if inside.sum() > 8 else np.nan
                for pixels, inside in zip(some.pixels_NHWC, inside_NHW, strict=True)
            ]
        )

    right = colour_spread(some.theta_N23)
    usable = ~np.isnan(right)
    assert usable.mean() > 0.8
    assert np.quantile(right[usable], 0.95) < 20  # 16 is the noise
    mirrored, shifted, turned = some.theta_N23.copy(), some.theta_N23.copy(), some.theta_N23.copy()
    mirrored[:, 0] *= -1
    shifted[:, :, 2] *= -1
    turned[:, :, :2] = turned[:, :, :2].transpose(0, 2, 1)
    for wrong in (inverse(some.theta_N23), mirrored, shifted, turned, np.roll(some.theta_N23, 10, 0)):
        spread = colour_spread(wrong)
        both = usable & ~np.isnan(spread)
        assert np.median(spread[both]) > 1.25 * np.median(right[both])


def test_a_linear_model_fails() -> None:
    train, test = draw(0, range(1000)), draw(1, range(600))
    x, x_test = (part.pixels_NHWC.reshape(len(part), -1) / 255 - 0.5 for part in (train, test))
    kernel, target = x @ x.T, np.eye(10)[train.labels_N] - 0.1
    for ridge in (10, 100, 1000):
        weights = x.T @ np.linalg.solve(kernel + ridge * np.eye(len(x)), target)
        assert ((x_test @ weights).argmax(1) == test.labels_N).mean() < 0.2


def test_the_class_can_be_seen_once_the_pose_is_undone(some: Images) -> None:
    """The best match with an upright shape, of either polarity, is mostly the right one."""
    x_HW, y_HW = centres(32)
    x_NHW, y_NHW = mapped(inverse(some.theta_N23), x_HW, y_HW)
    upright_NHW = look_up(some.pixels_NHWC.mean(3), x_NHW, y_NHW)
    masks = look_up(upright_masks(), *(np.tile(axis, (10, 1, 1)) for axis in (x_HW, y_HW))).astype(float)
    near = np.hypot(x_HW, y_HW) < 0.7
    patterns, templates = upright_NHW[:, near], masks[:, near]
    patterns = patterns - patterns.mean(1, keepdims=True)
    templates = templates - templates.mean(1, keepdims=True)
    match = np.abs(patterns @ (templates / np.linalg.norm(templates, axis=1, keepdims=True)).T)
    assert (match.argmax(1) == some.labels_N).mean() > 0.6


def test_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sprites, "NUM_TRAIN", 60)
    monkeypatch.setattr(sprites, "NUM_TEST", 30)
    lines: list[str] = []
    task = load_task("sprites", image_px=32, cache=tmp_path, say=lines.append)
    assert (task.name, task.label, task.classes) == ("sprites", "sprites", tuple(SHAPES))
    assert (len(task.train), len(task.test)) == (60, 30)
    assert np.array_equal(task.test.pixels_NHWC, draw(1, range(30)).pixels_NHWC)
    again = load_task("sprites", image_px=32, cache=tmp_path, say=lines.append, label="drawn")
    assert again.content_hash == task.content_hash
    assert again.label == "drawn"
    assert lines == ["sprites: drawing 90 images, once"]
    other = load_task("sprites", image_px=16, cache=tmp_path, say=lines.append)
    assert other.content_hash != task.content_hash
    assert other.train.pixels_NHWC.shape == (60, 16, 16, 3)


def test_images_that_would_take_gigabytes_are_refused_before_any_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^protocol\.image_px: 512 is too large for sprites, which are drawn to 256$"):
        load_task("sprites", image_px=512, cache=tmp_path)
    assert not list(tmp_path.iterdir())
