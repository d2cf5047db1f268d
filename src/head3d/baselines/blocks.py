"""Blocks that the four baselines share: those of Siarohin et al., whose code FOMM published and the others took over.

They differ from :mod:`head3d.models.blocks` in what official weights depend on: convolutions before a normalisation
have biases, halvings are average pools, normalisation and activation come in a fixed order, and tensors have names
that :mod:`head3d.baselines.official` turns into the official ones. With ``dims=3`` a block is the one of FaceV2V for
volumes (B, C, D, H, W): its resolution changes in H and W and never in D.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class VolumeConv(nn.Conv3d):
    """Convolution over volumes, in float32 on processors where the kernel is longer than a side of the volume.

    There oneDNN's bfloat16 gradient of the weights (its ``jit_avx512_core_bf16_convolution_bwd_weights``, release 3.12
    in torch 2.14) is wrong, and is read and written outside of its memory: a process with such a layer dies of
    corrupted memory sooner or later. Such volumes are small, so float32 costs next to nothing.
    """

    def forward(self, input: Float[Tensor, "b c1 d h w"]) -> Float[Tensor, "b c2 d2 h2 w2"]:
        short = any(side < kernel for side, kernel in zip(input.shape[2:], self.kernel_size, strict=True))
        if short and input.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return super().forward(input)


CONVOLUTIONS = {2: nn.Conv2d, 3: VolumeConv}
NORMALISATIONS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def convolution(inputs: int, outputs: int, kernel: int, padding: int, dims: int = 2) -> nn.Conv2d | nn.Conv3d:
    """Convolution with a bias and a cubic kernel, over images (``dims=2``) or volumes (3)."""
    return CONVOLUTIONS[dims](inputs, outputs, kernel, padding=padding)


class ConvNorm(nn.Module):
    """Convolution, batch normalisation, ReLU: (B, inputs, ...) -> (B, outputs, ...), same resolution.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: side of the kernel, odd.
        slope: of the activation below zero.
        dims: 2 for images, 3 for volumes.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, slope: float = 0.0, dims: int = 2) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, kernel, kernel // 2, dims)
        self.norm = NORMALISATIONS[dims](outputs)
        self.slope = slope

    def forward(self, x: Float[Tensor, "b c1 *size"]) -> Float[Tensor, "b c2 *size"]:
        x = self.norm(self.conv(x))
        return F.leaky_relu(x, self.slope) if self.slope else F.relu(x)


class Down(ConvNorm):
    """:class:`ConvNorm`, then a 2x2 average pool: half the resolution, rounded down."""

    def forward(self, x: Float[Tensor, "b c1 *size"]) -> Float[Tensor, "b c2 *half"]:
        x = super().forward(x)
        if x.dim() == 4:
            return F.avg_pool2d(x, 2)
        # Slices as channels of images: the same numbers, and unlike avg_pool3d it knows bfloat16.
        return F.avg_pool2d(x.flatten(1, 2), 2).unflatten(1, x.shape[1:3])


class Up(ConvNorm):
    """Twice the resolution by repeating pixels, then :class:`ConvNorm`."""

    def forward(self, x: Float[Tensor, "b c1 *size"]) -> Float[Tensor, "b c2 *double"]:
        scale = (2.0, 2.0) if x.dim() == 4 else (1.0, 2.0, 2.0)
        return super().forward(F.interpolate(x, scale_factor=scale, mode="nearest"))


class Residual(nn.Module):
    """Pre-activation residual block: x + conv2(relu(norm2(conv1(relu(norm1(x)))))), nothing after the sum."""

    def __init__(self, channels: int, kernel: int = 3, dims: int = 2) -> None:
        super().__init__()
        self.conv1 = convolution(channels, channels, kernel, kernel // 2, dims)
        self.conv2 = convolution(channels, channels, kernel, kernel // 2, dims)
        self.norm1 = NORMALISATIONS[dims](channels)
        self.norm2 = NORMALISATIONS[dims](channels)

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


def hourglass_channels(inputs: int, width: int, levels: int, most: int) -> list[int]:
    """Channels of an encoder, from the raw input down: the width doubles a level, and never exceeds ``most``."""
    return [inputs] + [min(most, width * 2 ** (level + 1)) for level in range(levels)]


class Encoder(nn.Module):
    """Left half of an hourglass: (B, inputs, H, W) -> the input and the features of every level, finest first."""

    def __init__(self, inputs: int, width: int, levels: int, most: int, dims: int = 2) -> None:
        super().__init__()
        channels = hourglass_channels(inputs, width, levels, most)
        self.down = nn.ModuleList(Down(channels[i], channels[i + 1], dims=dims) for i in range(levels))
        self.channels = channels[-1]

    def forward(self, x: Float[Tensor, "b c *size"]) -> list[Tensor]:
        features = [x]
        for down in self.down:
            features.append(down(features[-1]))
        return features


class Decoder(nn.Module):
    """Right half of an hourglass; the raw input is the last skip, so (B, ``width + inputs``, H, W) comes out."""

    def __init__(self, inputs: int, width: int, levels: int, most: int, dims: int = 2) -> None:
        super().__init__()
        channels = hourglass_channels(inputs, width, levels, most)
        self.up = nn.ModuleList(
            Up(channels[i + 1] * (1 if i == levels - 1 else 2), min(most, width * 2**i), dims=dims)
            for i in reversed(range(levels))
        )
        self.channels = width + inputs

    def forward(self, features: list[Tensor]) -> Tensor:
        *skips, out = features
        for up in self.up:
            out = torch.cat((up(out), skips.pop()), dim=1)
        return out


class Hourglass(nn.Module):
    """U-shaped network (FOMM, supplementary material): (B, inputs, H, W) -> (B, ``channels``, H, W).

    Args:
        inputs: channels of the input.
        width: channels leaving the last level of the decoder; the input is concatenated to them.
        levels: halvings; H and W are divisible by 2 ** levels.
        most: greatest number of channels of a level.
        dims: 2 for images, 3 for volumes.
    """

    def __init__(self, inputs: int, width: int, levels: int, most: int, dims: int = 2) -> None:
        super().__init__()
        self.encoder = Encoder(inputs, width, levels, most, dims)
        self.decoder = Decoder(inputs, width, levels, most, dims)
        self.channels = self.decoder.channels

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c2 *size"]:
        return self.decoder(self.encoder(x))


class AntiAliasDownsample(nn.Module):
    """Gaussian blur, then every n-th pixel from the first on: (B, C, H, W) -> (B, C, ceil(H / n), ceil(W / n)).

    Args:
        channels: of the images.
        scale: 1 / n, below 1 (the blur's sigma is (n - 1) / 2 pixels; 1.5 for a quarter).
    """

    kernel: Tensor

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        sigma = (1 / scale - 1) / 2
        radius = round(4 * sigma)
        x = torch.arange(-radius, radius + 1, dtype=torch.float32)
        gaussian = torch.exp(-(x**2) / (2 * sigma**2))
        kernel = gaussian[:, None] * gaussian
        # Part of the state: official checkpoints hold it too.
        self.register_buffer("kernel", (kernel / kernel.sum()).expand(channels, 1, -1, -1).clone())
        self.step = int(1 / scale)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return F.conv2d(x, self.kernel, stride=self.step, padding=self.kernel.shape[-1] // 2, groups=x.shape[1])


def downsample(channels: int, scale: float) -> nn.Module:
    """:class:`AntiAliasDownsample`, or nothing at scale 1."""
    return nn.Identity() if scale == 1 else AntiAliasDownsample(channels, scale)
