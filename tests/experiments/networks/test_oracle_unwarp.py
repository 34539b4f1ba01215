"""The oracle that is wrong by a planted error."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from experiments.images.draws import uniform
from experiments.images.poses import parse_pose
from experiments.networks.models.oracle_unwarp import OracleUnwarp
from experiments.networks.network import Batch
from experiments.networks.variants import build_model, hyperparameters, parse_variant
from ledger.errors import UserError
from tests.support.networks import build, model_of

NUM = 4000
U_NK = uniform(torch.arange(NUM), 3, seed=1, epoch=2, purpose="model")


def turned_by(name: str, pose: str = "RTS") -> np.ndarray:
    """By how many degrees each image is shown counter-clockwise of upright: from where a point above its centre is."""
    poses = parse_pose(pose).draw(torch.rand(NUM, 4), 32)
    found = build(name).maps(Batch(torch.rand(NUM, 3, 32, 32), poses, U_NK))
    assert found is not None
    centre_and_top = torch.tensor([[0.0, 0.0], [0.0, -0.5]])
    points = poses.apply(found[0].apply(centre_and_top)).double()  # of the upright image, where the shown points look
    torch.testing.assert_close(points[:, 0], torch.zeros(NUM, 2, dtype=torch.float64), atol=1e-5, rtol=0)
    x_N, y_N = points[:, 1].T.numpy()
    return np.rad2deg(np.arctan2(x_N, -y_N))


@pytest.mark.parametrize("noise_deg", [5.0, 20.0])
def test_the_error_is_gaussian(noise_deg: float) -> None:
    expected = noise_deg * norm.ppf(U_NK[:, 0].double().numpy() + 2.0**-25)
    np.testing.assert_allclose(turned_by(f"oracle_unwarp:noise_deg={noise_deg}"), expected, atol=1e-2)
    assert expected.std() == pytest.approx(noise_deg, rel=0.05)


def test_gross_errors_are_anywhere() -> None:
    found, small = (turned_by(f"oracle_unwarp:noise_deg=2{more}") for more in (":wrong=0.3", ""))
    is_wrong = np.abs(found - small) > 0.1
    assert is_wrong.mean() == pytest.approx(0.3, abs=0.03)
    assert np.histogram(found[is_wrong], bins=4, range=(-180, 180))[0] == pytest.approx(0.3 * NUM / 4, rel=0.2)
    assert (np.abs(turned_by("oracle_unwarp:wrong=0.3")) < 0.01).mean() == pytest.approx(0.7, abs=0.03)


def test_without_an_error_it_is_the_oracle_that_it_was() -> None:
    """Runs that were made before there were errors keep their configuration, and so their keys."""
    assert np.abs(turned_by("oracle_unwarp")).max() < 0.01
    assert model_of("oracle_unwarp").num_draws == 0
    for name in ("oracle_unwarp", "oracle_unwarp:noise_deg=5", "oracle_unwarp:noise_deg=5:wrong=0.1"):
        assert hyperparameters(parse_variant(name)) == {}
    assert str(parse_variant("oracle_unwarp:noise_deg=0")) == "oracle_unwarp"


def test_the_same_draws_make_errors_in_proportion() -> None:
    once, twice = (OracleUnwarp(noise_deg=noise_deg).error_deg(U_NK) for noise_deg in (7.0, 14.0))
    torch.testing.assert_close(twice, 2 * once)
    assert math.isfinite(OracleUnwarp(noise_deg=7.0).error_deg(torch.zeros(1, 3)).item())


def test_an_error_is_no_hyper_parameter_to_tune() -> None:
    with pytest.raises(UserError, match=r"^model\.noise_deg: only a variant's name sets it: oracle_unwarp:noise"):
        build_model(parse_variant("oracle_unwarp"), {"noise_deg": 5.0})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("oracle_unwarp:noise_deg=-1", "model.noise_deg: -1.0 is not"),
        ("oracle_unwarp:wrong=1.5", "model.wrong: 1.5 is not"),
        ("oracle_unwarp:noise=5", "noise: oracle_unwarp has no such hyper-parameter; did you mean 'noise_deg'?"),
    ],
)
def test_other_errors_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        model_of(name)
    assert message in str(caught.value) and "\n" not in str(caught.value)
