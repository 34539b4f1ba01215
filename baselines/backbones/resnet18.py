"""ResNet-18 with the stem that is usual for 32x32 images."""

from torch import nn

from baselines.backbones import BACKBONES, Backbone


@BACKBONES.register("resnet18")
def resnet18(*, num_classes: int, image_px: int, in_channels: int, width: float) -> Backbone:
    """11,173,962 parameters for RGB and 10 classes.

    Source: He et al. 2015, Deep Residual Learning, sections 3.3 and 4.2; a 3x3 convolution of stride 1 and no
    pooling in place of the 7x7 stem.
    """
    # Smaller ones shrink to one pixel, and a last batch of one image cannot be normalised over one value.
    if image_px < 9:
        raise ValueError(f"backbone resnet18 needs images of 9 px or more, got {image_px}")
    from torchvision.models.resnet import BasicBlock, ResNet  # seconds to import, and only needed here

    net = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
    channels = [max(1, round(n * width)) for n in (64, 128, 256, 512)]
    net.inplanes = channels[0]
    net.conv1 = nn.Conv2d(in_channels, channels[0], kernel_size=3, padding=1, bias=False)
    net.bn1 = nn.BatchNorm2d(channels[0])
    net.layer1 = net._make_layer(BasicBlock, channels[0], 2)
    net.layer2 = net._make_layer(BasicBlock, channels[1], 2, stride=2)
    net.layer3 = net._make_layer(BasicBlock, channels[2], 2, stride=2)
    net.layer4 = net._make_layer(BasicBlock, channels[3], 2, stride=2)
    net.fc = nn.Linear(channels[3], num_classes)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    stem = nn.Sequential(net.conv1, net.bn1, net.relu)
    head = nn.Sequential(net.avgpool, nn.Flatten(), net.fc)
    return Backbone((stem, net.layer1, net.layer2, net.layer3, net.layer4), head)
