"""The contract of augmentation policies, over every one that is registered, and each against torchvision."""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from baselines.policies import POLICIES, Policy, Warp
from baselines.policies.affine import Affine
from baselines.policies.flip_crop import FlipCrop
from baselines.policies.rotate import Rotate
from experiments.images.draws import uniform
from experiments.networks.variants import build_policy, parse_variant
from experiments.runs.training import augment
from experiments.runs.training import draws as training_draws
from ledger.errors import UserError
from stn.sampler import warp
from tests.support.policies import applied, draws

every_policy = pytest.mark.parametrize("name", list(POLICIES))
u01 = st.floats(0, 1, exclude_max=True, width=32)


MIN_CHANGED = 0.8
"""Of the images in 64 epochs. Two copies are often the same where there are few to choose from, or where few images are
changed at a time; of so many copies, hardly ever all are."""


def share_changed(policy: Policy) -> float:
    """Of the images, those of which some epoch shows another copy than the first."""
    x_BCHW = torch.rand(20, 3, 16, 16)
    first, *others = (applied(policy, x_BCHW, draws(policy, 20, epoch)) for epoch in range(1, 65))
    return torch.stack([(first != other).flatten(1).any(1) for other in others]).any(0).float().mean().item()


@dataclasses.dataclass
class Turned:
    """Each image turned by as many quarter turns as a table of numbers from 0 to 1 says."""

    quarters: Callable[[Tensor], Tensor]
    num_draws: ClassVar[int] = 1

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        return {"quarters": self.quarters(u_BK[:, 0])}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        turned = [x_CHW.rot90(int(k), (1, 2)) for x_CHW, k in zip(x_BCHW, params["quarters"], strict=True)]
        return torch.stack(turned)


@pytest.mark.parametrize(
    ("quarters", "right"),
    [
        (lambda u_B: (4 * u_B).floor(), True),
        (lambda u_B: (2 * u_B).floor(), True),
        (lambda u_B: (u_B < 0.1).float(), True),
        (lambda u_B: torch.zeros_like(u_B), False),
        (lambda u_B: torch.ones_like(u_B), False),  # changes every image, and always in the same way
        (lambda u_B: (4 * u_B).floor() * (torch.arange(len(u_B)) % 2), False),  # leaves half of the images alone
    ],
    ids=["four turns", "two turns", "one image in ten turned", "nothing", "one turn", "half of the images"],
)
def test_what_shows_few_copies_by_nature_is_right_and_what_shows_one_is_not(
    quarters: Callable[[Tensor], Tensor], right: bool
) -> None:
    assert (share_changed(Turned(quarters)) > MIN_CHANGED) == right


@every_policy
def test_hyperparameters_are_numbers_or_words_with_defaults(name):
    fields = [field for field in dataclasses.fields(POLICIES[name]) if field.init]  # type: ignore[arg-type]
    assert all(isinstance(field.default, str | int | float) for field in fields)
    assert "num_draws" not in {field.name for field in fields}
    with pytest.raises(dataclasses.FrozenInstanceError):
        POLICIES[name]().num_draws = 1  # type: ignore[misc]


@every_policy
@pytest.mark.parametrize("num", [1, 2, 7])
@pytest.mark.parametrize("image_px", [8, 17, 32, 33])
def test_shapes_types_and_range(name, num, image_px):
    policy = POLICIES[name]()
    x_BCHW = torch.rand(num, 3, image_px, image_px)
    params = policy.draw(draws(policy, num), image_px)
    assert all(len(value) == num for value in params.values())
    y_BCHW = policy.apply(x_BCHW, params, warp)
    assert y_BCHW.shape == x_BCHW.shape
    assert y_BCHW.dtype == torch.float32
    assert y_BCHW.min() >= 0
    assert y_BCHW.max() <= 1 + 1e-6
    assert not y_BCHW.requires_grad


@every_policy
def test_the_same_draws_give_the_same_images_and_leave_the_originals_alone(name):
    policy = POLICIES[name]()
    x_BCHW = torch.rand(7, 3, 32, 32)
    before = x_BCHW.clone()
    first = applied(policy, x_BCHW)
    torch.manual_seed(99)  # it owns no randomness
    assert torch.equal(applied(policy, x_BCHW), first)
    assert torch.equal(x_BCHW, before)


@every_policy
def test_an_image_does_not_depend_on_its_batch_mates(name):
    policy = POLICIES[name]()
    x_BCHW, u_BK = torch.rand(9, 3, 24, 24), draws(policy, 9)
    together = applied(policy, x_BCHW, u_BK)
    order = torch.tensor([3, 0, 8, 1, 4, 7, 2, 6, 5])
    torch.testing.assert_close(applied(policy, x_BCHW[order], u_BK[order]), together[order], atol=1e-5, rtol=0)
    for i in range(9):
        alone = applied(policy, x_BCHW[i : i + 1], u_BK[i : i + 1])
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=0)


@every_policy
def test_the_memory_format_has_no_say(name):
    policy = POLICIES[name]()
    x_BCHW, u_BK = torch.rand(5, 3, 32, 32), draws(policy, 5)
    last = x_BCHW.contiguous(memory_format=torch.channels_last)
    assert torch.equal(applied(policy, x_BCHW, u_BK), applied(policy, last, u_BK))
    assert augment(x_BCHW, policy, u_BK).is_contiguous(memory_format=torch.channels_last)


@every_policy
def test_epochs_show_different_copies(name):
    policy = POLICIES[name]()
    without_parameters = not policy.draw(draws(policy, 20), 32)  # none, and posed, which changes what it is shown
    assert share_changed(policy) == 0 if without_parameters else share_changed(policy) > MIN_CHANGED


def test_none_leaves_images_as_they_are():
    policy = POLICIES["none"]()
    x_BCHW = torch.rand(4, 3, 32, 32)
    assert policy.num_draws == 0
    assert torch.equal(applied(policy, x_BCHW), x_BCHW)


@pytest.mark.parametrize("image_px", [31, 32])
def test_rotate_is_torchvision_s_rotation(image_px):
    policy = Rotate(max_deg=180)
    x_BCHW = torch.rand(12, 3, image_px, image_px)
    params = policy.draw(draws(policy, 12), image_px)
    ours = policy.apply(x_BCHW, params, warp)
    for i, angle_rad in enumerate(params["angle_rad"].tolist()):
        # torchvision counts angles anticlockwise.
        theirs = TF.rotate(x_BCHW[i], -math.degrees(angle_rad), InterpolationMode.BILINEAR)
        torch.testing.assert_close(ours[i], theirs, atol=1e-4, rtol=0)


@given(u01, st.floats(0, 180))
def test_angles_are_uniform_up_to_max_deg(u, max_deg):
    angle = Rotate(max_deg=max_deg).draw(torch.tensor([[u]]), 32)["angle_rad"].item()
    assert math.degrees(angle) == pytest.approx((2 * u - 1) * max_deg, abs=1e-4)


@pytest.mark.parametrize("image_px", [31, 32])
@pytest.mark.parametrize(
    "policy",
    [
        Affine(),
        Affine(max_deg=180, max_shift=0.3, max_scale=2, max_shear_deg=40),
        Affine(max_deg=0, max_shift=0, max_scale=1, max_shear_deg=30),
        Affine(max_deg=90, max_shift=0, max_scale=1, max_shear_deg=30),
        Affine(max_deg=90, max_shift=0.4, max_scale=1, max_shear_deg=0),
    ],
)
def test_affine_is_torchvision_s_affine_map(policy, image_px):
    x_BCHW = torch.rand(12, 3, image_px, image_px)
    params = policy.draw(draws(policy, 12), image_px)
    ours = policy.apply(x_BCHW, params, warp)
    for i in range(12):
        # torchvision shears first, scales, turns clockwise and shifts as we do; a positive shear has its sign.
        theirs = TF.affine(
            x_BCHW[i],
            angle=math.degrees(params["angle_rad"][i].item()),
            translate=(params["shift"][i] * image_px).tolist(),
            scale=params["scale"][i].item(),
            shear=[-math.degrees(params["shear_rad"][i].item()), 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(ours[i], theirs, atol=2e-4, rtol=0)


@given(st.tuples(u01, u01, u01, u01, u01), st.floats(0, 180), st.floats(0, 0.5), st.floats(1, 4), st.floats(0, 60))
def test_parameters_are_in_their_ranges(u, max_deg, max_shift, max_scale, max_shear_deg):
    policy = Affine(max_deg, max_shift, max_scale, max_shear_deg)
    params = policy.draw(torch.tensor([u]), 32)
    slack = 1 + 1e-5
    # As float32 has them: the smallest numbers are rounded up by more than the slack.
    most_rad, most_shift, most_shear_rad = map(
        torch.Tensor.item, torch.tensor([math.radians(max_deg), max_shift, math.radians(max_shear_deg)])
    )
    assert params["angle_rad"].abs().item() <= most_rad * slack
    assert params["shift"].abs().max().item() <= most_shift * slack
    assert 1 / max_scale / slack <= params["scale"].item() <= max_scale * slack
    assert params["shear_rad"].abs().item() <= most_shear_rad * slack


def test_the_ends_of_the_ranges_are_reached():
    policy = Affine(max_deg=20, max_shift=0.2, max_scale=1.5, max_shear_deg=10)
    low, middle, high = (policy.draw(torch.full((1, 5), u), 32) for u in (0.0, 0.5, 1 - 2.0**-24))
    for name, most in (
        ("angle_rad", math.radians(20)),
        ("shift", 0.2),
        ("shear_rad", math.radians(10)),
    ):
        for params, expected in ((low, -most), (middle, 0), (high, most)):
            torch.testing.assert_close(params[name], torch.full_like(params[name], expected), atol=1e-6, rtol=0)
    scales = [params["scale"].item() for params in (low, middle, high)]
    assert scales == pytest.approx([1 / 1.5, 1, 1.5], rel=1e-6)


BLACK = FlipCrop(padding_px=4, border="black", mirror="random")
"""As He et al. have it."""


@pytest.mark.parametrize("border", ["black", "reflection"])
@pytest.mark.parametrize(
    ("padding_px", "image_px", "reach_px"),
    [(4, 32, 4), (4, 16, 2), (4, 64, 8), (4, 33, 4), (4, 8, 1), (2, 32, 2), (0, 32, 0), (16, 32, 16), (16, 9, 4)],
)
def test_flip_crop_is_pad_then_crop_then_mirror(border, padding_px, image_px, reach_px):
    policy = FlipCrop(padding_px=padding_px, border=border)
    x_BCHW = torch.rand(60, 3, image_px, image_px)
    params = policy.draw(draws(policy, 60), image_px)
    ours = policy.apply(x_BCHW, params, warp)
    assert params["mirrored"].any()
    assert not params["mirrored"].all()
    assert params["shift_px"].abs().max() == reach_px
    sides = ((0, 0), (reach_px, reach_px), (reach_px, reach_px))
    for i in range(60):
        down, right = params["shift_px"][i].tolist()
        padded = np.pad(x_BCHW[i].numpy(), sides, mode="reflect" if border == "reflection" else "constant")
        theirs = padded[:, reach_px + down :, reach_px + right :][:, :image_px, :image_px]
        theirs = theirs[:, :, ::-1] if params["mirrored"][i] else theirs
        assert np.array_equal(ours[i].numpy(), theirs)


def test_by_names_in_a_variant_it_is_the_same():
    variant = parse_variant("cnn+flip_crop:border=black:mirror=random:padding_px=4")
    assert build_policy(variant, {}) == BLACK


@given(u01, u01, u01, st.integers(0, 32))
def test_shifts_are_whole_pixels_within_the_padding(down, right, mirror, padding_px):
    policy = FlipCrop(padding_px=padding_px, border="black")
    params = policy.draw(torch.tensor([[down, right, mirror]]), 32)
    assert params["shift_px"].dtype == torch.int64
    assert params["shift_px"].abs().max() <= padding_px
    assert params["mirrored"].item() == (mirror < 0.5)


@given(st.integers(0, 32))
def test_the_last_number_below_1_stays_within_the_padding(padding_px):
    policy = FlipCrop(padding_px=padding_px, border="black")
    assert policy.draw(torch.full((1, 3), 1 - 2.0**-24), 32)["shift_px"].tolist() == [[padding_px, padding_px]]


def test_every_shift_is_as_likely():
    params = BLACK.draw(draws(BLACK, 9000), 32)
    for axis in (0, 1):
        counts = (params["shift_px"][:, axis] + 4).bincount(minlength=9)
        assert counts.shape == (9,)
        assert counts.min() > 850
    assert 0.47 < params["mirrored"].float().mean() < 0.53


@pytest.mark.parametrize(
    ("border", "padding_px", "most"),
    [
        *(("black", padding_px, 32) for padding_px in (-1.0, 33.0, math.nan)),
        *(("reflection", padding_px, 16) for padding_px in (-1.0, 17.0, math.nan)),
    ],
)
def test_absurd_padding_is_refused(border, padding_px, most):
    with pytest.raises(ValueError, match=f"padding_px: {padding_px} is not between 0 and {most} with border={border}"):
        FlipCrop(padding_px=padding_px, border=border)


@pytest.mark.parametrize(
    ("option", "nearest"), [("border=reflect", "reflection"), ("mirror=alternatng", "alternating")]
)
def test_unknown_words_are_refused_with_the_nearest(option, nearest):
    with pytest.raises(UserError, match=f"did you mean '{nearest}'"):
        parse_variant(f"cnn+flip_crop:{option}")


def mirrored_alternating(policy: FlipCrop, epoch: int, num: int = 2000) -> Tensor:
    return policy.draw(training_draws(policy, torch.arange(num), seed=3, epoch=epoch), 32)["mirrored"]


def test_each_image_is_mirrored_in_exactly_every_other_epoch():
    first, *others = (mirrored_alternating(FlipCrop(mirror="alternating"), epoch) for epoch in range(1, 8))
    assert 0.47 < first.float().mean() < 0.53
    for number, mirrored in enumerate(others, start=1):
        assert torch.equal(mirrored, first ^ (number % 2 == 1))


def test_random_is_drawn_anew():
    first, second, third = (mirrored_alternating(FlipCrop(mirror="random"), epoch) for epoch in (1, 2, 3))
    for one, other in ((first, second), (first, third), (second, third)):
        assert 0.45 < (one == other).float().mean() < 0.55


def test_shifts_are_drawn_anew_and_are_those_of_random_mirroring():
    index_N = torch.arange(50)
    for epoch in (1, 2, 3):
        u_NK, plain_NK = (
            training_draws(FlipCrop(mirror=mirror), index_N, seed=3, epoch=epoch)
            for mirror in ("alternating", "random")
        )
        assert torch.equal(u_NK[:, :2], plain_NK[:, :2])
        assert torch.equal(plain_NK, uniform(index_N, 3, seed=3, epoch=epoch, purpose="augment"))
        assert (u_NK >= 0).all() and (u_NK < 1).all()


def test_the_order_of_the_images_has_no_say():
    policy, order_N = FlipCrop(), torch.randperm(50)
    in_order = training_draws(policy, torch.arange(50), seed=3, epoch=4)
    assert torch.equal(training_draws(policy, order_N, seed=3, epoch=4), in_order[order_N])
