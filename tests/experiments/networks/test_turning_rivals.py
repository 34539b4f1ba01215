"""Rivals that turn images back without being taught by the classifier: each against a loop or a planted angle."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from experiments.images.poses import put_in_pose
from experiments.networks.models.amr import AmrNetwork
from experiments.networks.models.cnn_its import SearchingNetwork, peakedness
from experiments.networks.models.gid import direction_deg
from experiments.networks.network import Batch, GivenMapsNetwork, Network
from experiments.networks.turning import turned
from tests.support.networks import TURNING, build, built, some_batch


def smooth(num: int, seed: int = 0) -> Tensor:
    noise = np.random.default_rng(seed).normal(size=(num, 3, 32, 32))
    blurred = ndimage.gaussian_filter(noise, (0, 0, 3, 3), mode="wrap")
    return torch.tensor(blurred / blurred.std() / 6 + 0.5, dtype=torch.float32).clamp(0, 1)


def spots(angle_deg: list[float]) -> Tensor:
    """Black images, each with a soft spot in that direction from the centre, counter-clockwise from the right."""
    centre = np.arange(32) - 15.5
    images = []
    for angle in np.radians(angle_deg):
        x, y = 9 * math.cos(angle), -9 * math.sin(angle)
        images.append(np.exp(-((centre[None] - x) ** 2 + (centre[:, None] - y) ** 2) / 8))
    return torch.tensor(np.stack(images), dtype=torch.float32)[:, None].expand(-1, 3, 32, 32).contiguous()


def with_statistics(name: str) -> Network:
    """In evaluation, with running statistics that are not those of its start."""
    network = build(name)
    with torch.no_grad():
        network.backbone.train()(network.normalise(smooth(64, seed=1)))
    return network.eval()


@pytest.mark.parametrize("name", TURNING)
def test_the_classifier_sees_what_is_shown(name: str) -> None:
    network, batch = with_statistics(name), some_batch(name, 5)
    with torch.inference_mode():
        seen_BCHW = network.look(batch)
        assert seen_BCHW is not None
        expected_BX = network.backbone(network.normalise(seen_BCHW))
        torch.testing.assert_close(network(batch), expected_BX, atol=1e-5, rtol=1e-4)
        (maps,) = network.maps(batch) or []
    point_12 = torch.tensor([[1.0, 0.0]])
    assert (maps.apply(point_12).norm(dim=2) - 1).abs().max() < 1e-5  # a turn


@pytest.mark.parametrize("name", ["cnn_its", "amr"])
def test_the_classifier_is_trained_on_images_as_they_are(name: str) -> None:
    network, plain, batch = build(name).train(), build("cnn").train(), some_batch(name, 6)
    assert torch.equal(network(batch), plain(batch))


def test_the_copy_of_the_lowest_energy_is_asked() -> None:
    network = with_statistics("cnn_its:num_turns=8")
    assert isinstance(network, SearchingNetwork)
    x_BCHW, chosen = smooth(12), []
    with torch.inference_mode():
        found_BX, best_deg_B = network(Batch.of(x_BCHW)), network.turn_deg(x_BCHW)
        for image, (logits_X, best_deg) in enumerate(zip(found_BX.numpy(), best_deg_B.tolist(), strict=True)):
            answers = {
                angle_deg: network.backbone(network.normalise(turned(x_BCHW[image : image + 1], angle_deg)))[0].numpy()
                for angle_deg in range(0, 360, 45)
            }
            energies = {angle: -math.log(np.exp(answer.astype(float)).sum()) for angle, answer in answers.items()}
            assert energies[int(best_deg)] <= min(energies.values()) + 1e-5
            np.testing.assert_allclose(logits_X, answers[int(best_deg)], atol=1e-4)
            chosen.append(best_deg)
    assert len(set(chosen)) > 2


def test_an_image_turned_by_a_quarter_gets_the_same_answer_bit_for_bit() -> None:
    network, x_BCHW = with_statistics("cnn_its"), smooth(8)
    with torch.inference_mode():
        answers = [network(Batch.of(x_BCHW.rot90(quarters, (2, 3)))) for quarters in range(4)]
        assert all(torch.equal(answer, answers[0]) for answer in answers)
        assert not torch.allclose(built("cnn")(Batch.of(x_BCHW)), built("cnn")(Batch.of(x_BCHW.rot90(1, (2, 3)))))


@pytest.mark.parametrize("num", [3, 16])
@pytest.mark.parametrize(("is_circle", "mode"), [(True, "wrap"), (False, "nearest")])
def test_peaks_are_found_as_by_scipy(num: int, is_circle: bool, mode: str) -> None:
    score_BK = np.random.default_rng(0).normal(size=(4, num)).astype(np.float32)
    longer = np.pad(score_BK, ((0, 0), (20, 20)), mode="wrap" if is_circle else "edge")
    smoothed = ndimage.gaussian_filter1d(longer, 2.0, axis=1, radius=3, mode="nearest")
    expected = -np.diff(smoothed, n=2, axis=1)[:, 19:-19]
    found = peakedness(torch.tensor(score_BK), is_circle=is_circle)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_rise_towards_the_end_of_the_range_is_no_peak() -> None:
    network = build("cnn_its:num_turns=15:max_deg=90:confidence=curvature")
    assert isinstance(network, SearchingNetwork)
    step_K = torch.arange(15.0)
    sure_K = 0.5 * step_K + 2 * (-0.1 * (step_K - 5).square()).exp()
    logits_KBX = torch.stack([sure_K, torch.full((15,), -50.0)], dim=1)[:, None]
    assert sure_K.argmax() == 14
    assert abs(int(network.best(logits_KBX)) - 5) <= 1


@pytest.mark.parametrize("weight", ["angle", "centroid"])
def test_the_brightest_side_is_where_the_spot_is_and_is_turned_to_the_right(weight: str) -> None:
    angles = [-170.0, -90.0, -30.0, 0.0, 45.0, 90.0, 135.0]
    x_BCHW = spots(angles)
    np.testing.assert_allclose(direction_deg(x_BCHW, weight), angles, atol=0.5)
    network = build(f"gid:weight={weight}")
    assert isinstance(network, GivenMapsNetwork)
    np.testing.assert_allclose(direction_deg(network.look(Batch.of(x_BCHW)), weight), 0, atol=1)


def test_far_pixels_count_more_for_the_centroid() -> None:
    x_BCHW = torch.zeros(1, 3, 32, 32)
    x_BCHW[:, :, 15:17, 18] = 1.0  # near, to the right
    x_BCHW[:, :, 2, 15:17] = 0.7  # far, at the top
    by_angle, by_centroid = (float(direction_deg(x_BCHW, weight)) for weight in ("angle", "centroid"))
    assert 30 < by_angle < 40 and 70 < by_centroid < 80


def test_the_brightest_side_turns_with_the_image_and_an_even_one_stays() -> None:
    upright_NHWC = (smooth(30).permute(0, 2, 3, 1) * 255).to(torch.uint8)
    posed_NHWC, poses = put_in_pose(upright_NHWC, torch.arange(30), "R:max_deg=180", part="test")
    still_NHWC, _ = put_in_pose(upright_NHWC, torch.arange(30), "upright:corners=disc", part="test")
    before, after = (direction_deg(x_NHWC.permute(0, 3, 1, 2) / 255, "centroid") for x_NHWC in (still_NHWC, posed_NHWC))
    turn_N = torch.atan2(poses.theta_N33[:, 1, 0], poses.theta_N33[:, 0, 0]).rad2deg()
    off_N = (after - before - turn_N + 180) % 360 - 180
    assert off_N.abs().median() < 2
    even = torch.full((1, 3, 32, 32), 0.5)
    seen = build("gid").look(Batch.of(even))
    assert seen is not None and torch.allclose(seen[:, :, 8:24, 8:24], even[:, :, 8:24, 8:24], atol=1e-3)


def amr(name: str = "amr:num_angles=8:localisation=lenet") -> AmrNetwork:
    network = build(name)
    assert isinstance(network, AmrNetwork)
    return network


class ReadsSpots(torch.nn.Module):
    """Names where the brightest side is, of eight directions from the right."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        angle_deg_B = direction_deg(x_BCHW - x_BCHW.amin((1, 2, 3), keepdim=True), "centroid")
        return (angle_deg_B[:, None] - torch.arange(8) * 45).deg2rad().cos()


def test_an_image_is_turned_back_by_the_angle_that_is_seen_in_it() -> None:
    network = amr().eval()
    network.localisation = ReadsSpots()
    x_BCHW = spots([0.0, 45.0, 90.0, -135.0])
    assert network.turn_deg(x_BCHW).tolist() == [0, -45, -90, -225]
    seen_BCHW = network.look(Batch.of(x_BCHW))
    torch.testing.assert_close(seen_BCHW, x_BCHW[:1].expand_as(seen_BCHW), atol=0.08, rtol=0)


def test_the_angles_that_it_is_taught_are_those_by_which_images_are_turned() -> None:
    network = amr().train()
    network.localisation = ReadsSpots()
    angle_deg = torch.tensor([0.0, 20.0, 50.0, 100.0, 170.0, 190.0, 300.0, 355.0])
    batch = Batch(spots([0.0] * 8), Batch.of(spots([0.0] * 8)).poses, angle_deg[:, None] / 360)
    _, penalty = network.logits_and_penalty(batch)
    steps = np.cos(np.radians(angle_deg.numpy()[:, None] - np.arange(8) * 45))
    nearest = np.array([0, 0, 1, 2, 4, 4, 7, 0])
    log_share = steps - np.log(np.exp(steps).sum(1, keepdims=True))
    assert penalty is not None
    assert penalty.item() == pytest.approx(-log_share[np.arange(8), nearest].mean(), abs=0.02)


def test_frames_do_not_tell_the_angle() -> None:
    """Nothing outside the inscribed disc is seen, and images that a pose has turned look as those of training do."""
    network = amr().eval()
    with torch.no_grad():
        list(network.localisation.parameters())[-2].normal_()
    x_BCHW, zero = smooth(6), torch.zeros(6)
    other_BCHW = x_BCHW.clone()
    other_BCHW[:, :, :2, :2] = 0
    with torch.inference_mode():
        one, other = (network.angle_logits(each, zero) for each in (x_BCHW, other_BCHW))
        assert (one - other).abs().max() < 0.1 * (one - one.flip(0)).abs().max()
    uint8_NHWC = (x_BCHW.permute(0, 2, 3, 1) * 255).to(torch.uint8)
    posed_NHWC, poses = put_in_pose(uint8_NHWC, torch.arange(6), "R:max_deg=180", part="test")
    turn_N = torch.atan2(poses.theta_N33[:, 1, 0], poses.theta_N33[:, 0, 0]).rad2deg()
    seen: list[Tensor] = []
    network.localisation.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network.angle_logits(uint8_NHWC.permute(0, 3, 1, 2) / 255, turn_N)
    posed_BCHW = network.normalise(posed_NHWC.permute(0, 3, 1, 2) / 255)
    assert (seen[0] - posed_BCHW).abs().max() < 0.05


@pytest.mark.long
def test_it_learns_to_see_the_angle_from_upright_images_alone() -> None:
    network = amr().train()
    optimiser = torch.optim.Adam(network.localisation.parameters(), lr=3e-3)
    x_BCHW = spots([0.0] * 64)
    poses, generator = Batch.of(x_BCHW).poses, torch.Generator().manual_seed(0)
    for _ in range(60):
        _, penalty = network.logits_and_penalty(Batch(x_BCHW, poses, torch.rand(64, 1, generator=generator)))
        assert penalty is not None
        optimiser.zero_grad()
        penalty.backward()
        optimiser.step()
    angles = [45.0 * step for step in range(8)]
    back = network.eval().turn_deg(spots(angles))
    assert ((back + torch.tensor(angles)) % 360).tolist() == [0] * 8
