"""What geometric policies find outside an image: black, its border, its reflection or its mean colour."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.policies import POLICIES, Fill, Policy
from baselines.policies.flip_crop import FlipCrop
from baselines.policies.photometric import MOVES, OPERATIONS, OperationPolicy
from baselines.policies.translate import Translate
from experiments.networks.variants import hyperparameters, parse_variant
from ledger.options import fields
from stn import sampler
from stn.sampler import warp
from tests.support.policies import draws

FILLS: tuple[Fill, ...] = get_args(Fill)
BUILT_IN = {"affine", "elastic", "flip_crop", "perspective", "rotate", "scale", "translate"}
BUILT_IN |= {"auto_augment", "rand_augment", "trivial_augment"}
PADDED = {"flip_crop": "border"}
"""Policies that call it otherwise."""
GEOMETRIC = [name for name, owner in POLICIES.items() if name in PADDED or fields(owner).get("fill") == "black"]
WIDE = {
    "affine": {"max_deg": 60.0, "max_shift": 0.4, "max_scale": 2.0},
    "elastic": {"alpha": 300.0},
    "rotate": {"max_deg": 90.0},
    "scale": {"max_scale": 2.0},
    "translate": {"max_shift": 0.4},
    "flip_crop": {"padding_px": 12.0},
}
every_geometric_policy = pytest.mark.parametrize("name", GEOMETRIC)


def filled(name: str, fill: Fill) -> Policy:
    return POLICIES[name](**{PADDED.get(name, "fill"): fill, **WIDE.get(name, {})})


def moved(name: str, fill: Fill, x_BCHW: Tensor, seed: int = 0) -> Tensor:
    """The images under moves that this policy draws; where it draws operations, they are those that move pixels."""
    policy = filled(name, fill)
    u_BK = draws(policy, len(x_BCHW), epoch=seed + 1)
    params = policy.draw(u_BK, x_BCHW.shape[-1])
    if isinstance(policy, OperationPolicy):  # the moves come first, after the identity
        params["operation"] = params["operation"] % len(MOVES) + 1
        params["magnitude"] = 0.8 * (u_BK[:, : params["operation"].shape[1]] - 0.5)  # a tangent, pixels or degrees
    return policy.apply(x_BCHW, params, warp)


def np_padded(plane_HW: np.ndarray, num: int, fill: Fill) -> np.ndarray:
    if fill in ("black", "mean"):
        return np.pad(plane_HW, num, "constant", constant_values=plane_HW.mean() if fill == "mean" else 0)
    return np.pad(plane_HW, num, "edge" if fill == "border" else "symmetric")


def test_all_that_move_pixels_have_the_choice():
    assert set(GEOMETRIC) >= BUILT_IN
    assert OPERATIONS[1 : len(MOVES) + 1] == tuple(MOVES)
    assert get_args(sampler.Fill) == FILLS


@every_geometric_policy
@settings(max_examples=15)
@given(seed=st.integers(0, 1000), level=st.floats(0, 1, width=32))
def test_one_colour_stays_as_it_is_unless_black_comes_in(name, seed, level):
    x_BCHW = torch.tensor([level, 1 - level, 0.3])[None, :, None, None].expand(4, 3, 16, 16).contiguous()
    for fill in ("border", "reflection", "mean"):
        torch.testing.assert_close(moved(name, fill, x_BCHW, seed), x_BCHW, atol=2e-6, rtol=0)


@every_geometric_policy
@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_all_differ_outside_the_image_and_nowhere_else(name, seed):
    x_BCHW = 0.5 + torch.rand(6, 3, 24, 24) / 2
    covered_BCHW = moved(name, "black", torch.ones_like(x_BCHW), seed)
    shown = {fill: moved(name, fill, x_BCHW, seed) for fill in FILLS}
    inside = covered_BCHW > 1 - 1e-5
    for fill in FILLS:
        torch.testing.assert_close(shown[fill][inside], shown["black"][inside], atol=2e-5, rtol=0)
    for fill in ("border", "reflection", "mean"):  # no black
        assert shown[fill].min() >= 0.5 - 1e-5
        assert shown[fill].max() <= 1


@every_geometric_policy
def test_each_shows_its_own_outside_the_image(name):
    x_BCHW = 0.5 + torch.rand(40, 3, 24, 24) / 2
    outside = moved(name, "black", torch.ones_like(x_BCHW)) < 0.1
    assert outside.any()
    shown = {fill: moved(name, fill, x_BCHW) for fill in FILLS}
    for one in FILLS:
        for other in FILLS:
            assert one == other or not torch.allclose(shown[one][outside], shown[other][outside], atol=1e-3)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("image_px", [16, 17])
@given(st.integers(-9, 9), st.integers(-9, 9))
def test_whole_shifts_are_numpy_s_padding(fill, image_px, right, down):
    x_BCHW = torch.rand(1, 3, image_px, image_px)
    shift = torch.tensor([[right / image_px, down / image_px]])
    ours = Translate(fill=fill).apply(x_BCHW, {"shift": shift}, warp)
    for plane, theirs in zip(x_BCHW[0].numpy(), ours[0].numpy(), strict=True):
        padded = np_padded(plane, 9, fill)
        expected = padded[9 - down :, 9 - right :][:image_px, :image_px]
        np.testing.assert_allclose(theirs, expected, atol=2e-5)


@given(st.integers(-4, 4), st.integers(-4, 4), st.booleans())
def test_crops_are_numpy_s_padding(down, right, mirrored):
    x_BCHW = torch.rand(1, 3, 16, 16)
    params = {"shift_px": torch.tensor([[down, right]]), "mirrored": torch.tensor([mirrored])}
    for border in FILLS:
        if border == "reflection":  # at pixels' centres there, as tests/baselines/test_policies.py has it
            continue
        ours = FlipCrop(border=border).apply(x_BCHW, params, warp)[0]
        for plane, theirs in zip(x_BCHW[0].numpy(), ours.numpy(), strict=True):
            padded = np_padded(plane, 4, border)
            expected = padded[4 + down :, 4 + right :][:16, :16]
            np.testing.assert_allclose(theirs, expected[:, ::-1] if mirrored else expected, atol=1e-6)


@every_geometric_policy
@pytest.mark.parametrize("fill", FILLS)
def test_the_memory_format_has_no_say(name, fill):
    x_BCHW = torch.rand(5, 3, 32, 32)
    last = x_BCHW.contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved(name, fill, x_BCHW), moved(name, fill, last))


@every_geometric_policy
def test_runs_without_the_choice_are_what_they_were(name):
    assert "policy.fill" not in hyperparameters(parse_variant(f"cnn+{name}"))
    if name in PADDED:  # that one has been there from the start
        return
    assert str(parse_variant(f"cnn+{name}:fill=black")) == f"cnn+{name}"
    assert str(parse_variant(f"cnn+{name}:fill=mean")) == f"cnn+{name}:fill=mean"
