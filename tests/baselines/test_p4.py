"""The backbone p4cnn: quarter turns of the images turn its maps and leave its logits alone."""

import copy
import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from baselines.backbones import BACKBONES, Backbone
from baselines.backbones.p4cnn import P4BatchNorm2d, P4Conv2d, P4Invariant

every_turn = pytest.mark.parametrize("turns", range(4))
every_mode = pytest.mark.parametrize("training", [False, True])


def disturbed(module: nn.Module) -> nn.Module:
    """Its numbers replaced by others, as after training: no orientation is like another by chance."""
    for name, value in itertools.chain(module.named_parameters(), module.named_buffers()):
        if value.is_floating_point():
            noise = torch.randn_like(value) / max(1, value[0].numel()) ** 0.5 if value.ndim else value
            value.data = noise.abs() + 0.5 if name.endswith("running_var") else noise
    return module.double()


def backbone(name: str = "p4cnn", image_px: int = 32) -> Backbone:
    network = BACKBONES[name](num_classes=10, image_px=image_px, in_channels=3, width=0.5)
    disturbed(network)
    return network


def images(num: int = 5, image_px: int = 32) -> Tensor:
    return torch.randn(num, 3, image_px, image_px, dtype=torch.float64)


def turned(x_BCHW: Tensor, turns: int) -> Tensor:
    """Images by quarter turns."""
    return x_BCHW.rot90(turns, (-2, -1))


def turned_on_p4(x_BCHW: Tensor, turns: int) -> Tensor:
    """Maps on p4 by quarter turns, by their definition: orientation r now holds what r - turns held."""
    parts = x_BCHW.chunk(4, 1)
    return torch.cat([turned(parts[(r - turns) % 4], turns) for r in range(4)], 1)


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-10, rtol=0)


def group_convolution(
    x_BTCHW: npt.NDArray[np.float64], weight_OTIHW: npt.NDArray[np.float64], stride: int, padding: int
) -> npt.NDArray[np.float64]:
    """Σ over h of f(h) ψ(g⁻¹h), element by element, with g = (turns, place).

    Offsets (down, right) are from the filter's centre; one turn of torch.rot90 is h(down, right) = w(right, -down).
    """
    num, in_turns, _, side, _ = x_BTCHW.shape
    num_out, kernel = weight_OTIHW.shape[0], weight_OTIHW.shape[-1]
    centre = (kernel - 1) / 2
    out_px = (side + 2 * padding - kernel) // stride + 1
    out = np.zeros((num, 4, num_out, out_px, out_px))
    for turns, row, column in itertools.product(range(4), range(out_px), range(out_px)):
        for i, j, t in itertools.product(range(kernel), range(kernel), range(in_turns)):
            y, x = row * stride - padding + i, column * stride - padding + j
            if not (0 <= y < side and 0 <= x < side):
                continue
            down, right = i - centre, j - centre
            for _ in range(turns):
                down, right = right, -down
            filter_OI = weight_OTIHW[:, (t - turns) % in_turns, :, int(down + centre), int(right + centre)]
            out[:, turns, :, row, column] += x_BTCHW[:, t, :, y, x] @ filter_OI.T
    return out


@pytest.mark.parametrize(("in_turns", "kernel", "stride"), [(1, 4, 2), (1, 3, 1), (4, 3, 1), (4, 4, 2)])
def test_convolution_is_the_sum_over_the_group(in_turns, kernel, stride):
    layer = P4Conv2d(in_turns, 2, 3, kernel, stride)
    disturbed(layer)
    x_BTCHW = torch.randn(2, in_turns, 2, 6, 6, dtype=torch.float64)
    weight_OTIHW = layer.weight.detach().reshape(3, in_turns, 2, kernel, kernel)
    expected = group_convolution(x_BTCHW.numpy(), weight_OTIHW.numpy(), stride, padding=1)
    assert_same(layer(x_BTCHW.flatten(1, 2)).detach(), torch.from_numpy(expected).flatten(1, 2))


@pytest.mark.parametrize(("in_turns", "kernel", "stride"), [(1, 4, 2), (1, 3, 1), (4, 3, 1), (4, 4, 2)])
@every_turn
def test_convolution_turned_maps_become_turned_maps(turns, in_turns, kernel, stride):
    layer = disturbed(P4Conv2d(in_turns, 2, 3, kernel, stride))
    x_BCHW = torch.randn(2, in_turns * 2, 8, 8, dtype=torch.float64)
    turn = turned if in_turns == 1 else turned_on_p4
    assert_same(layer(turn(x_BCHW, turns)), turned_on_p4(layer(x_BCHW), turns))


@pytest.mark.parametrize(("in_turns", "kernel", "stride"), [(1, 4, 2), (1, 3, 1), (4, 3, 1), (4, 4, 2)])
def test_every_weight_is_used_in_each_orientation_once(in_turns, kernel, stride):
    layer = P4Conv2d(in_turns, 2, 3, kernel, stride)
    assert layer.filters().shape == (12, in_turns * 2, kernel, kernel)
    layer.filters().sum().backward()
    assert layer.weight.grad is not None and (layer.weight.grad == 4).all()


@every_mode
@every_turn
def test_normalisation_turned_maps_become_turned_maps(turns, training):
    layer = disturbed(P4BatchNorm2d(3)).train(training)
    x_BCHW = torch.randn(2, 12, 6, 6, dtype=torch.float64)
    assert_same(layer(turned_on_p4(x_BCHW, turns)), turned_on_p4(layer(x_BCHW), turns))


@every_mode
def test_normalisation_is_that_of_five_dimensions(training):
    layer = disturbed(P4BatchNorm2d(3)).train(training)
    other = nn.BatchNorm3d(3).double().train(training)
    other.load_state_dict(layer.state_dict())
    x_BCHW = torch.randn(2, 12, 5, 7, dtype=torch.float64)
    expected = other(x_BCHW.reshape(2, 4, 3, 5, 7).transpose(1, 2)).transpose(1, 2).flatten(1, 2)
    assert_same(layer(x_BCHW), expected)
    for key, value in other.state_dict().items():
        assert_same(layer.state_dict()[key].double(), value.double())


def test_the_strongest_orientation_is_taken_where_the_place_is_averaged_out() -> None:
    x_BCHW = torch.randn(2, 12, 3, 3, dtype=torch.float64)
    expected = x_BCHW.numpy().reshape(2, 4, 3, 9).mean(3).max(1)
    assert_same(P4Invariant()(x_BCHW), torch.from_numpy(expected))


@every_mode
@every_turn
@pytest.mark.parametrize("image_px", [16, 40])
def test_no_quarter_turn_changes_the_logits(image_px, turns, training):
    network = backbone(image_px=image_px).train(training)
    x_BCHW = images(image_px=image_px)
    assert_same(network(turned(x_BCHW, turns)), network(x_BCHW))


@every_mode
@every_turn
@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_quarter_turn_turns_the_maps_after_every_stage(stop, turns, training):
    network, x_BCHW = backbone().train(training), images()
    plain = network.features(x_BCHW, stop=stop)
    assert_same(network.features(turned(x_BCHW, turns), stop=stop), turned_on_p4(plain, turns))
    assert plain.std() > 0.1


@every_mode
@pytest.mark.parametrize("name", ["cnn", "lenet"])
def test_a_backbone_that_is_not_equivariant_would_fail(name, training):
    network, x_BCHW = backbone(name).train(training), images()
    with torch.random.fork_rng():
        plain = network(x_BCHW)
    assert (network(turned(x_BCHW, 1)) - plain).abs().max() > 0.01


@every_mode
def test_the_logits_tell_images_apart(training):
    network, x_BCHW = backbone().train(training), images()
    logits = network(x_BCHW)
    assert torch.pdist(logits).min() > 0.01
    mirrored = network(x_BCHW.flip(-1))  # a mirror image is no quarter turn
    assert (mirrored - logits).norm(dim=1).min() > 0.01


def test_one_step_is_the_same_whichever_way_the_images_are_turned():
    gradients, statistics = [], []
    start, x_BCHW = backbone().train(), images()
    for turns in (0, 1, 3):
        network = copy.deepcopy(start)
        nn.functional.cross_entropy(network(turned(x_BCHW, turns)), torch.arange(5)).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
        statistics.append([value for name, value in network.named_buffers() if "running" in name])
    for plain, other in zip(gradients[0] * 2, gradients[1] + gradients[2], strict=True):
        assert plain is not None and other is not None and plain.isfinite().all() and plain.any()
        assert_same(other, plain)
    for plain, other in zip(statistics[0] * 2, statistics[1] + statistics[2], strict=True):
        assert_same(other, plain)


def test_channels_last_changes_nothing_and_stays():
    network, x_BCHW = backbone().eval(), images()
    plain = network(x_BCHW)
    network.to(memory_format=torch.channels_last)
    last_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
    assert_same(network(last_BCHW), plain)
    for stop in range(1, 5):
        assert network.features(last_BCHW, stop=stop).is_contiguous(memory_format=torch.channels_last)


def test_one_image_of_the_smallest_size():
    network = backbone(image_px=16).train()
    assert network(images(1, 16)).isfinite().all()


def test_shifted_images_become_shifted_maps() -> None:
    network, x_BCHW = backbone(image_px=80).eval(), images(2, 80)
    plain = network.features(x_BCHW)
    assert plain.shape == (2, 4 * 32, 10, 10)
    shifted = network.features(x_BCHW.roll((8, 16), (2, 3)))  # by one and by two pixels of the last map
    # Places whose field of view reaches neither the border nor the seam of the roll.
    assert_same(shifted[:, :, 4:-3, 5:-3], plain[:, :, 3:-4, 3:-5])
    assert plain[:, :, 3:-4, 3:-5].std() > 0.1


def test_its_size() -> None:
    with torch.device("meta"):
        sizes = {
            name: sum(
                parameter.numel()
                for parameter in BACKBONES[name](num_classes=10, image_px=32, in_channels=3, width=1.0).parameters()
            )
            for name in ("p4cnn", "cnn4")
        }
    assert sizes["p4cnn"] == 241_386
    assert sizes["p4cnn"] == pytest.approx(sizes["cnn4"], rel=0.01)


@pytest.mark.parametrize(
    ("image_px", "expected"), [(8, "16 px or more"), (15, "16 px or more"), (33, "a multiple of 8 px")]
)
def test_sizes_that_it_cannot_take_are_refused(image_px: int, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^backbone p4cnn needs images of {expected}, got {image_px}$"):
        BACKBONES["p4cnn"](num_classes=10, image_px=image_px, in_channels=3, width=1.0)
