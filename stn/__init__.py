"""Spatial transformers as a library: warp algebra, sampler, localisation networks, transformers.

Convention: `theta_out_to_in_B23` maps homogeneous output coordinates (x, y, 1) to input coordinates; both are
normalised to [-1, 1] over the image's edges (align_corners=False), x to the right, y down, origin in the centre.
"""

from stn.localisation import LeNetLocalisation
from stn.sampler import base_grid, warp
from stn.transformers import AffineTransformer

__all__ = ["AffineTransformer", "LeNetLocalisation", "base_grid", "warp"]
