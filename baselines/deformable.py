"""Deformable convolution: every point of the kernel looks where the feature map itself says.

Legend: B images, C channels, H rows, W columns; K points of the kernel.
Source: Dai et al. 2017, Deformable Convolutional Networks, arXiv:1703.06211, sections 2.1 and 2.3.
"""

import math
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula
from torchvision.ops import deform_conv2d

from baselines.backbones import Backbone

Pair = tuple[int, int]


class DeformableConv2d(nn.Module):
    """A convolution whose points are moved by offsets in px, which a second convolution of the same map predicts.

    Its weight and bias are those of the convolution that it replaces, under the same names. It starts as that
    convolution, since all offsets start at zero. Computed in the weights' type whatever the autocast: offsets are
    geometry, and the operator has no low precision.

    offsets: from the map to (B, 2 * K, H, W): for each point of the kernel, row by row, down and to the right. It is
        made here, but its parameters are those of the module that registers it, not of this one.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        # Conv2d says "tuple of ints" only; it has pairs.
        self.stride, self.padding, self.dilation = (
            cast(Pair, pair) for pair in (conv.stride, conv.padding, conv.dilation)
        )
        # In a tuple, which hides it from this module's parameters: it learns at a rate of its own.
        self._offsets = (offsets_for(conv),)

    @property
    def offsets(self) -> nn.Conv2d:
        return self._offsets[0]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """In the input's type and memory format."""
        channels_last = x_BCHW.is_contiguous(memory_format=torch.channels_last)
        with torch.autocast(x_BCHW.device.type, enabled=False):
            exact_BCHW = x_BCHW.to(self.weight.dtype)
            out_BCHW = deform_conv2d(
                exact_BCHW,
                self.offsets(exact_BCHW),
                self.weight,
                self.bias,
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
            )
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        return out_BCHW.to(x_BCHW.dtype, memory_format=memory_format)


def offsets_for(conv: nn.Conv2d) -> nn.Conv2d:
    """The convolution, all zeros, that predicts a convolution's offsets, over the same points."""
    offsets = nn.Conv2d(
        conv.in_channels,
        2 * math.prod(conv.kernel_size),
        cast(Pair, conv.kernel_size),
        cast(Pair, conv.stride),
        conv.padding if isinstance(conv.padding, str) else cast(Pair, conv.padding),
        cast(Pair, conv.dilation),
    )
    nn.init.zeros_(offsets.weight)
    assert offsets.bias is not None
    nn.init.zeros_(offsets.bias)
    return offsets


def deform(backbone: Backbone, num_stages: int) -> nn.ModuleList:
    """Make the convolutions of the last stages deformable, in place: those of more than one point, as in the paper.

    Returns the convolutions that predict their offsets, for the caller to register.
    Raises ValueError for more stages than there are, and for stages without such a convolution.
    """
    if not 1 <= num_stages <= len(backbone.stages):
        raise ValueError(f"num_stages: the backbone has {len(backbone.stages)} stages, {num_stages} cannot be deformed")
    offsets = nn.ModuleList()
    for stage in backbone.stages[-num_stages:]:
        for parent in list(stage.modules()):
            for name, child in list(parent.named_children()):
                if _can_deform(child):
                    deformable = DeformableConv2d(child)
                    setattr(parent, name, deformable)
                    offsets.append(deformable.offsets)
    if not offsets:
        raise ValueError(f"the backbone's last {num_stages} stages have no ordinary convolution that could be deformed")
    return offsets


def _can_deform(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Not a subclass, which may compute something else; padded with zeros, as the operator does it."""
    return (
        type(module) is nn.Conv2d
        and math.prod(module.kernel_size) > 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


# torch counts what it knows by name, and would take these for free.
@register_flop_formula(torch.ops.torchvision.deform_conv2d)
def _forward_flops(x: torch.Size, weight: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    """As the ordinary convolution."""
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


@register_flop_formula(torch.ops.torchvision._deform_conv2d_backward)
def _backward_flops(grad: torch.Size, x: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    """Gradients of the points and of the weights; the first serve the offsets even where the input needs none."""
    return 2 * 2 * math.prod(grad) * math.prod(weight[1:])
