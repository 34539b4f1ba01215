"""Spatial transformers: a localisation network that predicts a map, and the warp by that map.

Legend: B images, C channels, H rows, W columns.
"""

from torch import Tensor, nn

from stn.affine import identity
from stn.sampler import Padding, warp


class AffineTransformer(nn.Module):
    """Looks at each image through its own affine map, predicted as an offset from the identity.

    localisation: maps (B, C, H, W) to (B, 6); zeros mean the identity.
    padding: what the transformer sees outside the image.
    Source: Jaderberg et al. 2015, Spatial Transformer Networks, sections 3.1 to 3.3.
    """

    def __init__(self, localisation: nn.Module, *, padding: Padding = "zeros") -> None:
        super().__init__()
        self.localisation = localisation
        self.padding = padding

    def theta(self, seen_BCHW: Tensor) -> Tensor:
        """The predicted map from output to input coordinates, (B, 2, 3), float32."""
        offset_B6 = self.localisation(seen_BCHW).float()
        return identity(len(offset_B6), device=offset_B6.device) + offset_B6.view(-1, 2, 3)

    def forward(self, raw_BCHW: Tensor, seen_BCHW: Tensor | None = None) -> Tensor:
        """Warp raw pixels by the map predicted from `seen`, or from themselves.

        raw_BCHW: pixels in [0, 1], not normalised, so that padding with zeros is black.
        seen_BCHW: what the localisation network looks at, usually the same images normalised.
        """
        theta_out_to_in_B23 = self.theta(raw_BCHW if seen_BCHW is None else seen_BCHW)
        return warp(raw_BCHW, theta_out_to_in_B23, padding=self.padding)
