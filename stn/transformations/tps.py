"""Thin-plate splines: smooth bends that put a grid of control points where the network wants them."""

from torch import Tensor

from stn.spline import NUM_CONTROL, SplineMap


class ThinPlateSpline:
    """32 parameters: how far each of 4x4 control points moves, (x, y) in normalised coordinates, row by row.

    Splines do not compose into splines.
    Source: Jaderberg et al. 2015, Spatial Transformer Networks, section 4.1: 16 control points in a regular grid.
    """

    num_params, composes, turns = 2 * NUM_CONTROL, False, True

    def __call__(self, params_BP: Tensor) -> SplineMap:
        return SplineMap(params_BP.float().view(-1, NUM_CONTROL, 2))
