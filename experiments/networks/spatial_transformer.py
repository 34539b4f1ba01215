"""Networks with a spatial transformer: where it stands, what it looks at, and how it is helped to learn.

Legend: B images, C channels, H rows, W columns, S parameters of all heads.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from baselines.backbones import Backbone
from baselines.ranges import at_least, within
from experiments.networks.model import LocalisingModel
from experiments.networks.network import Batch, Localisation, Network, Site
from ledger.roles import Role
from stn.blur import blur, sigma_px
from stn.guidance import consistency, prior, supervision
from stn.localisation import disturb, of_map, predict
from stn.maps import Map, circle
from stn.sampler import Gradient, Padding, Sampler
from stn.transformations import TRANSFORMATIONS
from stn.transformer import SpatialTransformer


@dataclass(frozen=True)
class Stn(LocalisingModel):
    """A spatial transformer in or before a backbone. Every field is a factor that can be tuned or ablated.

    loc_lr_factor: learning rate of the localisation network as a factor of the base rate
        (0.1: Jaderberg et al. 2015, section 4.2). At 0 it stays at its start, and leaves images as they are.
    place: where it stands. `input`: it warps the image, and looks at it with a network of its own. `feature`: it warps
        the backbone's map after `stage` stages. `shared`: the backbone's first `stage` stages look, the image is
        warped (STN-CX and STN-SLX of Finnveden et al. 2020, arXiv:2004.11678).
    localisation: its network at the input: `lenet` (8,500 parameters), `paper`, `deep` (three stages with batch
        normalisation), or `backbone` (a second one like the classifier's).
    steps, heads: several looks, one after another or side by side, see stn/transformer.py.
    padding, anti_alias, gradient: how it samples, see stn/sampler.py.
    warp: raw pixels, so that outside is black, or normalised ones, where zeros are the mean colour.
    size: side of what it passes on, as a fraction of the image's.
    start_sd: standard deviation of the last layer's weights at the start; 0 starts at the identity.
    blur_px: blur of the sampled image at the start of training, see stn/blur.py.
    consistency, prior, supervision: weights of the terms in stn/guidance/.
    """

    family: ClassVar[str]

    loc_lr_factor: float = at_least(0, 0.1, plain=0.0)
    place: Literal["input", "feature", "shared"] = "input"
    stage: int = within(1, 16, 1)
    localisation: Localisation = "lenet"
    steps: int = within(1, 16, 1)
    heads: int = within(1, 16, 1)
    padding: Padding = "zeros"
    anti_alias: bool = False
    gradient: Gradient = "bilinear"
    warp: Literal["raw", "normalised"] = "raw"
    size: float = within(0.1, 2, 1.0)
    start_sd: float = at_least(0, 0.0)
    blur_px: float = at_least(0, 0.0)
    consistency: float = at_least(0, 0.0)
    prior: float = at_least(0, 0.0)
    supervision: float = at_least(0, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.consistency and not TRANSFORMATIONS[self.family].turns:
            raise ValueError(f"consistency: images are turned for it, and a transformer of {self.family} cannot turn")
        if self.heads > 1 and (self.consistency or self.prior or self.supervision):
            raise ValueError("heads: guidance goes with one head only")
        if self.place == "input" and self.stage != 1:
            raise ValueError(f"stage: {self.stage} goes with place=feature or place=shared")
        if self.place != "input" and self.localisation != "lenet":
            raise ValueError(
                f"localisation: {self.localisation} goes with place=input; elsewhere stages of the backbone look"
            )
        if self.place == "feature" and self.warp != "raw":
            raise ValueError("warp: a feature map is neither raw nor normalised pixels; leave it out")
        for name, off in (("heads", 1), ("steps", 1), ("size", 1), ("blur_px", 0)):
            if self.place == "feature" and getattr(self, name) != off:
                raise ValueError(f"{name}: {getattr(self, name)} does not go with place=feature")
        self.transformer()  # refuses what cannot go together

    @property
    def role(self) -> Role:  # type: ignore[override]
        return "told" if self.supervision else "transformer"

    @property
    def num_draws(self) -> int:  # type: ignore[override]
        return 1 if self.consistency else 0

    def transformer(self) -> SpatialTransformer:
        """Raises ValueError for steps and heads that cannot go together."""
        sampler = Sampler(self.padding, self.anti_alias, self.gradient)
        return SpatialTransformer(TRANSFORMATIONS[self.family], sampler, self.steps, self.heads)

    def build(self, site: Site) -> Network:
        return StnNetwork(site, self)


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Within it, batch normalisation does not learn the statistics of what it sees."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


class StnNetwork(Network):
    """A backbone with a spatial transformer."""

    def __init__(self, site: Site, model: Stn) -> None:
        self.model = model
        self.transformer = model.transformer()
        self.seen_px = max(1, round(model.size * site.image_px))
        backbone = site.backbone(image_px=self.seen_px, in_channels=model.heads * site.num_channels)
        super().__init__(site, backbone)
        self.num_heads = model.heads
        self.localisation = self._localisation(site, backbone)
        disturb(self.localisation, model.start_sd)

    def _localisation(self, site: Site, backbone: Backbone) -> nn.Module:
        model, num_params = self.model, self.transformer.num_params
        if model.place == "input":
            return site.localisation(model.localisation, num_params)
        if model.place == "shared" and model.heads > 1:
            raise ValueError("heads: several go with place=input only")
        if not model.stage <= len(backbone.stages):
            raise ValueError(f"stage: the backbone has {len(backbone.stages)} stages, {model.stage} is none of them")
        channels, map_px = backbone.map_shape(model.stage, site.image_px, site.num_channels)
        return of_map(channels, num_params, map_px)

    def localise(self, raw_BCHW: Tensor) -> Tensor:
        """Raw images to the parameters of all heads, (B, S)."""
        x_BCHW = self.normalise(raw_BCHW)
        if self.model.place != "input":
            x_BCHW = self.backbone.features(x_BCHW, stop=self.model.stage)
        return predict(self.localisation, x_BCHW)

    def maps(self, batch: Batch) -> list[Map]:
        return self.transformer.maps(batch.raw_BCHW, self.localise)

    def look(self, batch: Batch) -> Tensor:
        return self.transformer.look(batch.raw_BCHW, self.maps(batch), self.seen_px)[0]

    def find(self, raw_BCHW: Tensor) -> Map:
        """The first head's maps of raw images that the network is not trained on."""
        with statistics_kept(self):
            return self.transformer.maps(raw_BCHW, self.localise)[0]

    def logits_of(self, batch: Batch, maps: list[Map]) -> Tensor:
        """Logits of what the transformer passes on under these maps."""
        raw_BCHW = batch.raw_BCHW
        if self.training and self.model.blur_px:
            raw_BCHW = blur(raw_BCHW, sigma_px(self.model.blur_px, batch.progress))
        if self.model.warp == "normalised":
            seen = self.transformer.look(self.normalise(raw_BCHW), maps, self.seen_px)
        else:
            # Black stays black outside the image, where normalised pixels would turn mean-coloured.
            seen = [self.normalise(x_BCHW) for x_BCHW in self.transformer.look(raw_BCHW, maps, self.seen_px)]
        return self.backbone(torch.cat(seen, dim=1) if len(seen) > 1 else seen[0])

    def find_and_classify(self, batch: Batch) -> tuple[Tensor, list[Map]]:
        """Logits and the maps behind them."""
        if self.model.place == "feature":
            map_BCHW = self.backbone.features(self.normalise(batch.raw_BCHW), stop=self.model.stage)
            found: Map = self.transformer.transformation(predict(self.localisation, map_BCHW))
            warped_BCHW = self.transformer.sampler(map_BCHW, found)
            rest_BCHW = self.backbone.features(warped_BCHW, start=self.model.stage)
            return self.backbone.head(rest_BCHW), [found]
        maps = self.maps(batch)
        return self.logits_of(batch, maps), maps

    def forward(self, batch: Batch) -> Tensor:
        return self.find_and_classify(batch)[0]

    def logits_and_penalty(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        logits_BX, maps = self.find_and_classify(batch)
        model, terms = self.model, []
        if model.consistency:
            angle_rad_B = (2 * batch.u_BK[:, 0] - 1) * math.pi / 2
            plain = replace(self.transformer.sampler, gradient="bilinear", anti_alias=False)
            term = consistency(batch.raw_BCHW, maps[0], self.find, angle_rad_B, plain)
            terms.append(model.consistency * term)
        if model.prior:
            terms.append(model.prior * prior(maps[0], len(batch), batch.raw_BCHW.device))
        if model.supervision:
            true_BN2 = batch.poses.from_upright().apply(circle(batch.raw_BCHW.device))
            terms.append(model.supervision * supervision(maps[0], true_BN2))
        return logits_BX, torch.stack(terms).sum() if terms else None
