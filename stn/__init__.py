"""Spatial transformers as a library: maps, sampler, transformations, localisation networks, guidance.

Convention: `theta_out_to_in_B23` maps homogeneous output coordinates (x, y, 1) to input coordinates; both are
normalised to [-1, 1] over the image's edges (align_corners=False), x to the right, y down, origin in the centre.
"""

from stn.localisation import LOCALISATIONS
from stn.sampler import Sampler, base_grid, warp
from stn.transformations import TRANSFORMATIONS
from stn.transformer import SpatialTransformer

__all__ = ["LOCALISATIONS", "TRANSFORMATIONS", "Sampler", "SpatialTransformer", "base_grid", "warp"]
