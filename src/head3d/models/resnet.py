"""ResNet (He et al., CVPR 2016) under the names of torchvision, whose weights many published networks start from.

The same seed gives the same weights as torchvision's. To import torchvision takes as long as to import torch itself,
and every stage of the pipeline would wait for it.
"""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)  # of the four layers, inside their blocks


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a way past them."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu_(self.bn1(self.conv1(x)))))
        return F.relu_(y.add_(x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a way past them; the 3x3 one strides, not the first as in the paper."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(self.bn2(self.conv2(F.relu_(self.bn1(self.conv1(x))))))
        return F.relu_(self.bn3(self.conv3(y)).add_(x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """ResNet-18 or -50.

    Args:
        layers: 18 or 50.
        classes: of the classifier ``fc``, which only published weights need; None leaves it out.

    Attributes:
        channels: of the five levels of :meth:`features`.
    """

    def __init__(self, layers: Literal[18, 50], classes: int | None = 1000) -> None:
        super().__init__()
        block, blocks = (BasicBlock, (2, 2, 2, 2)) if layers == 18 else (Bottleneck, (3, 4, 6, 3))
        self.channels = (64, *(block.expansion * width for width in WIDTHS))
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        stages = [
            nn.Sequential(
                block(inputs, width, 1 if width == WIDTHS[0] else 2),
                *(block(block.expansion * width, width, 1) for _ in range(1, count)),
            )
            for inputs, width, count in zip(self.channels, WIDTHS, blocks, strict=False)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Identity() if classes is None else nn.Linear(self.channels[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size of normalised images."""
        half = F.relu_(self.bn1(self.conv1(x)))
        quarter = self.layer1(F.max_pool2d(half, 3, 2, 1))
        eighth = self.layer2(quarter)
        sixteenth = self.layer3(eighth)
        return half, quarter, eighth, sixteenth, self.layer4(sixteenth)
