"""Localisation networks: from an image or a feature map to the numbers that say where to look.

Every one ends in a dense layer that starts at zero, so that every image starts with the same transformation, the
identity (Jaderberg et al. 2015, section 4.1 and appendix); `disturb` gives it another start.

Legend: B images, C channels, H rows, W columns, P parameters of the transformation.
"""

from collections.abc import Callable, Mapping

from torch import Tensor, nn


def _zero(dense: nn.Linear) -> nn.Linear:
    nn.init.zeros_(dense.weight)
    if dense.bias is not None:
        nn.init.zeros_(dense.bias)
    return dense


def started_at_zero(network: nn.Module) -> nn.Module:
    """Any network as a localisation network. Raises ValueError if it has no dense layer."""
    _zero(last_dense(network))
    return network


def last_dense(network: nn.Module) -> nn.Linear:
    """The dense layer that was made last. Raises ValueError if there is none."""
    dense = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    if not dense:
        raise ValueError("a localisation network ends in a dense layer, and this backbone does not")
    return dense[-1]


def disturb(localisation: nn.Module, sd: float) -> None:
    """Draw the last layer's weights from N(0, sd), so that images start with slightly different transformations.

    A start at zero lets no gradient through to the layers before it in the first step, and on a symmetric task the
    identity is a saddle that training need not leave.
    """
    if sd:
        nn.init.normal_(last_dense(localisation).weight, std=sd)


def lenet(in_channels: int, num_params: int, image_px: int) -> nn.Sequential:
    """Two convolutions and two dense layers; 8,544 parameters for an affine map of 32x32 RGB images.

    Images of other sizes are pooled to the 4x4 map that 32x32 images give, so the parameters do not depend on size.
    Source: the localisation network of PyTorch's spatial transformer tutorial, with RGB input.
    """
    if image_px < 18:
        raise ValueError(f"the localisation network needs images of 18 px or more, got {image_px}")
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, kernel_size=7),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(8, 10, kernel_size=5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4) if ((image_px - 6) // 2 - 4) // 2 != 4 else nn.Identity(),
        nn.Flatten(),
        nn.Linear(10 * 4 * 4, 32),
        nn.ReLU(),
        _zero(nn.Linear(32, num_params)),
    )


def paper(in_channels: int, num_params: int, image_px: int) -> nn.Sequential:
    """The image halved, two 5x5 convolutions of 20 filters and a dense layer of 20.

    Source: Jaderberg et al. 2015, appendix A.1, for 28 px, whose last map is flattened; here it is pooled to 4x4.
    """
    if image_px < 24:  # whose last map has fewer than 4 px
        raise ValueError(f"the localisation network 'paper' needs images of 24 px or more, got {image_px}")
    return nn.Sequential(
        nn.AvgPool2d(2),
        nn.Conv2d(in_channels, 20, kernel_size=5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(20, 20, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(20 * 4 * 4, 20),
        nn.ReLU(),
        _zero(nn.Linear(20, num_params)),
    )


def deep(in_channels: int, num_params: int, image_px: int) -> nn.Sequential:
    """Three stages of convolution, batch normalisation and pooling, 32 to 64 channels, and two dense layers.

    The hidden units are normalised for each image (Ba et al. 2016, Layer Normalization): without that, the large steps
    of a young classifier leave them all at zero, and every image with the same map for good.
    """
    if image_px < 16:
        raise ValueError(f"the localisation network 'deep' needs images of 16 px or more, got {image_px}")
    layers: list[nn.Module] = []
    for channels, out_channels, stride in ((in_channels, 32, 2), (32, 64, 1), (64, 64, 1)):
        kernel = 4 if stride == 2 else 3
        layers += [
            nn.Conv2d(channels, out_channels, kernel, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
        layers += [nn.MaxPool2d(2)] if stride == 1 else []
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 64),
        nn.LayerNorm(64),
        nn.ReLU(),
        _zero(nn.Linear(64, num_params)),
    )


def of_map(in_channels: int, num_params: int, map_px: int) -> nn.Sequential:
    """One convolution and two dense layers over a feature map, pooled to 4x4.

    Raises ValueError for a map of fewer than 4 px, which has no places left to tell apart.
    """
    if map_px < 4:
        raise ValueError(f"a localisation network needs a feature map of 4 px or more, got {map_px}")
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 32),
        nn.ReLU(),
        _zero(nn.Linear(32, num_params)),
    )


LOCALISATIONS: Mapping[str, Callable[[int, int, int], nn.Sequential]] = {"lenet": lenet, "paper": paper, "deep": deep}
"""By name: builds a network for images of so many channels, parameters and pixels. Raises ValueError if too small."""


def predict(localisation: nn.Module, x_BCHW: Tensor) -> Tensor:
    """(B, P) in float32, whatever the autocast."""
    return localisation(x_BCHW).float()
