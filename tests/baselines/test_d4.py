"""The symmetries of the square, against numpy's own turns."""

import numpy as np
import pytest
import torch

from baselines.policies.d4 import D4
from stn.sampler import warp


def shown(policy: D4, u_BK: torch.Tensor, image_px: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    x_BCHW = torch.rand(1, 2, image_px, image_px).expand(len(u_BK), -1, -1, -1)
    return x_BCHW, policy.apply(x_BCHW, policy.draw(u_BK, image_px), warp)


@pytest.mark.parametrize("mirror", [True, False])
def test_each_symmetry_is_shown_exactly_and_as_often(mirror: bool) -> None:
    u_BK = torch.tensor([[quarter / 4, half / 2] for quarter in range(4) for half in range(2)])
    x_BCHW, y_BCHW = shown(D4(mirror=mirror), u_BK)
    image = x_BCHW[0].numpy().transpose(1, 2, 0)
    expected = [
        np.rot90(np.fliplr(image) if mirror and half == 0 else image, quarter).transpose(2, 0, 1)
        for quarter in range(4)
        for half in range(2)
    ]
    assert np.array_equal(y_BCHW.numpy(), np.stack(expected))
    assert len(torch.unique(y_BCHW.flatten(1), dim=0)) == (8 if mirror else 4)


def test_images_that_are_not_square_are_refused() -> None:
    policy = D4()
    with pytest.raises(ValueError, match="d4: 4 x 5 pixels are not a square"):
        policy.apply(torch.rand(1, 1, 4, 5), policy.draw(torch.zeros(1, 2), 4), warp)
