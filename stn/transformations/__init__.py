"""Transformations: families of maps that a localisation network may choose from. One file each.

Every family is an offset from the identity: parameters of zero leave the image as it is.

Legend: B images, P parameters.
"""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from stn.maps import Map
from stn.transformations.affine import Affine
from stn.transformations.attention import Attention
from stn.transformations.projective import Projective
from stn.transformations.rotation import Rotation
from stn.transformations.similarity import Similarity
from stn.transformations.tps import ThinPlateSpline
from stn.transformations.translation import Translation


class Transformation(Protocol):
    """A family of maps.

    num_params: numbers that a localisation network predicts for it.
    composes: whether maps of the family can be applied one after another as one map of known form.
    turns: whether the family holds rotations.
    """

    num_params: int
    composes: bool
    turns: bool

    def __call__(self, params_BP: Tensor, /) -> Map:
        """The maps from output to input coordinates, float32."""
        ...


TRANSFORMATIONS: Mapping[str, Transformation] = {
    "translation": Translation(),
    "attention": Attention(),
    "rotation": Rotation(),
    "similarity": Similarity(),
    "affine": Affine(),
    "projective": Projective(),
    "tps": ThinPlateSpline(),
}
