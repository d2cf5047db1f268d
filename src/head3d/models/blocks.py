"""Blocks that the encoders, decoders and the flow predictor share.

The image encoder and decoder follow Johnson et al. [17]; the hourglass follows MRAA [38].
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

STRIDE = 4  # pixels between two cells of ImageEncoder's features


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class ResidualBlock(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.body(x)


class ImageEncoder(nn.Sequential):
    """E_H and E_F: a 7x7 convolution and two halvings of the resolution, then residual blocks.

    (B, 3, H, W) -> (B, 4 * width, H / 4, W / 4); cell (i, j) is centred on pixel (4 i, 4 j), see :func:`at_cells`.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__(
            ConvBlock(3, width, 7),
            ConvBlock(width, 2 * width, 3, stride=2),
            ConvBlock(2 * width, 4 * width, 3, stride=2),
            *(ResidualBlock(4 * width) for _ in range(blocks)),
        )


class ImageDecoder(nn.Sequential):
    """Omega_H and Omega_F: residual blocks, two doublings of the resolution, a 7x7 convolution without activation.

    (B, 4 * width, H / 4, W / 4) -> (B, outputs, H, W)
    """

    def __init__(self, width: int, blocks: int, outputs: int = 3) -> None:
        super().__init__(
            *(ResidualBlock(4 * width) for _ in range(blocks)),
            nn.Upsample(scale_factor=2, mode="nearest"),
            ConvBlock(4 * width, 2 * width),
            nn.Upsample(scale_factor=2, mode="nearest"),
            ConvBlock(2 * width, width),
            nn.Conv2d(width, outputs, 7, padding=3),
        )


class Hourglass(nn.Module):
    """U-shaped network of MRAA: each level halves the resolution, decoders see the encoder's features of their level.

    (B, inputs, H, W) -> (B, width + inputs, H, W); H and W divisible by 2 ** levels.
    """

    def __init__(self, inputs: int, width: int, levels: int, most: int) -> None:
        super().__init__()
        channels = [inputs] + [min(most, width * 2 ** (i + 1)) for i in range(levels)]
        self.down = nn.ModuleList(
            nn.Sequential(ConvBlock(channels[i], channels[i + 1]), nn.AvgPool2d(2)) for i in range(levels)
        )
        self.up = nn.ModuleList()
        for i in reversed(range(levels)):
            entering = channels[i + 1] * (1 if i == levels - 1 else 2)
            leaving = min(most, width * 2**i)
            self.up.append(nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), ConvBlock(entering, leaving)))
        self.channels = width + inputs

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h w"]:
        skips = [x]
        for down in self.down:
            skips.append(down(skips[-1]))
        out = skips.pop()
        for up in self.up:
            out = torch.cat((up(out), skips.pop()), dim=1)
        return out


class ConvLSTM(nn.Module):
    """One-layer convolutional LSTM [34], without peepholes.

    Args:
        inputs: channels of the input feature.
        channels: channels of the hidden state.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.gates = nn.Conv2d(inputs + channels, 4 * channels, 3, padding=1)

    def forward(self, sequence: Float[Tensor, "b n c h w"]) -> Float[Tensor, "b c2 h w"]:
        """Aggregate N features of a head, in order, to its hidden state."""
        batch, _, _, height, width = sequence.shape
        hidden = sequence.new_zeros(batch, self.channels, height, width)
        cell = hidden.float()
        for x in sequence.unbind(dim=1):
            enter, forget, out, new = self.gates(torch.cat((x, hidden), dim=1)).float().chunk(4, dim=1)
            cell = torch.sigmoid(forget + 1) * cell + torch.sigmoid(enter) * torch.tanh(new)
            hidden = (torch.sigmoid(out) * torch.tanh(cell)).to(sequence.dtype)
        return hidden


def at_cells(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """What ``x`` holds at the pixels on which the cells of :class:`ImageEncoder` are centred.

    Its features are carried by a flow with ``warp(features, at_cells(flow) / STRIDE)``: flows resized with aligned
    corners belong to cells 127/31 pixels apart, and would carry features up to three pixels beside what they show.
    """
    return x[..., ::STRIDE, ::STRIDE]


def shrink(x: Float[Tensor, "b c h w"], scale: float) -> Float[Tensor, "b c h2 w2"]:
    """Area-averaged copy of ``x`` at ``scale`` of its resolution."""
    return x if scale == 1 else F.interpolate(x, scale_factor=scale, mode="area")


def imagenet(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """RGB in [0, 1] normalised as ImageNet networks expect."""
    mean = x.new_tensor((0.485, 0.456, 0.406))[:, None, None]
    std = x.new_tensor((0.229, 0.224, 0.225))[:, None, None]
    return (x - mean) / std
