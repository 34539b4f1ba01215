"""Alignment that teaches itself: rounds compose, classes do not teach it, its target undoes a turn, spreads shrink."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.backbones import BACKBONES
from baselines.whitening import Whitening, whitening_filters
from experiments.networks.models.realign import RealignNetwork
from experiments.networks.network import Batch
from ledger.errors import UserError
from stn.affine import from_parts
from stn.blur import blur
from stn.localisation import last_dense
from stn.maps import AffineMap
from stn.sampler import Sampler
from tests.support.networks import build, some_batch

CENTRE = (2 * torch.arange(32) + 1) / 32 - 1


def realigning(name: str) -> RealignNetwork:
    network = build(name)
    assert isinstance(network, RealignNetwork)
    return network


def brighter_below(angle_rad_B: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures of three random spots, brighter below than above, drawn turned from x to y: nothing is resampled."""
    num = len(angle_rad_B)
    y_HW, x_HW = torch.meshgrid(CENTRE, CENTRE, indexing="ij")
    cos_B11, sin_B11 = angle_rad_B.cos()[:, None, None], angle_rad_B.sin()[:, None, None]
    x_BHW, y_BHW = cos_B11 * x_HW + sin_B11 * y_HW, cos_B11 * y_HW - sin_B11 * x_HW
    picture_BHW = 0.5 + 0.25 * y_BHW
    for _ in range(3):
        right, down, height = torch.rand(3, num, 1, 1, generator=generator) - 0.5
        picture_BHW = picture_BHW + 0.8 * height * (-((x_BHW - right).square() + (y_BHW - down).square()) / 0.05).exp()
    disc_HW = x_HW.square() + y_HW.square() <= 1
    return (picture_BHW.clamp(0, 1) * disc_HW)[:, None].expand(-1, 3, -1, -1)


def angle_of(found: AffineMap) -> Tensor:
    return torch.atan2(found.theta_B23[:, 1, 0], found.theta_B23[:, 0, 0])


def spread_deg(angle_rad_B: Tensor) -> float:
    """Circular standard deviation."""
    resultant = torch.complex(angle_rad_B.cos(), angle_rad_B.sin()).mean().abs().item()
    return math.degrees(math.sqrt(-2 * math.log(resultant)))


def spreads_deg(name: str, num_steps: int, *, realigned: bool = True) -> tuple[float, float, float]:
    """Of the angles of new pictures, before, after one round and after all, where it has taught itself.

    No label and no angle is told. realigned: whether training goes through its rounds, or stays in the first part.
    """
    torch.manual_seed(0)
    network, generator = realigning(name).train(), torch.Generator().manual_seed(1)
    network.backbone = torch.nn.Flatten()  # type: ignore[assignment]
    optimiser = torch.optim.Adam(network.localisation.parameters(), lr=3e-3)
    angle_rad_B = (2 * torch.rand(512, generator=generator) - 1) * math.radians(60)
    raw_BCHW = brighter_below(angle_rad_B, generator)
    for step in range(num_steps):
        chosen_B = torch.randint(0, 512, (64,), generator=generator)
        batch = Batch(raw_BCHW[chosen_B], Batch.of(raw_BCHW[chosen_B]).poses, torch.rand(64, 2, generator=generator))
        _, penalty = network.logits_and_penalty(replace(batch, progress=step / num_steps if realigned else 0.0))
        assert penalty is not None
        optimiser.zero_grad()
        penalty.backward()
        optimiser.step()
    angle_rad_B = (2 * torch.rand(400, generator=generator) - 1) * math.radians(60)
    raw_BCHW = brighter_below(angle_rad_B, generator)
    network.eval()
    once, after = (spread_deg(angle_of(network.aligning(raw_BCHW, rounds)) - angle_rad_B) for rounds in (1, 2))
    return spread_deg(angle_rad_B), once, after


def test_the_spread_of_the_angles_is_less_than_half_after_it_has_taught_itself():
    before, _, after = spreads_deg("realign:localisation=deep:max_deg=90:rounds=2:bootstrap=true", 25)
    assert before > 33  # 60 degrees either way
    assert after < before / 2


@pytest.mark.long
def test_of_images_that_are_aligned_more_can_be_told():
    """Further turns as wide as the images' own: half of what it sees is not its own, and a round undoes half."""
    before, alone, _ = spreads_deg("realign:localisation=deep:max_deg=60:rounds=2:bootstrap=true", 100, realigned=False)
    assert alone == pytest.approx(before / 2, rel=0.2)
    _, once, _ = spreads_deg("realign:localisation=deep:max_deg=60:rounds=2:bootstrap=true", 100)
    assert once < 0.8 * alone


def test_what_it_learns_is_to_undo_the_further_turn_of_what_it_has_aligned_and_to_name_its_class():
    """With a stand-in that sees the angle of the picture itself, the whole term is that of the right answer."""
    network, generator = realigning("realign:bins=24:classes=2"), torch.Generator().manual_seed(2)
    angle_rad_B = torch.tensor([0.5, -0.7, 0.2])
    smooth_BCHW = brighter_below(angle_rad_B, generator)

    def sees(raw_BCHW: Tensor) -> Tensor:
        """Logits, nearly certain, of the angle by which the slope of brightness is turned from down, and of class 1."""
        weight_BHW = raw_BCHW.mean(1) - raw_BCHW.mean((1, 2, 3))[:, None, None]
        right_B, down_B = (weight_BHW * CENTRE).sum((1, 2)), (weight_BHW * CENTRE[:, None]).sum((1, 2))
        angle_B = torch.atan2(-right_B, down_B)
        step_K = torch.arange(24) * 2 * math.pi / 24
        class_BX = torch.tensor([[0.0, 50.0, *[0.0] * 8]]).expand(len(raw_BCHW), 10)
        return torch.cat([200 * (angle_B[:, None] - step_K).cos() - step_K.cos(), class_BX], dim=1)

    network.say = sees  # type: ignore[method-assign]
    batch = Batch(smooth_BCHW, Batch.of(smooth_BCHW).poses, torch.rand(3, 2, generator=generator))
    slope_B = angle_of(network.aligning(smooth_BCHW, 1))
    aligned = network.aligning(Sampler()(smooth_BCHW, network.aligning(smooth_BCHW, 1)), 1)
    assert slope_B.abs().min() > 0.1 and angle_of(aligned).abs().max() < 0.03
    aligning = network.aligning(smooth_BCHW, 1)
    right = network.mistaken(batch, aligning)
    wrong = network.mistaken(batch, AffineMap(from_parts(angle_rad_B=torch.zeros(3))))
    assert right < 1 < 5 < wrong
    named, misnamed = (network.mistaken(replace(batch, labels_B=torch.tensor([1, x, 1])), aligning) for x in (1, 4))
    assert named == pytest.approx(right.item())
    assert misnamed == pytest.approx(right.item() + 2 * 50 / 3)


def test_rounds_are_one_map_each_found_on_what_the_last_one_saw():
    network, batch = realigning("realign:localisation=lenet:rounds=3").eval(), some_batch("realign", 4)
    with torch.no_grad():
        list(network.localisation.parameters())[-2].normal_(std=3.0)
        (found,) = network.maps(replace(batch, progress=1.0))
        angle_B = torch.zeros(4)
        for _ in range(3):
            seen_BCHW = Sampler()(batch.raw_BCHW, AffineMap(from_parts(angle_rad_B=angle_B)))
            angle_B = angle_B + angle_of(network.turn(network.localise(seen_BCHW)))
    expected = AffineMap(from_parts(angle_rad_B=angle_B))
    assert isinstance(found, AffineMap)
    assert angle_B.abs().min() > 0.01
    torch.testing.assert_close(found.theta_B23, expected.theta_B23, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("progress", "rounds"), [(0.0, 0), (0.32, 0), (0.34, 1), (0.66, 1), (0.67, 2), (1.0, 2)])
def test_rounds_come_in_one_after_another(progress, rounds):
    assert realigning("realign:rounds=2").rounds_at(progress) == rounds


def test_the_classifier_teaches_it_nothing_and_statistics_are_those_of_what_it_is_taught_on():
    network, batch = realigning("realign:localisation=deep").train(), replace(some_batch("realign", 8), progress=1.0)
    with torch.no_grad():
        list(network.localisation.parameters())[-2].normal_(std=1.0)
    before = network.localisation.get_buffer("1.running_mean").clone()
    network(batch).square().sum().backward()
    assert all(parameter.grad is None for parameter in network.localisation.parameters())
    assert torch.equal(network.localisation.get_buffer("1.running_mean"), before)
    _, penalty = network.logits_and_penalty(batch)
    assert penalty is not None
    penalty.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.localisation.parameters())
    assert not torch.equal(network.localisation.get_buffer("1.running_mean"), before)


@pytest.mark.parametrize("bootstrap", [False, True])
def test_it_is_taught_by_images_as_they_are_or_as_it_has_aligned_them(bootstrap):
    network = realigning(f"realign:localisation=lenet:bootstrap={str(bootstrap).lower()}").train()
    with torch.no_grad():
        last_dense(network.localisation).weight.normal_(std=1.0)
    batch, taught_by = replace(some_batch("realign", 4), progress=0.9), []
    network.mistaken = lambda batch, aligning: taught_by.append(aligning) or torch.zeros(())  # type: ignore[method-assign,func-returns-value]
    network.logits_and_penalty(batch)
    (found,) = network.maps(batch)
    assert isinstance(found, AffineMap) and angle_of(found).abs().max() > 0.01
    (aligning,) = taught_by
    assert torch.equal(aligning.theta_B23, found.theta_B23 if bootstrap else torch.eye(2, 3).expand(4, 2, 3))


def test_each_of_its_networks_whitens_what_it_is_given():
    network, raw_BCHW = realigning("realign:localisation=backbone"), torch.rand(8, 3, 32, 32)
    network.whiten(raw_BCHW)
    blurred_BCHW = network.normalise(blur(raw_BCHW * network.fading_HW, 1.0))
    for part, given_BCHW in ((network.backbone, network.normalise(raw_BCHW)), (network.localisation, blurred_BCHW)):
        (layer,) = (layer for layer in part.modules() if isinstance(layer, Whitening))
        expected_PCKK = whitening_filters(given_BCHW).float()
        torch.testing.assert_close(layer.weight[: len(expected_PCKK)], expected_PCKK)


@pytest.mark.long
def test_where_there_is_nothing_to_see_it_does_not_tell_the_turn():
    """Grey discs, turned by any angle: a network that learns well would read it off a sharp edge's steps."""
    torch.manual_seed(0)
    network, generator = realigning("realign:localisation=deep:classes=0").train(), torch.Generator().manual_seed(1)
    network.backbone = torch.nn.Flatten()  # type: ignore[assignment]
    network.localisation = BACKBONES["cnn4"](num_classes=36, image_px=32, in_channels=3, width=0.5)
    optimiser = torch.optim.Adam(network.localisation.parameters(), lr=3e-3)
    disc_HW = (CENTRE.square()[:, None] + CENTRE.square() <= 1).float()
    batch, penalties = Batch.of(0.5 * disc_HW.expand(64, 3, 32, 32), 2), []
    for _ in range(300):
        turns = torch.rand(64, 2, generator=generator)
        _, penalty = network.logits_and_penalty(replace(batch, u_BK=turns, progress=0.0))
        assert penalty is not None
        optimiser.zero_grad()
        penalty.backward()
        optimiser.step()
        penalties.append(penalty.item())
    assert np.mean(penalties[-50:]) > math.log(36) - 0.1


def test_what_is_outside_the_disc_and_what_is_fine_tells_nothing():
    network = realigning("realign:blur_px=1.5").eval()
    raw_BCHW = torch.rand(2, 3, 32, 32)
    other_BCHW = torch.where(CENTRE.square()[:, None] + CENTRE.square() <= 1, raw_BCHW, torch.rand(2, 3, 32, 32))
    checks_HW = 0.1 * (-1.0) ** (torch.arange(32)[:, None] + torch.arange(32))
    inner_HW = CENTRE.square()[:, None] + CENTRE.square() <= 0.5
    with torch.no_grad():
        last_dense(network.localisation).weight.normal_(std=1.0)
        told = network.localise(raw_BCHW)
        assert torch.equal(network.localise(other_BCHW), told)
        fine = (network.localise(raw_BCHW + checks_HW * inner_HW) - told).abs().max()
        coarse = (network.localise(raw_BCHW + 0.1 * inner_HW) - told).abs().max()
    assert fine < coarse / 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("realign:rounds=0", "model.rounds: 0 is not between 1 and 8"),
        ("realign:max_deg=0", "model.max_deg: 0.0 is not above 0 and up to 180"),
        ("realign:bins=2", "model.bins: 2 is not between 4 and 360"),
        ("realign:round=2", "round: realign has no such hyper-parameter; did you mean 'rounds'"),
    ],
)
def test_what_cannot_be_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        build(name)
