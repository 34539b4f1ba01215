"""The rivals of the spatial transformer, each against an independent oracle."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import rotate

from experiments.networks.models.cnn_tta import CnnTta
from experiments.networks.models.polar import PolarMap, PolarNetwork, centroid
from experiments.networks.network import Batch
from experiments.networks.turning import turned
from tests.support.networks import RIVALS, at, build, built, some_batch

every_rival = pytest.mark.parametrize("name", RIVALS)


def images(num: int, image_px: int = 32) -> Tensor:
    return some_batch("cnn", num, image_px).raw_BCHW


@every_rival
def test_low_precision(name):
    network, batch = built(name), some_batch(name, 2)
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            low = network(batch).float()
        torch.testing.assert_close(low, network(batch), atol=0.05, rtol=0.05)


@every_rival
@torch.inference_mode()
def test_no_pose_is_claimed(name):
    network, batch = built(name), some_batch(name, 2)
    assert network.maps(batch) is None
    assert (network.look(batch) is None) == (not name.startswith("polar"))


def warped(x_CHW: np.ndarray, angle_rad: float, scale: float, shift: np.ndarray) -> np.ndarray:
    """One map looked at through scale, turn and shift, in loops: bilinear, zero outside."""
    height, width = x_CHW.shape[1:]
    out = np.zeros_like(x_CHW)
    for row in range(height):
        for column in range(width):
            x, y = (2 * column + 1) / width - 1, (2 * row + 1) / height - 1
            seen_x = scale * (math.cos(angle_rad) * x - math.sin(angle_rad) * y) + shift[0]
            seen_y = scale * (math.sin(angle_rad) * x + math.cos(angle_rad) * y) + shift[1]
            out[:, row, column] = at(x_CHW, ((seen_y + 1) * height - 1) / 2, ((seen_x + 1) * width - 1) / 2)
    return out


@pytest.mark.parametrize(("layers", "stages"), [("first", 1), ("inner", 2), ("all", 3)])
@pytest.mark.parametrize("per_sample", [False, True])
def test_training_warps_the_maps(layers, stages, per_sample):
    options = f"layers={layers}:max_deg=60:max_scale=1.5:max_shift=0.2:per_sample={str(per_sample).lower()}"
    name = f"ti_cnn:{options}@cnn:width=0.1"
    network, batch = build(name).train(), some_batch(name, 3)
    x_BCHW = network.normalise(batch.raw_BCHW)
    for index, stage in enumerate(network.backbone.stages):
        x_BCHW = stage(x_BCHW)
        if index < stages:
            sign_BK = 2 * batch.u_BK.double().numpy()[:, 4 * index : 4 * index + 4] - 1
            maps = [
                warped(
                    x_BCHW[image].detach().double().numpy(),
                    math.radians(60) * sign[0],
                    1.5 ** sign[1],
                    2 * 0.2 * sign[2:],
                )
                for image, sign in enumerate(sign_BK if per_sample else sign_BK[[0, 0, 0]])
            ]
            x_BCHW = torch.from_numpy(np.stack(maps)).float()
    expected = network.backbone.head(x_BCHW)
    torch.testing.assert_close(network(batch), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["cnn", "lenet"])
def test_evaluation_is_the_plain_network_bit_for_bit(backbone):
    batch = some_batch("ti_cnn", 4)
    rival, plain = (build(f"{model}@{backbone}") for model in ("ti_cnn", "cnn"))
    assert torch.equal(rival.eval()(batch), plain.eval()(batch))
    assert not torch.allclose(rival.train()(batch), plain.train()(batch), atol=1e-3)


def test_one_draw_serves_the_batch_unless_each_image_has_its_own():
    # On `fcn` nothing else ties the images of a batch together.
    for name, others_matter in (("ti_cnn@fcn", False), ("ti_cnn:per_sample=true@fcn", True)):
        network, batch = build(name).train(), some_batch(name, 3)
        changed_BK = batch.u_BK.clone()
        changed_BK[1:] = 1 - changed_BK[1:]
        logits, changed = network(batch), network(replace(batch, u_BK=changed_BK))
        assert torch.equal(logits[0], changed[0])
        assert torch.equal(logits[1:], changed[1:]) != others_matter
        changed_BK = batch.u_BK.clone()
        changed_BK[0] = 1 - changed_BK[0]
        changed = network(replace(batch, u_BK=changed_BK))
        assert not torch.allclose(logits[0], changed[0], atol=1e-4)
        assert torch.equal(logits[1:], changed[1:]) == others_matter


@pytest.mark.parametrize("angle_deg", [0, 30, 45, 90, 100, 180, 225, 270, 300, -7.5])
@pytest.mark.parametrize("image_px", [32, 47])
def test_a_turn_is_torchvision_s(angle_deg, image_px):
    x_BCHW = images(2, image_px)
    out_BCHW = turned(x_BCHW, angle_deg)
    torch.testing.assert_close(out_BCHW, rotate(x_BCHW, angle_deg, InterpolationMode.BILINEAR), atol=2e-5, rtol=0)
    assert out_BCHW.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("num_turns", [1, 3, 8])
@pytest.mark.parametrize("training", [False, True])
def test_ti_pooling_is_the_maximum_over_copies(num_turns, training):
    network = build(f"ti_pooling:num_turns={num_turns}").train(training)
    x_BCHW = images(3)
    copies = [rotate(x_BCHW, 360 * turn / num_turns, InterpolationMode.BILINEAR) for turn in range(num_turns)]
    mean, std = (torch.tensor(value)[:, None, None] for value in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    map_TBCHW = copy.deepcopy(network.backbone).features((torch.stack(copies).flatten(0, 1) - mean) / std)
    map_BCHW = map_TBCHW.reshape(num_turns, 3, *map_TBCHW.shape[1:]).max(0).values
    expected = network.backbone.head(map_BCHW)
    torch.testing.assert_close(network(Batch.of(x_BCHW)), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("num_turns", [4, 8])
@pytest.mark.parametrize("image_px", [32, 47])
def test_quarter_turns_of_the_image_change_nothing(num_turns, image_px):
    x_BCHW = images(2, image_px)
    quarters = [x_BCHW.rot90(quarter, (2, 3)) for quarter in range(4)]
    for name, is_invariant in ((f"ti_pooling:num_turns={num_turns}", True), ("cnn", False)):
        network = build(name, image_px=image_px).eval()
        with torch.no_grad():
            upright, *others = (network(Batch.of(each)) for each in quarters)
        for other in others:
            assert torch.equal(upright, other) == is_invariant
            assert is_invariant or (upright - other).abs().max() > 1e-3


def blobs(angle_rad: float = 0.0, scale: float = 1.0, image_px: int = 32) -> Tensor:
    """A smooth picture, turned from x to y and enlarged about its centre, without resampling."""
    centre = (2 * torch.arange(image_px, dtype=torch.float64) + 1) / image_px - 1
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    x, y = (
        (math.cos(angle_rad) * x + math.sin(angle_rad) * y) / scale,
        (math.cos(angle_rad) * y - math.sin(angle_rad) * x) / scale,
    )
    channels = [
        torch.exp(-((x - to_right) ** 2 + (y - down) ** 2) / 0.1)
        for to_right, down in ((0.5, 0.1), (-0.3, 0.4), (0.0, -0.5))
    ]
    return torch.stack(channels)[None].float()


def polar_picture(name: str, raw_BCHW: Tensor) -> Tensor:
    picture = build(name).eval().look(Batch.of(raw_BCHW))
    assert picture is not None and picture.shape == raw_BCHW.shape
    return picture.detach()


@pytest.mark.parametrize("kind", ["log", "linear"])
def test_turning_the_image_shifts_the_rows(kind):
    name, step_rad = f"polar:map={kind}:wrap=0.25", 2 * math.pi * 1.5 / 32
    upright = polar_picture(name, blobs())
    for steps in (1, 3):
        turned_image = polar_picture(name, blobs(steps * step_rad))
        assert (turned_image - upright).abs().max() > 0.2
        torch.testing.assert_close(turned_image[:, :, steps:], upright[:, :, :-steps], atol=0.03, rtol=0)


def test_scaling_the_image_shifts_the_columns_of_a_log_map():
    step = math.log(16) / 32
    for kind, shifts in (("log", True), ("linear", False)):
        upright, enlarged = (polar_picture(f"polar:map={kind}", blobs(scale=math.exp(3 * step * k))) for k in (0, 1))
        error = (enlarged[:, :, :, 3:] - upright[:, :, :, :-3]).abs().max()
        assert (error < 0.03) == shifts
        assert shifts or error > 0.2


def test_the_circle_goes_on_past_its_ends():
    picture = polar_picture("polar:wrap=0.5", images(2))
    torch.testing.assert_close(picture[:, :, :16], picture[:, :, 16:], atol=1e-4, rtol=0)


def test_where_points_look():
    origin_B2, corners = torch.tensor([[0.25, -0.5]]), torch.tensor([[-1.0, 0.0], [1.0, 0.0], [1.0, 0.5]])
    for kind, least in (("log", 2 / 32), ("linear", 0.0)):
        seen = PolarMap(origin_B2, 32, kind, wrap=0.0).apply(corners)[0]  # type: ignore[arg-type]
        expected = torch.tensor([[0.25 + least, -0.5], [1.25, -0.5], [0.25, 0.5]])
        torch.testing.assert_close(seen, expected, atol=1e-6, rtol=0)


def test_a_learned_origin_starts_at_the_centre_and_can_leave():
    x_BCHW, learned = images(4), build("polar:origin=learned").train()
    centre_picture, picture = (polar_picture(name, x_BCHW) for name in ("polar", "polar:origin=learned"))
    torch.testing.assert_close(picture, centre_picture, atol=1e-5, rtol=0)
    learned(Batch.of(x_BCHW)).square().sum().backward()
    gradient = learned.get_parameter("localisation.2.weight").grad
    assert gradient is not None and gradient.abs().max() > 0


def test_a_learned_origin_is_where_the_heat_is():
    heat = torch.zeros(2, 1, 8, 16)
    heat[0, 0, 5, 3] = heat[1, 0, 0, 15] = 40.0
    expected = torch.tensor([[7 / 16 - 1, 11 / 8 - 1], [31 / 16 - 1, 1 / 8 - 1]])
    torch.testing.assert_close(centroid(heat), expected, atol=1e-5, rtol=0)
    network = build("polar:origin=learned").eval()
    assert isinstance(network, PolarNetwork)
    # A warm layer in place of the zeros: the origin then moves with the image.
    nn.init.normal_(network.get_parameter("localisation.2.weight"), std=3)
    spot = torch.zeros(1, 3, 32, 32)
    spot[:, :, 8:16, 10:18] = torch.rand(3, 8, 8)
    shift = network.origin(spot.roll((4, 2), (2, 3))) - network.origin(spot)
    assert shift[0, 0] > 0.01 and shift[0, 1] > 0.02


@pytest.mark.parametrize(
    ("options", "angles_deg"),
    [
        ({}, [-15, -7.5, 0, 7.5, 15]),
        ({"num_turns": 1}, [0]),
        ({"num_turns": 2, "max_deg": 30.0}, [-30, 30]),
        ({"num_turns": 4, "max_deg": 180.0}, [0, 90, 180, 270]),
    ],
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_evaluation_is_the_mean_over_copies(options, angles_deg, mirrored):
    assert list(CnnTta(**options).angles_deg) == angles_deg
    text = "".join(f":{key}={value}" for key, value in options.items())
    network, plain = build(f"cnn_tta{text}:mirrored={str(mirrored).lower()}").eval(), build("cnn").eval()
    x_BCHW, probabilities = images(3), []
    with torch.no_grad():
        for angle_deg in angles_deg:
            copy_BCHW = rotate(x_BCHW, angle_deg, InterpolationMode.BILINEAR)
            for each in (copy_BCHW, copy_BCHW.flip(3)) if mirrored else (copy_BCHW,):
                probabilities.append(plain(Batch.of(each)).double().softmax(1))
        logits_BX = network(Batch.of(x_BCHW))
    expected = sum(probabilities) / len(probabilities)
    torch.testing.assert_close(logits_BX.double().exp(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits_BX.exp().sum(1), torch.ones(3))


@pytest.mark.parametrize("num_turns", [4, 8])
def test_averages_over_the_full_circle_do_not_see_quarter_turns(num_turns):
    network, x_BCHW = build(f"cnn_tta:num_turns={num_turns}:max_deg=180").eval(), images(3)
    with torch.no_grad():
        plain, turned_image = (network(Batch.of(each)) for each in (x_BCHW, x_BCHW.rot90(1, (2, 3))))
        some = build(f"cnn_tta:num_turns={num_turns}:max_deg=90").eval()
        assert (some(Batch.of(x_BCHW.rot90(1, (2, 3)))) - some(Batch.of(x_BCHW))).abs().max() > 1e-3
    torch.testing.assert_close(turned_image, plain, atol=1e-4, rtol=0)


def test_training_is_the_plain_network_bit_for_bit():
    batch = some_batch("cnn", 4)
    rival, plain = (build(name).train() for name in ("cnn_tta", "cnn"))
    assert torch.equal(rival(batch), plain(batch))
    # Unsure images: averaged opinions differ from one.
    assert not torch.allclose(rival.eval()(batch).softmax(1), plain.eval()(batch).softmax(1), atol=1e-6)
