"""Every factor of a spatial transformer does what it says, and what cannot go together is refused in one line."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.backbones import BACKBONES
from experiments.images.poses import PoseMaps, no_pose
from experiments.networks.models import MODELS
from experiments.networks.network import Batch
from experiments.networks.spatial_transformer import Stn, StnNetwork
from stn import TRANSFORMATIONS
from stn.affine import from_parts
from stn.blur import blur
from stn.guidance import consistency, prior, supervision
from stn.localisation import last_dense
from stn.maps import AffineMap, circle
from stn.sampler import Sampler
from tests.support.networks import MEAN_C, STD_C, build, built, model_of, some_batch

FAMILIES = ["translation", "attention", "rotation", "similarity", "affine", "projective", "tps"]
PLACES = ["input", "feature", "shared"]


def stn(name: str, image_px: int = 32) -> StnNetwork:
    network = build(name, image_px=image_px).eval()
    assert isinstance(network, StnNetwork)
    return network


def last_layer(network: StnNetwork) -> torch.nn.Linear:
    return last_dense(network.localisation)


def constant(network: StnNetwork, *params: float) -> StnNetwork:
    """The network, whose transformer now does the same to every image."""
    with torch.no_grad():
        last_layer(network).bias.copy_(torch.tensor(params))
    return network


def batch_of(num: int = 3, image_px: int = 32, progress: float = 1.0, poses: PoseMaps | None = None) -> Batch:
    raw_BCHW = torch.rand(num, 3, image_px, image_px).contiguous(memory_format=torch.channels_last)
    return Batch(raw_BCHW, poses or no_pose(num), torch.rand(num, 1), progress)


class Seen:
    """What a module was given."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.inputs: list[Tensor] = []
        module.register_forward_pre_hook(lambda _, given: self.inputs.append(given[0]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("place", PLACES)
def test_all_start_as_the_plain_backbone(family, place):
    batch = batch_of()
    with torch.no_grad():
        torch.testing.assert_close(
            built(f"stn_{family}:place={place}")(batch), built("cnn")(batch), atol=1e-6, rtol=1e-6
        )


def test_at_the_input_it_looks_at_the_normalised_image_with_a_network_of_its_own():
    network, batch = stn("stn_affine"), batch_of()
    seen = Seen(network.localisation)
    network(batch)
    assert torch.equal(seen.inputs[0], network.normalise(batch.raw_BCHW))


@pytest.mark.parametrize(("backbone", "stage"), [("cnn", 1), ("cnn", 2), ("cnn4", 1), ("cnn4", 2), ("cnn4", 3)])
def test_in_a_feature_map_it_looks_at_the_map_and_warps_it(backbone, stage):
    network, batch = stn(f"stn_translation:place=feature:stage={stage}@{backbone}"), batch_of()
    map_BCHW = network.backbone.features(network.normalise(batch.raw_BCHW), stop=stage)
    side_px = map_BCHW.shape[-1]
    constant(network, 2 / side_px, 0.0)  # one pixel of the map to the left
    looked, rest = Seen(network.localisation), Seen(network.backbone.stages[stage])
    network(batch)
    assert torch.equal(looked.inputs[0], map_BCHW)
    warped_BCHW = rest.inputs[0]
    torch.testing.assert_close(warped_BCHW[..., :-1], map_BCHW[..., 1:], atol=1e-5, rtol=0)
    assert warped_BCHW[..., -1].abs().max() < 1e-5


def test_after_the_last_stage_it_warps_what_the_head_sees():
    network, batch = stn("stn_translation:place=feature:stage=4@cnn4"), batch_of()
    constant(network, 10.0, 0.0)  # everything out of sight
    seen = Seen(network.backbone.head)
    network(batch)
    assert not seen.inputs[0].any()


@pytest.mark.parametrize("stage", [1, 2])
def test_shared_stages_look_and_the_image_is_warped(stage):
    network, batch = stn(f"stn_translation:place=shared:stage={stage}"), batch_of()
    constant(network, 2 / 32, 0.0)
    looked, first = Seen(network.localisation), Seen(network.backbone.stages[0])
    network(batch)
    normal = network.normalise(batch.raw_BCHW)
    assert torch.equal(looked.inputs[0], network.backbone.features(normal, stop=stage))
    assert torch.equal(first.inputs[0], normal)
    torch.testing.assert_close(first.inputs[1][..., :-1], normal[..., 1:], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("place", "reached"), [("input", False), ("feature", True), ("shared", True)])
def test_the_map_s_gradient_reaches_the_stages_that_look(place, reached):
    network = stn(f"stn_affine:place={place}:start_sd=0.1")
    (found,) = network.maps(batch_of())
    found.apply(circle(torch.device("cpu"))).square().sum().backward()
    grads = [p.grad for p in network.backbone.stages[0].parameters() if p.requires_grad]
    assert all((grad is not None and grad.any().item()) == reached for grad in grads)
    assert all(p.grad is None for p in network.backbone.stages[1].parameters())
    assert all(p.grad is not None and p.grad.any() for p in network.localisation.parameters())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("backbone", list(BACKBONES))
@torch.inference_mode()
def test_every_place_goes_with_every_backbone(place, backbone):
    network = built(f"stn_affine:place={place}@{backbone}")
    assert network(batch_of(2)).shape == (2, 10)
    looked = network.look(batch_of(2))
    assert looked is not None and looked.shape == (2, 3, 32, 32)


def first_input(name: str, *params: float, batch: Batch, training: bool = False) -> Tensor:
    """What the backbone sees."""
    network = constant(stn(name), *params)
    seen = Seen(network.backbone.stages[0])
    network.train(training)(batch)
    return seen.inputs[-1]


def test_raw_pixels_are_black_outside_and_normalised_ones_of_the_mean_colour():
    black_C, batch = -MEAN_C / STD_C, batch_of()
    for warp, expected_C in (("raw", black_C), ("normalised", torch.zeros(3))):
        seen = first_input(f"stn_translation:warp={warp}", 1.0, 0.0, batch=batch)
        outside = seen[..., 17:]
        torch.testing.assert_close(outside, expected_C[:, None, None].expand_as(outside))
        torch.testing.assert_close(
            seen[..., :15], (batch.raw_BCHW[..., 16:31] - MEAN_C.view(3, 1, 1)) / STD_C.view(3, 1, 1)
        )


@pytest.mark.parametrize("options", ["padding=border", "padding=reflection", "anti_alias=true"])
def test_the_sampler_is_the_one_that_was_asked_for(options):
    key, value = options.split("=")
    batch = batch_of()
    network = stn(f"stn_attention:{options}")
    asked: dict[str, Any] = {key: True if value == "true" else value}
    sampler = replace(Sampler(), **asked)
    assert network.transformer.sampler == sampler
    seen = first_input(f"stn_attention:{options}", 0.7, 0.4, 0.1, batch=batch)
    found = TRANSFORMATIONS["attention"](torch.tensor([[0.7, 0.4, 0.1]] * 3))
    torch.testing.assert_close(seen, network.normalise(sampler(batch.raw_BCHW, found)))
    assert not torch.allclose(seen, first_input("stn_attention", 0.7, 0.4, 0.1, batch=batch))


def test_linearised_gradients_reach_the_localisation_net():
    batch, slopes = batch_of(), []
    for gradient in ("bilinear", "linearised"):
        network = stn(f"stn_affine:gradient={gradient}")
        logits = network(batch)
        logits.square().sum().backward()
        slope = last_layer(network).bias.grad
        assert slope is not None
        slopes.append((logits, slope))
    assert torch.equal(slopes[0][0], slopes[1][0])
    assert not torch.allclose(slopes[0][1], slopes[1][1])


@pytest.mark.parametrize(("size", "seen_px"), [(0.5, 16), (0.75, 24), (1.5, 48)])
@pytest.mark.parametrize("place", ["input", "shared"])
def test_what_is_passed_on_has_the_size_asked_for(size, seen_px, place):
    batch, name = batch_of(), f"stn_affine:size={size}:place={place}"
    assert first_input(name, *[0.0] * 6, batch=batch).shape == (3, 3, seen_px, seen_px)
    looked = stn(name).look(batch)
    assert looked.shape == (3, 3, seen_px, seen_px)
    identity = TRANSFORMATIONS["affine"](torch.zeros(3, 6))
    assert torch.equal(looked, Sampler()(batch.raw_BCHW, identity, (seen_px, seen_px)))


@pytest.mark.parametrize(
    ("training", "progress", "sigma"), [(True, 0.0, 2.0), (True, 0.25, 1.0), (True, 0.5, 0.0), (False, 0.0, 0.0)]
)
def test_the_sampled_image_is_blurred_early_in_training_only(training, progress, sigma):
    batch = batch_of(progress=progress)
    seen = first_input("stn_affine:blur_px=2", *[0.0] * 6, batch=batch, training=training)
    expected = stn("stn_affine").normalise(blur(batch.raw_BCHW, sigma))
    torch.testing.assert_close(seen, expected)


def test_sampling_is_steered_by_the_sharp_image():
    network, batch = stn("stn_affine:blur_px=2").train(), batch_of(progress=0.0)
    seen = Seen(network.localisation)
    network(batch)
    assert torch.equal(seen.inputs[0], network.normalise(batch.raw_BCHW))


@pytest.mark.parametrize(
    "name",
    [
        "stn_affine:blur_px=2:consistency=1:prior=1",
        "stn_affine:warp=normalised:blur_px=1",
        "stn_rotation:steps=2:gradient=linearised",
        "stn_affine:heads=2",
        "stn_tps:place=feature",
    ],
)
def test_training_in_bf16_gives_finite_gradients_and_float32_maps(name):
    network, batch = stn(name).train(), batch_of(progress=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        logits, penalty = network.logits_and_penalty(batch)
        assert all(found.apply(circle(torch.device("cpu"))).dtype == torch.float32 for found in network.maps(batch))
    loss = logits.float().square().mean() + (0 if penalty is None else penalty)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_a_disturbed_start_gives_images_maps_of_their_own():
    batch = batch_of(8)
    still, disturbed = stn("stn_affine"), stn("stn_affine:start_sd=0.05")
    theta, other = (network.localise(batch.raw_BCHW) for network in (still, disturbed))
    assert not theta.any()
    assert other.std(0).min() > 0
    sd = last_layer(disturbed).weight.std().item()
    assert sd == pytest.approx(0.05, rel=0.2)
    assert not last_layer(disturbed).bias.any()
    same, names = disturbed.state_dict(), [n for n in still.state_dict() if not n.startswith("localisation.10.")]
    assert all(torch.equal(still.state_dict()[name], same[name]) for name in names), "the rest starts the same"


def test_the_learning_rate_factor_is_the_localisation_net_s():
    assert dict(model_of("stn_affine:loc_lr_factor=0.25").lr_factors()) == {"localisation": 0.25}
    assert {name for name, _ in stn("stn_affine").named_children()} == {"backbone", "localisation"}


def test_several_steps_look_again_and_resample_once():
    network, batch = stn("stn_similarity:steps=3:start_sd=0.05"), batch_of()
    seen = Seen(network.localisation)
    (found,) = network.maps(batch)
    assert len(seen.inputs) == 3
    theta = torch.eye(3)
    for x_BCHW in tuple(seen.inputs):
        step = TRANSFORMATIONS["similarity"](network.localisation(x_BCHW))
        assert isinstance(step, AffineMap)
        theta = theta @ step.projective().theta_B33
    assert isinstance(found, AffineMap)
    torch.testing.assert_close(found.theta_B23, theta[:, :2])
    assert torch.equal(network.look(batch), Sampler()(batch.raw_BCHW, found))


def test_heads_look_at_tiles_and_their_views_are_stacked():
    network, batch = stn("stn_affine:heads=4:size=0.5"), batch_of()
    seen = Seen(network.backbone.stages[0])
    network(batch)
    normal = network.normalise(batch.raw_BCHW)
    tiles = [normal[:, :, i : i + 16, j : j + 16] for i in (0, 16) for j in (0, 16)]
    torch.testing.assert_close(seen.inputs[0], torch.cat(tiles, dim=1))
    assert last_layer(network).out_features == 24
    assert len(network.maps(batch)) == 4


def penalty_guidance(name: str, batch: Batch) -> tuple[StnNetwork, Tensor]:
    network = stn(name)
    logits, penalty = network.logits_and_penalty(batch)
    assert torch.equal(logits, network(batch))
    assert penalty is not None
    return network, penalty


def test_without_guidance_there_is_no_penalty():
    assert stn("stn_affine").logits_and_penalty(batch_of())[1] is None


def test_terms_are_added_with_their_weights():
    theta_N33 = torch.eye(3) + 0.1 * torch.randn(3, 3, 3) * torch.tensor([1.0, 1, 0])[:, None]
    batch, cpu = batch_of(poses=PoseMaps(theta_N33)), torch.device("cpu")
    options = "padding=border:start_sd=0.1:place=shared"
    network, penalty = penalty_guidance(f"stn_affine:{options}:consistency=2:prior=3:supervision=5", batch)
    (found,) = network.maps(batch)
    angle_rad_B = (2 * batch.u_BK[:, 0] - 1) * math.pi / 2
    terms = (
        consistency(batch.raw_BCHW, found, network.find, angle_rad_B, Sampler("border")),
        prior(found, 3, cpu),
        supervision(found, AffineMap(torch.linalg.inv(theta_N33)[:, :2]).apply(circle(cpu))),
    )
    assert min(terms) > 0
    torch.testing.assert_close(penalty, 2 * terms[0] + 3 * terms[1] + 5 * terms[2])
    for weights, term in (("consistency=2", 2 * terms[0]), ("prior=3", 3 * terms[1])):
        torch.testing.assert_close(penalty_guidance(f"stn_affine:{options}:{weights}", batch)[1], term)


@pytest.mark.parametrize("place", PLACES)
def test_supervision_s_gradient_turns_the_map_towards_the_true_pose(place):
    angle_rad = 0.6
    posed = AffineMap(from_parts(angle_rad_B=torch.full((3,), -angle_rad)))  # posed -> upright
    batch = batch_of(poses=PoseMaps(posed.projective().theta_B33))
    network, penalty = penalty_guidance(f"stn_supervised:place={place}", batch)
    # Both start at the identity: |R p - p|^2 on the circle.
    assert penalty.item() == pytest.approx(10 * 2 * (1 - math.cos(angle_rad)), rel=1e-4)
    penalty.backward()
    down = -last_layer(network).bias.grad.view(2, 3)  # type: ignore[union-attr]
    assert down[1, 0] > 0 > down[0, 1], "towards a turn by +0.6, from upright to posed coordinates"
    assert down[0, 2].abs() < 1e-6


def test_only_consistency_needs_draws():
    for options, num_draws in (("", 0), (":prior=1", 0), (":supervision=1", 0), (":consistency=1", 1)):
        assert model_of(f"stn_affine{options}").num_draws == num_draws


def test_consistency_s_gradient_reaches_the_whole_localisation_net():
    network, penalty = penalty_guidance("stn_rotation:consistency=1:start_sd=0.1", batch_of())
    penalty.backward()
    assert all(p.grad is not None and p.grad.any() for p in network.localisation.parameters())


def test_shuffled_maps_are_the_next_image_s():
    batch = batch_of(4)
    own, shuffled = stn("stn_affine:start_sd=0.1"), stn("stn_shuffled:start_sd=0.1")
    (found,), (moved,) = own.maps(batch), shuffled.maps(batch)
    assert isinstance(found, AffineMap) and isinstance(moved, AffineMap)
    torch.testing.assert_close(moved.theta_B23, found.theta_B23[[3, 0, 1, 2]])
    expected = own.logits_of(batch, [AffineMap(found.theta_B23[[3, 0, 1, 2]])])
    torch.testing.assert_close(shuffled(batch), expected)
    torch.testing.assert_close(shuffled.look(batch), Sampler()(batch.raw_BCHW, moved))


def test_the_supervised_one_is_told_the_pose_in_training_only():
    batch = batch_of(poses=PoseMaps(torch.eye(3) + 0.1 * torch.rand(3, 3, 3)))
    assert torch.equal(stn("stn_supervised")(batch), stn("stn_affine")(batch))
    assert stn("stn_supervised").model.supervision == 10.0


def test_every_family_has_a_model():
    assert set(FAMILIES) == set(TRANSFORMATIONS)
    for family in FAMILIES:
        owner = MODELS[f"stn_{family}"]
        assert isinstance(owner, type) and issubclass(owner, Stn) and owner.family == family


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
