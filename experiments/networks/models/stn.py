"""Spatial transformers: a model for each family of maps in stn/transformations/."""

from experiments.networks.models import MODELS
from experiments.networks.spatial_transformer import Stn


@MODELS.register("stn_translation")
class StnTranslation(Stn):
    """A spatial transformer in front of the network; it chooses shifts. Source: Jaderberg et al. 2015, section 3.2."""

    family = "translation"


@MODELS.register("stn_attention")
class StnAttention(Stn):
    """A spatial transformer in front of the network; it chooses crops.

    Scales and shifts. Source: Jaderberg et al. 2015, eq. 2.
    """

    family = "attention"


@MODELS.register("stn_rotation")
class StnRotation(Stn):
    """A spatial transformer in front of the network; it chooses turns. See stn/transformations/."""

    family = "rotation"


@MODELS.register("stn_similarity")
class StnSimilarity(Stn):
    """A spatial transformer in front of the network; it chooses turns, scales and shifts. See stn/transformations/."""

    family = "similarity"


@MODELS.register("stn_affine")
class StnAffine(Stn):
    """A spatial transformer in front of the network; it chooses affine maps: turns, scales, shears and shifts.

    Source: Jaderberg et al. 2015, equation 1.
    """

    family = "affine"


@MODELS.register("stn_projective")
class StnProjective(Stn):
    """A spatial transformer in front of the network; it chooses projective maps: changes of perspective.

    Source: Jaderberg et al. 2015, section 4.1.
    """

    family = "projective"


@MODELS.register("stn_tps")
class StnTps(Stn):
    """A spatial transformer in front of the network; it chooses smooth bends.

    Thin-plate splines. Source: Jaderberg et al. 2015, section 4.1.
    """

    family = "tps"
