"""What single networks compute and how large they are: where a transformer stands, what it sees, what it is told."""

import pytest
import torch

from baselines.backbones import BACKBONES
from experiments.networks.models.cnn_matched import count_parameters
from tests.support.networks import build, built, num_parameters, some_batch

every_backbone = pytest.mark.parametrize("backbone", list(BACKBONES))


@pytest.mark.parametrize(
    ("name", "num"),
    [
        ("cnn@lenet", 31_340),
        ("stn_affine@lenet", 39_884),
        ("cnn", 126_520),
        ("stn_affine", 126_520 + 8_544),
        ("stn_frozen", 126_520),
        ("cnn@cnn4", 243_146),
        ("stn_affine@cnn4", 243_146 + 8_544),
        ("cnn@p4cnn", 241_386),
        ("cnn@resnet18", 11_173_962),
        ("stn_affine@resnet18", 11_173_962 + 8_544),
    ],
)
def test_parameters_are_as_many_as_documented(name, num):
    assert num_parameters(name) == num


@every_backbone
def test_the_matched_cnn_is_as_large_as_the_transformer_s(backbone):
    plain, matched, target = (num_parameters(f"{m}@{backbone}") for m in ("cnn", "cnn_matched", "stn_affine"))
    assert abs(matched - target) <= abs(plain - target)
    assert matched == pytest.approx(target, rel=0.02)


@pytest.mark.parametrize("width", [0.05, 0.1, 0.25])
def test_a_transformer_is_also_where_the_backbone_is_small_beside_the_localisation_network(width):
    matched, target = (num_parameters(f"{model}@cnn:width={width}") for model in ("cnn_matched", "stn_affine"))
    assert matched == pytest.approx(target, rel=0.06)  # channels come in whole numbers


@every_backbone
def test_no_width_matches_better(backbone):
    with torch.device("meta"):
        sizes = [
            count_parameters(BACKBONES[backbone](num_classes=10, image_px=32, in_channels=3, width=1 + step / 256))
            for step in range(0, 257, {"lenet": 1, "resnet18": 64}.get(backbone, 8))
        ]
    target, matched = num_parameters(f"stn_affine@{backbone}"), num_parameters(f"cnn_matched@{backbone}")
    assert abs(matched - target) <= min(abs(size - target) for size in sizes)


@every_backbone
def test_a_backbone_grows_with_its_width(backbone):
    with torch.device("meta"):
        sizes = [
            count_parameters(BACKBONES[backbone](num_classes=10, image_px=32, in_channels=3, width=width))
            for width in (0.01, 0.5, 1.0, 1.5, 2.0)
        ]
    assert sizes == sorted(set(sizes))
    assert [num_parameters(f"cnn@{backbone}:width={width}") for width in (0.01, 0.5, 1, 1.5, 2)] == sizes


def test_pixels_are_normalised_by_channel():
    network, raw_BCHW = built("cnn"), torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    torch.testing.assert_close(network.normalise(raw_BCHW), (raw_BCHW - mean) / std)


def test_steps_compose_and_the_original_is_resampled_once():
    """Two steps of a quarter turn are half a turn, exactly: twice through the sampler would blur."""
    network, batch = build("stn_rotation:steps=2").eval(), some_batch("cnn", 2)
    with torch.no_grad():
        network.get_parameter("localisation.10.bias").copy_(torch.tensor([-1.0, 1.0]))
        torch.testing.assert_close(network.look(batch), batch.raw_BCHW.rot90(2, (2, 3)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cnn", None),
        ("stn_affine", None),
        ("stn_affine:prior=0.3", 0.0),  # it starts at the identity
        ("stn_affine:supervision=1", 1.0),
        ("stn_affine:supervision=0.5", 0.5),
        ("stn_supervised", 10.0),
        ("stn_rotation:consistency=1", 1.0),
    ],
)
def test_penalties_are_those_that_were_asked_for(name, expected):
    batch = some_batch(name, 5)
    with torch.no_grad():
        penalty = built(name).logits_and_penalty(batch)[1]
        whole = built("stn_affine:supervision=1").logits_and_penalty(batch)[1]
    assert whole is not None
    if expected is None or penalty is None:
        assert penalty is expected
    elif "consistency" in name:
        # The maps stay at the identity when images turn by up to 90 degrees.
        angle = (2 * batch.u_BK[:, 0] - 1) * torch.pi / 2
        assert penalty.item() == pytest.approx((2 - 2 * angle.cos()).mean().item(), rel=1e-4)
    elif expected:
        assert whole > 0.01
        torch.testing.assert_close(penalty, expected * whole)
    else:
        assert penalty == 0
