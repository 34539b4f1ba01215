"""Choosing among turned copies: the choice turns with the image, its probabilities are those of a loop, it learns."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from experiments.images.poses import parse_pose
from experiments.networks.models.canonical import CanonicalNetwork
from experiments.networks.network import Batch
from experiments.networks.turning import each_turned, turned
from ledger.errors import UserError
from stn.sampler import Sampler
from tests.support.networks import build, some_batch


def scoring(name: str) -> CanonicalNetwork:
    """A network in evaluation whose scorer tells copies apart."""
    network = build(name).eval()
    assert isinstance(network, CanonicalNetwork)
    with torch.no_grad():
        list(network.localisation.parameters())[-2].normal_(std=3.0)
    return network


def smooth(num: int, size: int = 32) -> torch.Tensor:
    noise = np.random.default_rng(0).normal(size=(num, 3, size, size))
    blurred = ndimage.gaussian_filter(noise, (0, 0, 2, 2), mode="wrap")
    return torch.tensor(blurred / blurred.std() / 6 + 0.5, dtype=torch.float32).clamp(0, 1)


@pytest.mark.parametrize("angle_deg", [-135.0, -90.0, -30.0, 0.0, 22.5, 90.0, 200.0])
def test_each_image_is_turned_as_all_are(angle_deg):
    x_BCHW = torch.rand(3, 3, 32, 32)
    assert torch.equal(each_turned(x_BCHW, torch.full((3,), angle_deg)), turned(x_BCHW, angle_deg))


def test_images_are_turned_counter_clockwise_as_scipy_turns_them():
    x_BCHW = smooth(1)
    found = turned(x_BCHW, 30.0)[0].numpy()
    expected = ndimage.rotate(x_BCHW[0].numpy(), 30.0, axes=(1, 2), reshape=False, order=1)
    np.testing.assert_allclose(found[:, 8:24, 8:24], expected[:, 8:24, 8:24], atol=1e-4)


def turn_deg(network: CanonicalNetwork, x_BCHW: torch.Tensor) -> torch.Tensor:
    """By how much the likeliest copies are turned, counter-clockwise, in whole hundredths."""
    theta_B23 = network.copies.maps(network.likeliest(x_BCHW)).theta_B23
    return torch.atan2(theta_B23[:, 1, 0], theta_B23[:, 0, 0]).rad2deg().round(decimals=2) % 360


@pytest.mark.parametrize(
    "name",
    [
        "canonical",
        "canonical:num_turns=8:scorer_px=16",
        "canonical:num_turns=4:scorer=lenet",
        "canonical:num_turns=4:num_shifts=3:scorer=lenet:scorer_px=28",
    ],
)
def test_the_canonical_form_of_an_image_turned_by_a_quarter_is_the_same_bit_for_bit(name):
    network, x_BCHW = scoring(name), torch.rand(16, 3, 32, 32)
    chosen, form = turn_deg(network, x_BCHW), network.look(Batch.of(x_BCHW))
    assert len(chosen.unique()) > 2
    for quarters in (1, 2, 3):
        again_BCHW = x_BCHW.rot90(quarters, (2, 3))
        torch.testing.assert_close((turn_deg(network, again_BCHW) + 90 * quarters) % 360, chosen)
        assert torch.equal(network.look(Batch.of(again_BCHW)), form)
        assert torch.equal(network(Batch.of(again_BCHW)), network(Batch.of(x_BCHW)))


def test_turned_by_one_step_the_choice_turns_by_one_step():
    network, x_BCHW = scoring("canonical:num_turns=8"), smooth(64)
    disc_HW = torch.linspace(-1, 1, 32).square()[:, None] + torch.linspace(-1, 1, 32).square() <= 1
    x_BCHW = x_BCHW * disc_HW
    chosen, after = turn_deg(network, x_BCHW), turn_deg(network, turned(x_BCHW, 45.0))
    assert ((after + 45 - chosen) % 360 == 0).float().mean() > 0.6  # by chance one in eight; the rest is resampling


def test_the_map_is_the_one_that_it_looks_under():
    network, x_BCHW = scoring("canonical"), smooth(8)
    (maps,) = network.maps(Batch.of(x_BCHW))
    seen_BCHW = Sampler()(x_BCHW, maps)
    inside = (slice(None), slice(None), slice(8, 24), slice(8, 24))
    torch.testing.assert_close(network.look(Batch.of(x_BCHW))[inside], seen_BCHW[inside], atol=1e-4, rtol=0)


def test_a_latent_turn_is_summed_over_as_by_a_loop():
    name = "canonical:num_turns=5:max_deg=60:choice=latent"
    network, batch = scoring(name), some_batch(name, 6)
    angles_deg = [0.0, -30.0, 30.0, -60.0, 60.0]
    answers, scores = [], []
    with torch.inference_mode():
        for angle_deg in angles_deg:
            copy_BCHW = network.normalise(turned(batch.raw_BCHW, angle_deg))
            scores.append(network.localisation(copy_BCHW)[:, 0].double())
            answers.append(network.backbone(copy_BCHW).double().softmax(1))
        share_KB = torch.stack(scores).softmax(0)
        expected = sum(share_B[:, None] * answer_BX for share_B, answer_BX in zip(share_KB, answers, strict=True))
        found = network(batch)
    np.testing.assert_allclose(found.exp(), expected, atol=1e-5)
    np.testing.assert_allclose(found.exp().sum(1), 1, atol=1e-5)


def test_the_most_probable_copies_alone_are_asked_when_it_is_tested():
    first = scoring("canonical:num_turns=8:choice=latent")
    batch, answers = some_batch("canonical", 8), {}
    for name in ("choice=latent", "choice=latent:tested=8", "choice=latent:tested=1", "choice=hard"):
        network = scoring(f"canonical:num_turns=8:{name}")
        network.load_state_dict(first.state_dict())
        with torch.inference_mode():
            answers[name] = network(batch).log_softmax(1)
    same = {"choice=latent": "choice=latent:tested=8", "choice=latent:tested=1": "choice=hard"}
    for one, other in same.items():
        torch.testing.assert_close(answers[one], answers[other], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(answers["choice=latent"], answers["choice=hard"], atol=1e-2)


def test_copies_are_drawn_by_their_probabilities():
    """Of two without repetition: each is the first with its probability, the second with its share of the rest."""
    network = scoring("canonical:num_turns=4:choice=latent:copies=2").train()
    share_K, num = torch.tensor([0.1, 0.2, 0.3, 0.4]), 2000
    marked_BCHW = torch.zeros(num, 3, 32, 32)
    marked_BCHW[:, :, 0, 16] = 1  # at the top; a quarter turn puts it elsewhere
    seen: list[torch.Tensor] = []
    network.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    batch = Batch(marked_BCHW, Batch.of(marked_BCHW).poses, torch.rand(num, 4))
    with torch.no_grad():
        network.logits_of(batch, share_K.log().expand(num, 4))
    pixel_N4 = torch.stack([seen[0][:, 0, *place] for place in ((0, 16), (15, 0), (31, 15), (16, 31))], 1)
    found = pixel_N4.argmax(1).bincount() / num
    expected = [p + sum(q * p / (1 - q) for q in share_K.tolist() if q != p) for p in share_K.tolist()]
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_features_that_are_compared_move_from_the_start():
    network = build("canonical:num_turns=4:contrast=1:scorer=lenet").train()
    assert isinstance(network, CanonicalNetwork)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    batch = some_batch("canonical", 16)
    before = network.features(batch.raw_BCHW).detach()[:, :, 1:]
    for _ in range(3):
        logits_BX, penalty = network.logits_and_penalty(batch)
        assert penalty is not None
        optimiser.zero_grad()
        (F.cross_entropy(logits_BX, torch.arange(16) % 10) + penalty).backward()
        optimiser.step()
    assert (network.features(batch.raw_BCHW)[:, :, 1:] - before).abs().max() > 1e-3


def test_in_bf16_the_best_copy_has_the_pixels_that_it_has_when_tested():
    network, batch = scoring("canonical:num_turns=8"), some_batch("canonical", 4)
    seen: list[torch.Tensor] = []
    network.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    with torch.autocast("cpu", torch.bfloat16):
        score_BK = network.features(batch.raw_BCHW)[:, :, 0]
        network.logits_of(batch, score_BK)
        network.train()
        network.logits_of(batch, score_BK)
    torch.testing.assert_close(seen[0], seen[1])


def test_in_training_the_best_copy_is_seen_and_all_have_a_gradient():
    network = scoring("canonical:num_turns=4")
    batch = Batch.of(torch.rand(4, 3, 32, 32))
    seen = []
    network.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    score_BK = torch.tensor([[0.0, 1, 0, 0], [0, 0, 2, 0], [3, 0, 0, 0], [0, 0, 0, 1]], requires_grad=True)
    network.train()
    network.logits_of(batch, score_BK).square().sum().backward()
    expected = [x.rot90(k, (1, 2)) for x, k in zip(batch.raw_BCHW, (1, 2, 0, 3), strict=True)]
    torch.testing.assert_close(seen[0], network.normalise(torch.stack(expected)))
    assert score_BK.grad is not None
    assert (score_BK.grad != 0).all()


def test_prior_contrast_and_supervision_are_what_their_papers_say():
    network = scoring("canonical:num_turns=4:contrast=2:prior=3:supervision=5").train()
    batch = some_batch("canonical", 6)
    _, penalty = network.logits_and_penalty(batch)
    with torch.no_grad():
        features = network.features(batch.raw_BCHW)
    scores = features[:, :, 0]
    vectors = features.numpy()
    products = np.einsum("bkv,blv->bkl", vectors, vectors)
    off = [abs(products[b, k, m]) for b in range(6) for k in range(4) for m in range(4) if k != m]
    contrast = sum(off) / (6 * 12)
    expected = 2 * contrast + 3 * F.cross_entropy(scores, torch.zeros(6, dtype=torch.long))
    expected += 5 * F.cross_entropy(scores, network.nearest(batch))
    assert penalty is not None
    np.testing.assert_allclose(penalty.item(), expected.item(), rtol=1e-3)


def test_the_nearest_copy_undoes_the_pose():
    network = scoring("canonical:num_turns=8:supervision=1")
    poses = parse_pose("R:max_deg=180").draw(torch.rand(200, 4), 32)
    angle_deg_B = torch.rad2deg(torch.atan2(poses.theta_N33[:, 1, 0], poses.theta_N33[:, 0, 0]))
    batch = Batch(torch.zeros(200, 3, 32, 32), poses, torch.zeros(200, 0))
    left_deg = (45 * network.nearest(batch) + angle_deg_B + 180) % 360 - 180
    assert left_deg.abs().max() <= 22.5 + 1e-3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("canonical:num_turns=0", "num_turns: 0 is not between 1 and 72"),
        ("canonical:num_turns=1", "num_turns: 1 turns x 1 scales x 1 places are 1 copies, not between 2 and 256"),
        (
            "canonical:num_scales=3:num_shifts=3",
            "num_turns: 16 turns x 3 scales x 9 places are 432 copies, not between 2 and 256",
        ),
        ("canonical:num_scales=2", "num_scales: 2 is even, which leaves out the image itself"),
        ("canonical:num_shifts=4", "num_shifts: 4 is even, which leaves out the image itself"),
        ("canonical:max_scale=2", "max_scale: goes with num_scales of 3 or more"),
        ("canonical:max_shift=0.1", "max_shift: goes with num_shifts of 3 or more"),
        ("canonical:num_scales=3:max_scale=1", "max_scale: 1.0 is not above 1 and up to 10"),
        ("canonical:num_scales=5:max_scale=1.05", "of 32 px: max_scale: 5 scales are 0.4 px apart, too near to tell"),
        ("canonical:num_shifts=3:max_shift=0.01", "of 32 px: max_shift: 3 shifts are 0.32 px apart, too near to tell"),
        ("canonical:num_turns=8:max_deg=60", "num_turns: 8 turns from -max_deg to max_deg leave out"),
        ("canonical:tested=2", "tested: goes with choice=latent"),
        ("canonical:choice=latent:copies=1", "copies: of one there is nothing to learn which is better"),
        ("canonical:choice=latent:copies=17", "copies: 17 is more than the 16 that there are"),
        ("canonical:scorer_px=64", "scorer_px: it needs images of 64 px or more, got 32"),
    ],
)
def test_what_cannot_be_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        build(name)


@pytest.mark.long
def test_it_finds_out_which_way_up_images_are_when_that_decides_the_class():
    """Bars at one of two places on the rim, turned by any quarter: only the way up, a bright spot, tells them apart."""
    torch.manual_seed(1)
    network = build("canonical:num_turns=4:choice=latent:scorer=lenet@lenet", num_classes=2)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)

    def batch_of(num: int):
        x_BCHW = torch.rand(num, 3, 32, 32, generator=generator) * 0.2
        x_BCHW[:, :, 3:9, 12:20] = 1.0
        label_B = torch.randint(0, 2, (num,), generator=generator)
        x_BCHW[label_B == 0, :, 12:20, 3:9] = 0.7
        x_BCHW[label_B == 1, :, 12:20, 23:29] = 0.7
        turns_B = torch.randint(0, 4, (num,), generator=generator)
        return each_turned(x_BCHW, 90.0 * turns_B), label_B

    network.train()
    for _ in range(60):
        x_BCHW, label_B = batch_of(64)
        logits_BX, _ = network.logits_and_penalty(Batch.of(x_BCHW))
        optimiser.zero_grad()
        F.cross_entropy(logits_BX, label_B).backward()
        optimiser.step()
    network.eval()
    x_BCHW, label_B = batch_of(200)
    with torch.inference_mode():
        assert (network(Batch.of(x_BCHW)).argmax(1) == label_B).float().mean() > 0.95
