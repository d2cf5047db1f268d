"""Self-supervised depth of DaGAN (Hong et al., CVPR 2022): the networks of monodepth2 (Godard et al., 2019).

A ResNet encoder and a decoder of nearest-neighbour upsampling, skips and reflection padding.
Frozen while DaGAN trains.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from head3d.models.resnet import ResNet

LEVELS = 5  # resolutions of the encoder: 1/2 .. 1/32 of the image
WIDTHS = (16, 32, 64, 128, 256)  # decoder channels, finest level first


class DepthEncoder(nn.Module):
    """Features of a ResNet at its five resolutions.

    Args:
        layers: depth of the ResNet, 50 or 18; DaGAN trains with 50, its demo uses 18.
    """

    def __init__(self, layers: int = 50) -> None:
        super().__init__()
        self.encoder = ResNet(18 if layers == 18 else 50)  # with its classifier: official weights have it, too
        self.channels = self.encoder.channels

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Features (B, channels[i], H / 2 ** (i + 1), W / 2 ** (i + 1)) of an image in [0, 1]."""
        return list(self.encoder.features((image - 0.45) / 0.225))


def elu(x: Float[Tensor, "*size"]) -> Float[Tensor, "*size"]:
    """Exponential linear unit. As exp(x) >= x + 1, it needs no branch; torch's own is ten times slower on a CPU."""
    return torch.maximum(x, x.clamp(max=0).exp() - 1)


class ReflectedConv(nn.Module):
    """3x3 convolution of a reflection-padded map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h w"]:
        return self.conv(F.pad(x, (1, 1, 1, 1), mode="reflect"))


class DepthDecoder(nn.Module):
    """Disparity from the encoder's features, at four resolutions.

    Args:
        channels: channels of the encoder's features, finest first.
        widths: channels of the decoder's levels, finest first.
    """

    def __init__(self, channels: tuple[int, ...], widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        above = (*widths[1:], channels[-1])
        skips = (0, *channels[:-1])
        # Index i is the level at 1 / 2 ** i of the image, once it is upsampled.
        self.before = nn.ModuleList(ReflectedConv(above[i], widths[i]) for i in range(LEVELS))
        self.after = nn.ModuleList(ReflectedConv(widths[i] + skips[i], widths[i]) for i in range(LEVELS))
        self.heads = nn.ModuleList(ReflectedConv(widths[i], 1) for i in range(LEVELS - 1))

    def forward(self, features: list[Tensor], levels: tuple[int, ...] = (0,)) -> list[Tensor]:
        """Disparities in (0, 1), (B, 1, H / 2 ** i, W / 2 ** i) for each i of ``levels``, all within 0 .. 3."""
        found: dict[int, Tensor] = {}
        x = features[-1]
        for i in reversed(range(min(levels), LEVELS)):
            x = F.interpolate(elu(self.before[i](x)), scale_factor=2, mode="nearest")
            if i > 0:
                x = torch.cat((x, features[i - 1]), dim=1)
            x = elu(self.after[i](x))
            if i in levels:
                found[i] = torch.sigmoid(self.heads[i](x))
        return [found[i] for i in levels]
