"""The operations of AutoAugment and its successors against torchvision's, and what these policies draw."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode, autoaugment
from torchvision.transforms.v2 import functional as TF

from baselines.policies import POLICIES, photometric
from baselines.policies.auto_augment import SUB_POLICIES, AutoAugment
from baselines.policies.photometric import OPERATIONS, Strength, operate
from baselines.policies.rand_augment import RandAugment
from baselines.policies.trivial_augment import TrivialAugment
from stn.sampler import warp
from tests.support.policies import draws

BILINEAR = InterpolationMode.BILINEAR
THEIRS = {
    "identity": "Identity",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "saturation": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "auto_contrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
}
FACTORS = ("brightness", "saturation", "contrast", "sharpness")


def bytes_of(x: Tensor) -> Tensor:
    return (x * 255).round().to(torch.uint8)


def eight_bit(num: int, image_px: int, channels: int = 3) -> Tensor:
    """Images whose channels have different ranges, as uint8; the first is flat, the second has two values."""
    low, high = torch.rand(2, num, channels, 1, 1).sort(0).values
    x_BCHW = bytes_of(low + (high - low) * torch.rand(num, channels, image_px, image_px) ** 2)
    x_BCHW[0] = 77
    x_BCHW[1] = torch.where(x_BCHW[1] > 100, 200, 10).to(torch.uint8)
    return x_BCHW


def assert_near_uint8(ours: Tensor, theirs: Tensor) -> None:
    """Within one step of 255 (and the rounding of a float)."""
    torch.testing.assert_close(ours, theirs.float() / 255, atol=1 / 255 + 1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FACTORS)
def test_blends(name, channels):
    x_BCHW, factor_B = torch.rand(9, channels, 19, 19), torch.linspace(0, 1.99, 9)
    ours = getattr(photometric, name)(x_BCHW, factor_B)
    for i in range(9):
        theirs = getattr(TF, f"adjust_{name}")(x_BCHW[i], factor_B[i].item())
        torch.testing.assert_close(ours[i], theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("image_px", [1, 2, 3])
def test_tiny_images_sharpen_as_theirs(image_px):
    x_BCHW = torch.rand(2, 3, image_px, image_px)
    ours = photometric.sharpness(x_BCHW, torch.tensor([0.1, 1.9]))
    for i, factor in enumerate((0.1, 1.9)):
        torch.testing.assert_close(ours[i], TF.adjust_sharpness(x_BCHW[i], factor), atol=1e-5, rtol=0)


def test_posterize():
    x_BCHW = eight_bit(9, 16)
    ours = photometric.posterize(x_BCHW / 255, torch.arange(9.0))
    for bits in range(9):
        assert torch.equal(bytes_of(ours[bits]), TF.posterize(x_BCHW[bits], bits))


def test_solarize():
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(31, 3, 16, 16)
    threshold_B = torch.linspace(255, 0, 31)
    ours = photometric.solarize(values / 255, threshold_B)
    for i in range(31):
        theirs = TF.solarize(values[i], threshold_B[i].item())
        assert torch.equal(bytes_of(ours[i]), theirs)


@pytest.mark.parametrize("image_px", [8, 15, 16, 17, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_auto_contrast_equalize_and_invert(image_px, channels):
    x_BCHW, none_B = eight_bit(12, image_px, channels), torch.zeros(12)
    for name in ("auto_contrast", "equalize", "invert"):
        ours = getattr(photometric, name)(x_BCHW / 255, none_B)
        for i in range(12):
            assert_near_uint8(ours[i], getattr(TF, name.replace("_", ""))(x_BCHW[i]))
    assert torch.equal(
        bytes_of(photometric.equalize(x_BCHW / 255, none_B)), torch.stack([TF.equalize(x) for x in x_BCHW])
    )


@settings(max_examples=50)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=6), st.integers(1, 40), st.integers(0, 99))
def test_equalize_whatever_the_histogram(values, image_px, seed):
    chance = torch.Generator().manual_seed(seed)
    place = torch.randint(len(values), (1, 1, image_px, image_px), generator=chance)
    x_BCHW = torch.tensor(values, dtype=torch.uint8)[place]
    ours = bytes_of(photometric.equalize(x_BCHW / 255, torch.zeros(1)))
    assert torch.equal(ours, TF.equalize(x_BCHW))


@pytest.mark.parametrize("wobble", [0.0, 1e-6, 1e-4])
def test_flat_images_stay_flat(wobble):
    x_BCHW = (0.4 + wobble * torch.rand(2, 3, 16, 16)).expand(2, 3, 16, 16)
    for name in ("auto_contrast", "equalize"):
        y_BCHW = getattr(photometric, name)(x_BCHW, torch.zeros(2))
        torch.testing.assert_close(y_BCHW, x_BCHW, atol=0, rtol=0)


@given(st.floats(0, 1.875, width=32), st.integers(0, 99))
def test_algebra(factor, seed):
    x_BCHW = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    one, nothing, factor_B = torch.ones(1), torch.zeros(1), torch.tensor([factor])
    for name in FACTORS:
        operation = getattr(photometric, name)
        torch.testing.assert_close(operation(x_BCHW, one), x_BCHW, atol=1e-6, rtol=0)
        assert 0 <= operation(x_BCHW, factor_B).min() <= operation(x_BCHW, factor_B).max() <= 1
    twice = photometric.invert(photometric.invert(x_BCHW, nothing), nothing)
    torch.testing.assert_close(twice, x_BCHW, atol=1e-6, rtol=0)
    assert torch.equal(photometric.solarize(x_BCHW, nothing), photometric.invert(x_BCHW, nothing))
    assert torch.equal(photometric.solarize(x_BCHW, nothing + 256), x_BCHW)
    bits_B = torch.tensor([4.0])
    coarse = photometric.posterize(x_BCHW, bits_B)
    assert torch.equal(photometric.posterize(coarse, bits_B), coarse)
    stretched = photometric.auto_contrast(x_BCHW, nothing)
    torch.testing.assert_close(photometric.auto_contrast(stretched, nothing), stretched, atol=5e-3, rtol=0)
    grey = photometric.saturation(x_BCHW, nothing)
    torch.testing.assert_close(photometric.saturation(grey, factor_B), grey, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("image_px", [17, 32])
def test_operate_is_torchvision_s_dispatch(name, image_px):
    """All levels and both signs of the widest space, on images that other operations of the batch leave alone."""
    strength = Strength(0.99, 32, 135, 0.99, 2)
    level_B1 = (torch.arange(62) % 31 / 30)[:, None]
    operation_B1 = torch.full((62, 1), OPERATIONS.index(name))
    magnitude_B1 = strength.magnitudes(operation_B1, level_B1, torch.arange(62)[:, None] >= 31)
    x_BCHW = eight_bit(62, image_px)
    ours = operate(x_BCHW / 255, operation_B1, magnitude_B1, warp)
    for i, magnitude in enumerate(magnitude_B1[:, 0].tolist()):
        given_magnitude = magnitude - 1 if name in FACTORS else magnitude
        # On floats where torchvision does the same to them, since it rounds bytes several times in a blend.
        x_CHW = x_BCHW[i] / 255 if name in (*FACTORS, *photometric.MOVES) else x_BCHW[i]
        theirs = autoaugment._apply_op(x_CHW, THEIRS[name], given_magnitude, BILINEAR, None)
        if x_CHW.is_floating_point():
            torch.testing.assert_close(ours[i], theirs, atol=2e-4, rtol=0)
        else:
            assert_near_uint8(ours[i], theirs)


def test_each_image_gets_its_own_operations_in_their_order():
    num, strength = 60, Strength(0.3, 10, 30, 0.9, 4)
    operation_BN = torch.randint(len(OPERATIONS), (num, 3))
    magnitude_BN = strength.magnitudes(operation_BN, torch.rand(num, 3), torch.rand(num, 3) < 0.5)
    x_BCHW = torch.rand(num, 3, 16, 16)
    ours = operate(x_BCHW, operation_BN, magnitude_BN, warp)
    for i in range(num):
        alone = x_BCHW[i : i + 1]
        for n in range(3):
            name, magnitude_B = OPERATIONS[int(operation_BN[i, n])], magnitude_BN[i : i + 1, n]
            if name in photometric.MOVES:
                alone = warp(alone, photometric.MOVES[name](magnitude_B, 16)).clamp(0, 1)
            elif name in photometric.PAINTS:
                alone = photometric.PAINTS[name](alone, magnitude_B)
        # One step of posterize is 1/16; a place on its edge may round either way.
        different = (ours[i] - alone[0]).abs() > 1e-4
        assert different.float().mean() < 0.005


@pytest.mark.parametrize("name", OPERATIONS[1:])
def test_operations_stay_on_the_device(name):
    """On CUDA tensors that do not exist; they cannot tell how many images drew what, which `operate` asks them."""
    with FakeTensorMode():
        cuda = torch.device("cuda", 0)
        operation_B1 = torch.zeros(5, 1, dtype=torch.int64, device=cuda)
        strength = Strength(0.3, 10, 30, 0.9, 4)
        magnitude_B = strength.magnitudes(operation_B1, operation_B1.float(), operation_B1 > 0)[:, 0]
        if name in photometric.MOVES:
            y = photometric.MOVES[name](magnitude_B, 32)
        else:
            y = photometric.PAINTS[name](torch.zeros(5, 3, 32, 32, device=cuda), magnitude_B)
        assert y.device == magnitude_B.device == cuda
        assert y.shape == ((5, 2, 3) if name in photometric.MOVES else (5, 3, 32, 32))


@pytest.mark.parametrize("image_px", [32, 224])
@pytest.mark.parametrize(
    ("strength", "space", "num_bins"),
    [
        (
            "narrow",
            lambda px: autoaugment.AutoAugment(AutoAugmentPolicy.CIFAR10)._augmentation_space(10, (px, px)),
            10,
        ),
        ("narrow", lambda px: autoaugment.RandAugment()._augmentation_space(31, (px, px)), 31),
        ("wide", lambda px: autoaugment.TrivialAugmentWide()._augmentation_space(31), 31),
    ],
    ids=["auto", "rand", "trivial"],
)
def test_magnitudes(strength, space, num_bins, image_px):
    spaces = {"narrow": Strength(0.3, 150 / 331 * image_px, 30, 0.9, 4), "wide": Strength(0.99, 32, 135, 0.99, 2)}
    level_B1 = (torch.arange(num_bins) / (num_bins - 1))[:, None]
    for name, theirs in THEIRS.items():
        if theirs not in space(image_px):
            continue
        magnitudes, signed = space(image_px)[theirs]
        magnitudes = magnitudes.float().expand(num_bins)
        operation_B1 = torch.full((num_bins, 1), OPERATIONS.index(name))
        for negative in (False, True):
            expected = -magnitudes if signed and negative else magnitudes
            if name.startswith("translate"):
                # As _apply_op does, but 16 pixels are 16, though the 15th of its 31 steps to 32 is 15.999999.
                expected = (expected + 1e-4 * expected.sign()).trunc()
            if name in FACTORS:
                expected = 1 + expected
            ours = spaces[strength].magnitudes(operation_B1, level_B1, torch.full((num_bins, 1), negative))
            torch.testing.assert_close(ours[:, 0], expected, atol=1e-4, rtol=0)


def test_the_sub_policies_are_the_published_ones():
    theirs = autoaugment.AutoAugment(AutoAugmentPolicy.CIFAR10)._get_policies(AutoAugmentPolicy.CIFAR10)
    ours = [tuple((THEIRS[name], chance, level) for name, chance, level in pair) for pair in SUB_POLICIES]
    assert ours == [tuple((name, chance, level or 0) for name, chance, level in pair) for pair in theirs]


def test_rand_and_trivial_augment_draw_from_torchvision_s_operations():
    rand = set(autoaugment.RandAugment()._augmentation_space(31, (32, 32)))
    assert {THEIRS[name] for name in OPERATIONS[:-1]} == rand
    assert rand == set(autoaugment.TrivialAugmentWide()._augmentation_space(31))


def test_rand_augment_draws_every_operation_as_often_apart_in_each_place():
    policy = RandAugment(num_ops=3)
    operation_BN = policy.draw(draws(policy, 14_000), 32)["operation"]
    assert operation_BN.shape == (14_000, 3)
    for n in range(3):
        counts = operation_BN[:, n].bincount()
        assert counts.shape == (14,)
        assert 1000 - 150 < counts.min() <= counts.max() < 1000 + 150
    pairs = (operation_BN[:, 0] * 14 + operation_BN[:, 1]).bincount(minlength=196)
    assert 35 < pairs.min() <= pairs.max() < 115  # 71 each


def test_rand_augment_uses_one_strength_and_both_signs():
    policy = RandAugment(num_ops=1, magnitude=15)
    params = policy.draw(draws(policy, 7000), 32)
    for name, expected in {"rotate": {-15.0, 15.0}, "brightness": {0.55, 1.45}, "posterize": {6.0}}.items():
        drawn = params["magnitude"][params["operation"] == OPERATIONS.index(name)]
        assert {round(value, 4) for value in drawn.unique().tolist()} == expected
        if len(expected) == 2:
            assert 0.42 < (drawn < drawn.mean()).float().mean() < 0.58


def test_trivial_augment_draws_every_operation_level_and_sign_as_often():
    policy = TrivialAugment()
    params = policy.draw(draws(policy, 43_400), 32)
    counts = params["operation"][:, 0].bincount()
    assert counts.shape == (14,)
    assert 2800 < counts.min() <= counts.max() < 3400  # 3100 each
    angle_deg = params["magnitude"][params["operation"] == OPERATIONS.index("rotate")]
    values, counts = (angle_deg / 4.5).round().long().unique(return_counts=True)
    assert values.tolist() == list(range(-30, 31))
    # 50 each, but 0 has no sign.
    assert counts[30] > counts[torch.arange(61) != 30].float().mean() * 1.4
    assert counts.min() > 20


def test_auto_augment_draws_pairs_alike_and_applies_each_half_as_often_as_published():
    policy = AutoAugment()
    u_BK = draws(policy, 50_000)
    params = policy.draw(u_BK, 32)
    pair_B = (u_BK[:, 0] * 25).long()
    assert 1800 < pair_B.bincount().min() <= pair_B.bincount().max() < 2200
    for i, pair in enumerate(SUB_POLICIES):
        for n, (name, chance, level) in enumerate(pair):
            operation = params["operation"][pair_B == i, n]
            applied = operation != OPERATIONS.index("identity")
            assert applied.float().mean().item() == pytest.approx(chance, abs=0.05)
            assert (operation[applied] == OPERATIONS.index(name)).all()
            if name in FACTORS:
                change = (params["magnitude"][pair_B == i, n][applied] - 1).abs()
                torch.testing.assert_close(change, torch.full_like(change, level / 10))
                if level and len(change) > 300:
                    weaker = params["magnitude"][pair_B == i, n][applied] < 1
                    assert weaker.float().mean().item() == pytest.approx(0.5, abs=0.13)


@pytest.mark.parametrize("name", ["auto_augment", "rand_augment", "trivial_augment"])
def test_the_last_number_below_1_draws_the_last_operation(name):
    policy = POLICIES[name]()
    params = policy.draw(torch.full((2, policy.num_draws), 1 - 2.0**-24), 32)
    assert params["operation"].max() < len(OPERATIONS)
    assert params["operation"].dtype == torch.int64
