"""A floor: each image is warped by the map that was predicted for another."""

from dataclasses import dataclass

from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Network, Site
from experiments.networks.spatial_transformer import Stn, StnNetwork
from stn.maps import AffineMap, Map


@MODELS.register("stn_shuffled")
@dataclass(frozen=True)
class StnShuffled(Stn):
    """A control: each image is moved as the transformer would move another one.

    `stn_affine` whose maps are handed to the next image of the batch: is it the map that helps?
    """

    role = "floor"
    family = "affine"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.place == "feature" or self.heads > 1:
            raise ValueError("place: shuffled maps go with one head that warps the image")
        if self.consistency or self.supervision:
            raise ValueError("consistency, supervision: they ask for each image's own map, and here it gets another's")

    def build(self, site: Site) -> Network:
        return ShuffledNetwork(site, self)


class ShuffledNetwork(StnNetwork):
    """The last image's map goes to the first; the only image of a batch keeps its own."""

    def maps(self, batch: Batch) -> list[Map]:
        (predicted,) = super().maps(batch)
        assert isinstance(predicted, AffineMap)
        return [AffineMap(predicted.theta_B23.roll(1, dims=0))]
