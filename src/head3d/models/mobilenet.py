"""MobileNetV2 (Sandler et al., CVPR 2018) under the names of torchvision, as its weights and those of [20] have them.

The same seed gives the same weights as torchvision's; why it is not torchvision's is said in
:mod:`head3d.models.resnet`.
"""

from torch import Tensor, nn

# Expansion, output channels, repeats and stride of the first, of each group of blocks (Table 2 of the paper).
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
FIRST, LAST, CLASSES = 32, 1280, 1000


def channels(wanted: float) -> int:
    """Channels of a width multiplier: a multiple of 8, at least 8, and not below nine tenths of what is wanted."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def convolved(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU6."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Channels expanded, each convolved alone, and projected back; with a way past where the size stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.conv = nn.Sequential(
            *([convolved(inputs, hidden, 1)] if expansion > 1 else []),
            convolved(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """The network with its classifier, which only published weights need.

    Args:
        width: multiplier of the channels.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        inputs, last = channels(FIRST * width), channels(LAST * max(1.0, width))
        features: list[nn.Module] = [convolved(3, inputs, 3, 2)]
        for expansion, wanted, repeats, stride in BLOCKS:
            outputs = channels(wanted * width)
            for number in range(repeats):
                features.append(InvertedResidual(inputs, outputs, stride if number == 0 else 1, expansion))
                inputs = outputs
        self.features = nn.Sequential(*features, convolved(inputs, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, CLASSES))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
