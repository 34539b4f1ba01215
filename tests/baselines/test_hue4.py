"""The backbone hue4cnn, a control: p4cnn's size and cost, and other symmetries."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from baselines.backbones import BACKBONES, Backbone
from baselines.backbones.hue4cnn import hue_turned
from experiments.networks.network import count_parameters
from experiments.runs.costs import count_train_flops, prediction_costs
from tests.support.networks import build


def backbone(in_channels: int = 3) -> Backbone:
    """In double precision, its numbers replaced by others, as after training."""
    network = BACKBONES["hue4cnn"](num_classes=10, image_px=17, in_channels=in_channels, width=0.5).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=max(1, parameter[0].numel()) ** -0.5)
    return network


def in_hue(x_BCHW: Tensor, quarters: int) -> Tensor:
    """By a rotation about the grey axis."""
    turn = Rotation.from_rotvec([quarters * math.pi / 2 / math.sqrt(3)] * 3).as_matrix()
    return torch.einsum("dc,bchw->bdhw", torch.from_numpy(turn), x_BCHW)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 5])
def test_hues_are_turned_about_the_grey_axis(quarters: int) -> None:
    x_BCHW = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(hue_turned(x_BCHW, quarters, 1), in_hue(x_BCHW, quarters))
    both = torch.cat([x_BCHW, x_BCHW.flip(0)], dim=1)
    torch.testing.assert_close(hue_turned(both, quarters, 1)[:, 3:], in_hue(x_BCHW.flip(0), quarters))
    torch.testing.assert_close(hue_turned(x_BCHW[:, :1], quarters, 1), x_BCHW[:, :1])


@pytest.mark.parametrize("training", [False, True])
def test_no_quarter_turn_of_the_colours_changes_the_logits_but_turns_of_the_image_do(training: bool) -> None:
    network, x_BCHW = backbone().train(training), torch.randn(5, 3, 17, 17, dtype=torch.float64)
    with torch.no_grad():
        plain = network(x_BCHW)
        for quarters in (1, 2, 3):
            torch.testing.assert_close(network(in_hue(x_BCHW, quarters)), plain, atol=1e-10, rtol=0)
        for other in (x_BCHW.rot90(1, (2, 3)), x_BCHW.flip(3), x_BCHW.flip(1)):
            assert (network(other) - plain).norm(dim=1).min() > 0.01


def test_the_maps_move_on_with_the_hue() -> None:
    network, x_BCHW = backbone().eval(), torch.randn(2, 3, 17, 17, dtype=torch.float64)
    with torch.no_grad():
        for stop in range(1, 5):
            plain, turned = (network.features(each, stop=stop) for each in (x_BCHW, in_hue(x_BCHW, 1)))
            torch.testing.assert_close(turned, torch.cat(plain.chunk(4, 1)[-1:] + plain.chunk(4, 1)[:-1], 1))
            assert (turned - plain).abs().max() > 0.01


def test_it_costs_what_p4cnn_costs() -> None:
    control, equivariant = (build(f"cnn@{name}") for name in ("hue4cnn", "p4cnn"))
    assert count_parameters(control) == count_parameters(equivariant) == 241_386
    assert count_train_flops(control, 32) == count_train_flops(equivariant, 32)
    assert prediction_costs(control, 32) == prediction_costs(equivariant, 32)


def test_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^backbone hue4cnn needs images of 16 px or more, got 15$"):
        BACKBONES["hue4cnn"](num_classes=10, image_px=15, in_channels=3, width=1.0)
