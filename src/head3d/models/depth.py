"""Depth network F_D: the MobileNetV2 encoder-decoder of [20], with instance norm in its decoder (Sec. 4.2)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from head3d.models.blocks import imagenet
from head3d.models.mobilenet import MobileNetV2

TAPS = (17, 14, 8, 5, 3, 1)  # features of MobileNetV2 that the six decoder blocks see, deepest first


class UpBlock(nn.Module):
    """Resize to a tap's resolution, concatenate it, two 3x3 convolutions with instance norm and leaky ReLU."""

    def __init__(self, inputs: int, tap: int, outputs: int) -> None:
        super().__init__()
        self.convA = nn.Conv2d(inputs + tap, outputs, 3, padding=1)
        self.normA = nn.InstanceNorm2d(outputs, affine=True)
        self.convB = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.normB = nn.InstanceNorm2d(outputs, affine=True)

    def forward(self, x: Float[Tensor, "b c h w"], tap: Float[Tensor, "b c2 h2 w2"]) -> Float[Tensor, "b c3 h2 w2"]:
        x = F.interpolate(x, size=tap.shape[-2:], mode="bilinear", align_corners=True)
        x = F.leaky_relu(self.normA(self.convA(torch.cat((x, tap), dim=1))), 0.2)
        return F.leaky_relu(self.normB(self.convB(x)), 0.2)


class DepthNet(nn.Module):
    """Depth of a head image relative to the head's centre.

    Args:
        encoder_width: width multiplier of MobileNetV2; [20] has 1.0.
        decoder_width: share of the encoder's last channels that the decoder starts from; [20] has 0.6.
        range_m: the depth spans plus and minus this many metres.
    """

    def __init__(self, encoder_width: float = 1.0, decoder_width: float = 0.6, range_m: float = 0.1) -> None:
        super().__init__()
        self.range_m = range_m
        self.encoder = MobileNetV2(encoder_width).features
        last = self._channels(18)
        top = int(last * decoder_width)
        taps = [self._channels(i) for i in TAPS]
        # Channels of [20]: up0 and up1 keep half of the start, then each block halves, as their checkpoint has them.
        outs = [top // 2, top // 2, top // 4, top // 8, top // 8, top // 16]
        self.conv2 = nn.Conv2d(last, top, 1, padding=1)
        self.up = nn.ModuleList(
            UpBlock(inputs, tap, out) for inputs, tap, out in zip([top, *outs[:-1]], taps, outs, strict=True)
        )
        self.conv3 = nn.Conv2d(outs[-1], 1, 3, padding=1)

    def _channels(self, index: int) -> int:
        block = self.encoder[index]
        assert isinstance(block, nn.Module)
        return [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)][-1].num_features

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Depth minus the depth of the head's centre, metres, in (-range_m, range_m); x is a head image in [0, 1]."""
        size = x.shape[-2:]
        features = []
        x = imagenet(x)
        for block in self.encoder:
            x = block(x)
            features.append(x)
        x = self.conv2(x)
        for up, tap in zip(self.up, TAPS, strict=True):
            x = up(x, features[tap])
        raw = F.interpolate(self.conv3(x).float(), size=size, mode="bilinear", align_corners=True)
        return self.range_m * torch.tanh(raw)
