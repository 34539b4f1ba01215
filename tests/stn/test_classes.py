"""Turns by classes against circular statistics in float64 and scipy's softmax."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from scipy.stats import circmean

from stn.affine import from_parts
from stn.guidance import supervision
from stn.maps import AffineMap, circle
from stn.transformations.classes import BY_CLASSES, TurnByClasses, cross_entropy, direction_of, directions

every_family = pytest.mark.parametrize("family", BY_CLASSES)
CPU = torch.device("cpu")


def found_by(family: str, params_BP: torch.Tensor, bins: int) -> TurnByClasses:
    found = BY_CLASSES[family](bins)(params_BP)
    assert isinstance(found, TurnByClasses)
    return found


def angle_of(found: AffineMap) -> torch.Tensor:
    return torch.atan2(found.theta_B23[:, 1, 0], found.theta_B23[:, 0, 0])


@every_family
@pytest.mark.parametrize("bins", [4, 7, 36])
def test_zeros_are_the_identity_and_every_other_angle_has_a_gradient(family, bins):
    params_BP = torch.zeros(2, BY_CLASSES[family](bins).num_params, requires_grad=True)
    found = found_by(family, params_BP, bins)
    torch.testing.assert_close(found.theta_B23, torch.eye(2, 3).expand(2, 2, 3), atol=1e-6, rtol=0)
    angle_of(found).sum().backward()
    assert params_BP.grad is not None
    sine_K = directions(bins, CPU)[:, 1]
    gradient_K = params_BP.grad[0, :bins]
    assert torch.equal(gradient_K.abs() > 1e-4, sine_K.abs() > 1e-4)
    assert (gradient_K * sine_K).sum() > 0 and (gradient_K * sine_K).min() > -1e-6


@every_family
@pytest.mark.parametrize("bins", [5, 36])
def test_the_turn_is_the_circular_mean_of_the_probabilities(family, bins):
    params_BP = torch.randn(20, BY_CLASSES[family](bins).num_params, generator=torch.Generator().manual_seed(0))
    found = found_by(family, params_BP, bins)
    angle_K = 2 * math.pi * np.arange(bins) / bins
    share_BK = softmax(params_BP[:, :bins].double().numpy() + np.cos(angle_K), axis=1)
    for angle, share_K in zip(angle_of(found).tolist(), share_BK, strict=True):
        # scipy's has no weights: as many repetitions as the probability asks for.
        expected = circmean(np.repeat(angle_K, np.round(share_K * 1e5).astype(int)))
        assert math.remainder(angle - expected, 2 * math.pi) == pytest.approx(0, abs=2e-3)
    scale_B = found.theta_B23[:, :, :2].det().sqrt()
    if family == "similarity":
        torch.testing.assert_close(scale_B, params_BP[:, bins].exp(), atol=1e-5, rtol=1e-4)
        assert torch.equal(found.theta_B23[:, :, 2], params_BP[:, bins + 1 :])
    else:
        torch.testing.assert_close(scale_B, torch.ones(20))
        assert not found.theta_B23[:, :, 2].any()


@given(st.floats(-3.1, 3.1), st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_the_direction_is_that_of_the_closest_turn(angle, log_scale, x, y):
    similarity = from_parts(
        angle_rad_B=torch.tensor([angle]), log_scale_B=torch.tensor([log_scale]), shift_B2=torch.tensor([[x, y]])
    )
    direction_2 = direction_of(AffineMap(similarity).apply(circle(CPU)))[0]
    assert direction_2.tolist() == pytest.approx([math.cos(angle), math.sin(angle)], abs=1e-4)


@given(st.floats(-3.14159, 3.14159), st.integers(4, 40))
def test_the_cross_entropy_has_the_two_nearest_angles_as_its_target(angle, bins):
    logits_K = torch.randn(bins, generator=torch.Generator().manual_seed(bins))
    place = angle / (2 * math.pi) * bins
    target_K = np.zeros(bins)
    for k in range(bins):
        target_K[k] = max(0.0, 1 - abs(math.remainder(place - k, bins)))
    assert target_K.sum() == pytest.approx(1)
    expected = -(target_K * log_softmax(logits_K.double().numpy())).sum()
    direction_B2 = torch.tensor([[math.cos(angle), math.sin(angle)]])
    assert cross_entropy(logits_K[None], direction_B2).item() == pytest.approx(expected, abs=1e-3)


@every_family
@pytest.mark.parametrize("angle", [-2.5, -0.6, 0.6, 3.1])
def test_told_the_truth_the_turn_scale_and_shift_become_it(family, angle):
    parts = {"log_scale_B": torch.tensor([0.3]), "shift_B2": torch.tensor([[0.2, -0.1]])}
    truth = AffineMap(from_parts(angle_rad_B=torch.tensor([angle]), **(parts if family == "similarity" else {})))
    params_BP = torch.zeros(1, BY_CLASSES[family](24).num_params, requires_grad=True)
    optimiser = torch.optim.Adam([params_BP], lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        supervision(found_by(family, params_BP, 24), truth.apply(circle(CPU))).backward()
        optimiser.step()
    found = found_by(family, params_BP, 24)
    torch.testing.assert_close(found.theta_B23, truth.theta_B23, atol=0.03, rtol=0)
