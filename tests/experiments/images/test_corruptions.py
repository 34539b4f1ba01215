"""Corruptions against scipy, Pillow and the standard library, their statistics, and that everyone sees the same."""

import colorsys
import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from PIL import Image
from torch import Tensor

from experiments.images.corruptions import CORRUPTIONS, SEVERITIES
from experiments.images.corruptions.blur import disc_kernel
from experiments.images.poses import PoseMaps, no_pose
from experiments.runs.robustness import corrupting
from stn.maps import AffineMap
from stn.sampler import base_grid

PHOTOMETRIC = [name for name, each in CORRUPTIONS.items() if each.kind == "photometric"]
GEOMETRIC = [name for name, each in CORRUPTIONS.items() if each.kind == "geometric"]
NOISES = [name for name in PHOTOMETRIC if name.endswith("_noise")]


def smooth_images(num: int = 8, size_px: int = 32, channels: int = 3) -> Tensor:
    """Soft blobs of colour, 8-bit values in [0, 1], in channels-last memory."""
    noise = np.random.default_rng(0).normal(size=(num, size_px, size_px, channels))
    soft = scipy.ndimage.gaussian_filter(noise, (0, 2, 2, 0), mode="wrap")
    pixels = np.clip(127.5 + 90 * soft / soft.std(), 0, 255).round().astype(np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def corrupted(name: str, x_BCHW: Tensor, severity: int, first: int = 0) -> Tensor:
    """first: which image of the part the first is."""
    index_B = torch.arange(first, first + len(x_BCHW))
    u = CORRUPTIONS[name].draw(name, index_B, x_BCHW.shape[1:])
    return corrupting(CORRUPTIONS[name], u, severity)(x_BCHW, no_pose(len(x_BCHW)))[0]


def grey(value: float, num: int = 40) -> Tensor:
    return torch.full((num, 3, 32, 32), round(value * 255) / 255)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_has_five_levels(name):
    assert len(CORRUPTIONS[name].levels) == len(SEVERITIES) == 5


@pytest.mark.parametrize("name", list(CORRUPTIONS))
@pytest.mark.parametrize(("size_px", "channels"), [(32, 3), (24, 3), (60, 3), (17, 1)])
def test_keeps_the_form_of_images_and_the_images(name, size_px, channels):
    x_BCHW = smooth_images(3, size_px, channels)
    before = x_BCHW.clone()
    for severity in (1, 5):
        result = corrupted(name, x_BCHW, severity)
        assert result.shape == x_BCHW.shape and result.dtype == torch.float32
        assert result.isfinite().all()
        assert result.min() > -1 and result.max() < 2
    assert torch.equal(x_BCHW, before)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_is_a_function_of_the_image_alone(name):
    """Not of the batch it comes in, nor of anything drawn before."""
    x_BCHW = smooth_images(6)
    together = corrupted(name, x_BCHW, 3)
    torch.manual_seed(9)
    torch.testing.assert_close(corrupted(name, x_BCHW[4:5], 3, first=4), together[4:5], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_images_are_disturbed_each_in_its_own_way_if_at_random(name):
    x_BCHW = smooth_images(1).expand(6, -1, -1, -1)
    is_same = torch.equal(*corrupted(name, x_BCHW, 5)[[0, 1]]) and torch.equal(*corrupted(name, x_BCHW, 5)[[0, 2]])
    assert is_same == (CORRUPTIONS[name].num_draws == 0)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_higher_severities_change_more(name):
    x_BCHW = smooth_images(40)
    change = [(corrupted(name, x_BCHW, severity).clamp(0, 1) - x_BCHW).square().mean() for severity in SEVERITIES]
    if name == "saturate":  # CIFAR-10-C's first two levels take colour away, the others add some
        assert change[0] < change[1] and change[2] < change[3] < change[4]
    else:
        assert change == sorted(change)
        assert change[4] > 1.3 * change[0] > 0


@pytest.mark.parametrize("severity", SEVERITIES)
def test_normal_noise(severity):
    sd = {1: 0.04, 2: 0.06, 3: 0.08, 4: 0.09, 5: 0.10}[severity]
    noise = corrupted("gaussian_noise", grey(0.5), severity) - grey(0.5)
    assert noise.mean().item() == pytest.approx(0, abs=4 * sd / math.sqrt(noise.numel()))
    assert noise.std().item() == pytest.approx(sd, rel=0.01)
    assert scipy.stats.kstest(noise.flatten()[:5000].numpy() / sd, "norm").pvalue > 1e-3


def test_neighbours_and_channels_have_noise_of_their_own():
    noise = corrupted("gaussian_noise", grey(0.5), 5) - grey(0.5)
    for other in (noise.roll(1, 0), noise.roll(1, 1), noise.roll(1, 2), noise.roll(1, 3)):
        assert np.corrcoef(noise.flatten(), other.flatten())[0, 1] == pytest.approx(0, abs=0.015)


def test_speckle_grows_with_the_value():
    for value in (0.2, 0.8):
        noise = corrupted("speckle_noise", grey(value), 5) - grey(value)
        assert noise.std().item() == pytest.approx(0.2 * value, rel=0.02)


@pytest.mark.parametrize(("severity", "share"), [(1, 0.01), (5, 0.07)])
def test_impulses(severity, share):
    result = corrupted("impulse_noise", grey(0.5), severity)
    for value in (0, 1):
        assert (result == value).float().mean().item() == pytest.approx(share / 2, rel=0.1)
    assert ((result == 0) | (result == 1) | (result == grey(0.5))).all()


@pytest.mark.parametrize(("severity", "num_photons"), [(1, 500), (3, 100), (5, 50)])
def test_photons_are_counted_as_scipy_counts_them(severity, num_photons):
    x_BCHW = smooth_images(4)
    x_BCHW[0, 0, 0, :3] = torch.tensor([0.0, 1.0, 1 / 255])
    u_BCHW = CORRUPTIONS["shot_noise"].draw("shot_noise", torch.arange(4), x_BCHW.shape[1:])
    expected = scipy.stats.poisson.ppf(u_BCHW.double().numpy(), num_photons * x_BCHW.double().numpy())
    counts = (corrupted("shot_noise", x_BCHW, severity) * num_photons).round()
    # Means are 8-bit values there and their float32 neighbours here: draws in between may differ.
    differs = counts.numpy() != np.maximum(expected, 0)
    assert differs.mean() < 1e-3
    assert counts[0, 0, 0, 0] == 0


@pytest.mark.parametrize("name", NOISES)
def test_all_severities_of_an_image_share_their_draws(name):
    weak, strong = (corrupted(name, grey(0.5), severity) - grey(0.5) for severity in (3, 5))
    if name == "impulse_noise":
        assert ((weak == 0) | (weak == strong)).all()
    else:
        assert np.corrcoef(weak.flatten(), strong.flatten())[0, 1] > 0.99


@pytest.mark.parametrize(("severity", "sigma"), [(1, 0.4), (5, 1.0)])
def test_normal_kernel(severity, sigma):
    x_BCHW = smooth_images(3)
    expected = scipy.ndimage.gaussian_filter(x_BCHW.numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4)
    np.testing.assert_allclose(corrupted("gaussian_blur", x_BCHW, severity).numpy(), expected, atol=3e-3)


@pytest.mark.parametrize(("severity", "radius", "sigma"), [(1, 0.3, 0.4), (4, 1.0, 0.2), (5, 1.5, 0.1)])
def test_disc(severity, radius, sigma):
    x_BCHW = smooth_images(3)
    y, x = np.mgrid[-8:9, -8:9]
    disc = (x**2 + y**2 <= radius**2).astype(float)
    side = np.exp(-(np.arange(-1, 2) ** 2) / (2 * sigma**2))
    kernel = scipy.ndimage.convolve(disc / disc.sum(), np.outer(side, side) / side.sum() ** 2, mode="constant")
    expected = scipy.ndimage.convolve(x_BCHW.double().numpy(), kernel[None, None], mode="mirror")
    np.testing.assert_allclose(corrupted("defocus_blur", x_BCHW, severity).numpy(), expected, atol=1e-5)


def test_a_larger_image_has_a_larger_disc():
    assert len(disc_kernel(1.5, 0.1)) < len(disc_kernel(4.5, 0.3))


@pytest.mark.parametrize(("severity", "sigma", "num_taps"), [(1, 1.0, 13), (5, 2.5, 19)])
def test_trail(severity, sigma, num_taps):
    x_BCHW = smooth_images(3)
    u_B1 = CORRUPTIONS["motion_blur"].draw("motion_blur", torch.arange(3), x_BCHW.shape[1:])
    weights = scipy.stats.norm.pdf(np.arange(num_taps), scale=sigma)
    weights /= weights.sum()
    y, x = np.mgrid[0:32, 0:32].astype(float)
    for image_CHW, found_CHW, u in zip(x_BCHW, corrupted("motion_blur", x_BCHW, severity), u_B1, strict=True):
        angle = np.deg2rad(-45 + 90 * u.item())
        places = [(y + i * np.sin(angle), x + i * np.cos(angle)) for i in range(num_taps)]
        for channel_HW, found_HW in zip(image_CHW.numpy(), found_CHW.numpy(), strict=True):
            taps = [scipy.ndimage.map_coordinates(channel_HW, at, order=1, mode="nearest") for at in places]
            np.testing.assert_allclose(found_HW, np.tensordot(weights, taps, 1), atol=2e-3)


def by_hsv(x_BCHW: Tensor, change_of: str, factor: float, step: float) -> np.ndarray:
    """Pixel by pixel, in the standard library's HSV."""
    result = x_BCHW.double().permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    for pixel in result:
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        if change_of == "value":
            value = min(max(value * factor + step, 0), 1)
        else:
            saturation = min(max(saturation * factor + step, 0), 1)
        pixel[:] = colorsys.hsv_to_rgb(hue, saturation, value)
    return result.reshape(*x_BCHW.permute(0, 2, 3, 1).shape).transpose(0, 3, 1, 2)


def images() -> Tensor:
    """Some with black, white, grey and pure pixels."""
    x_BCHW = smooth_images(2)
    special = torch.tensor([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 1], [0.2, 0.2, 0.8]])
    x_BCHW[0, :, 0, : len(special)] = special.T
    return x_BCHW


@pytest.mark.parametrize(("severity", "step"), [(1, 0.05), (3, 0.15), (5, 0.3)])
def test_brightness(severity, step):
    expected = by_hsv(images(), "value", 1, step)
    np.testing.assert_allclose(corrupted("brightness", images(), severity).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("severity", "factor", "step"), [(1, 0.3, 0), (2, 0.1, 0), (3, 1.5, 0), (5, 2.5, 0.2)])
def test_saturation(severity, factor, step):
    expected = by_hsv(images(), "saturation", factor, step)
    np.testing.assert_allclose(corrupted("saturate", images(), severity).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("severity", "factor"), [(1, 0.75), (5, 0.15)])
def test_contrast(severity, factor):
    x_BCHW = smooth_images(3).double().numpy()
    mean = x_BCHW.mean((2, 3), keepdims=True)
    found = corrupted("contrast", smooth_images(3), severity).numpy()
    np.testing.assert_allclose(found, mean + factor * (x_BCHW - mean), atol=1e-6)


def by_pillow(x_BCHW: Tensor, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    pixels = (x_BCHW * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return np.stack([np.asarray(change(Image.fromarray(image)), float) for image in pixels]).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("size_px", [32, 24])
@pytest.mark.parametrize(("severity", "share"), [(1, 0.95), (2, 0.9), (3, 0.85), (4, 0.75), (5, 0.65)])
def test_blocks_are_pillow_s(severity, share, size_px):
    x_BCHW = torch.rand(3, 3, size_px, size_px).mul(255).round().div(255)
    small, box = (int(size_px * share),) * 2, Image.Resampling.BOX
    expected = by_pillow(x_BCHW, lambda image: image.resize(small, box).resize((size_px, size_px), box))
    np.testing.assert_allclose(corrupted("pixelate", x_BCHW, severity).numpy() * 255, expected, atol=1.01)


@pytest.mark.parametrize("size_px", [32, 40])
@pytest.mark.parametrize(("severity", "quality"), [(1, 80), (2, 65), (3, 58), (4, 50), (5, 40)])
def test_jpeg_is_pillow_s(severity, quality, size_px):
    """Nearly: decoders round in their own places."""

    def written(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    x_BCHW = smooth_images(6, size_px)
    expected = by_pillow(x_BCHW, written)
    found = corrupted("jpeg_compression", x_BCHW, severity).clamp(0, 1).numpy() * 255
    error, change = np.abs(found - expected).mean(), np.abs(x_BCHW.numpy() * 255 - expected).mean()
    assert error < 2 and error < 0.2 * change


def maps(name: str, severity: int, num: int = 200) -> PoseMaps:
    corruption = CORRUPTIONS[name]
    u_BK = corruption.draw(name, torch.arange(num), torch.Size((3, 32, 32)))
    found = corruption.change(u_BK, 32, corruption.levels[severity - 1])
    assert isinstance(found, PoseMaps)
    return found


def linear_moves(name: str, severity: int) -> np.ndarray:
    """From the image to the moved image, (B, 3, 3)."""
    return np.linalg.inv(maps(name, severity).theta_N33.double().numpy())


def both_signs(values: np.ndarray, size: float) -> None:
    np.testing.assert_allclose(np.abs(values), size, rtol=1e-4)
    assert 0.35 < (values > 0).mean() < 0.65


@pytest.mark.parametrize(("severity", "angle"), [(1, 10), (5, 60)])
def test_turns(severity, angle):
    linear = linear_moves("rotate", severity)
    np.testing.assert_allclose(np.linalg.det(linear), 1, atol=1e-5)
    both_signs(np.rad2deg(np.arctan2(linear[:, 1, 0], linear[:, 0, 0])), angle)


@pytest.mark.parametrize(("severity", "factor"), [(1, 1.1), (5, 1.75)])
def test_scales(severity, factor):
    linear = linear_moves("scale", severity)
    np.testing.assert_allclose(linear[:, 0, 1], 0, atol=1e-6)
    np.testing.assert_allclose(linear[:, 0, 0], linear[:, 1, 1])
    both_signs(np.log(linear[:, 0, 0]), np.log(factor))


@pytest.mark.parametrize(("severity", "angle"), [(1, 10), (5, 45)])
def test_shears(severity, angle):
    linear = linear_moves("shear", severity)
    np.testing.assert_allclose(linear[:, [0, 1, 1], [0, 1, 0]], np.tile([1, 1, 0], (200, 1)), atol=1e-6)
    both_signs(np.rad2deg(np.arctan(linear[:, 0, 1])), angle)


@pytest.mark.parametrize(("severity", "share"), [(1, 1 / 16), (5, 3 / 8)])
def test_shifts(severity, share):
    shift = linear_moves("shift", severity)[:, :2, 2]
    np.testing.assert_allclose(np.linalg.norm(shift, axis=1), 2 * share, rtol=1e-5)
    assert np.linalg.norm(shift.mean(0)) < 2 * share / 5  # to all sides


@pytest.mark.parametrize("name", GEOMETRIC)
def test_no_image_is_folded_over(name):
    """Neighbouring points that show something stay on their side of each other."""
    points = maps(name, 5).apply(base_grid(16, 16, torch.device("cpu"))).view(-1, 16, 16, 2)
    right, down = points[:, :-1, 1:] - points[:, :-1, :-1], points[:, 1:, :-1] - points[:, :-1, :-1]
    is_shown = (points.abs() <= 1).all(3)
    shown = is_shown[:, :-1, :-1] & is_shown[:, :-1, 1:] & is_shown[:, 1:, :-1]
    assert shown.float().mean() > 0.2
    assert (right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0])[shown].min() > 0


@pytest.mark.parametrize("name", GEOMETRIC)
def test_the_true_pose_moves_with_the_picture(name):
    """A picture under a pose that is moved further has the pose of both, one after the other, and back."""
    turn = PoseMaps(AffineMap(torch.tensor([[[0.0, -1.0, 0.1], [1.0, 0.0, 0.0]]])).projective().theta_B33)
    further = maps(name, 4, num=1)
    both = turn.then(further)
    points_M2 = 0.9 * base_grid(5, 5, torch.device("cpu"))
    torch.testing.assert_close(both.apply(points_M2), turn.apply(further.apply(points_M2)))
    back = both.from_upright().apply(both.apply(points_M2))
    torch.testing.assert_close(back, points_M2[None], atol=5e-3, rtol=0)
