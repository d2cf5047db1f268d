"""The generator of FOMM and its descendants: encode the source, move its features, paint what it didn't show."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from head3d.baselines.blocks import ConvNorm, Down, Residual, Up
from head3d.baselines.keypoints import warp_by
from head3d.baselines.motion import DenseMotion, Motion


def resize_occlusion(occlusion: Float[Tensor, "b 1 h w"], like: Float[Tensor, "b c h2 w2"]) -> Tensor:
    """Occlusion map at the resolution of features, (B, 1, H2, W2)."""
    if occlusion.shape[-2:] == like.shape[-2:]:
        return occlusion
    return F.interpolate(occlusion, size=like.shape[-2:], mode="bilinear", align_corners=False)


class Generator(nn.Module):
    """Image generator (FOMM, Sec. 3.2; with skips: MRAA, Sec. 3.4).

    (B, 3, H, W) -> (B, 3, H, W) in [0, 1]; H and W divisible by 2 ** downs.

    Args:
        motion: the network of its motion.
        width: channels at full resolution; they double with each halving.
        most: greatest number of channels.
        downs: halvings.
        residuals: residual blocks at the lowest resolution.
        skips: whether moved features of every resolution, and the moved source itself, are blended in by occlusion.
    """

    def __init__(
        self,
        motion: DenseMotion,
        width: int = 64,
        most: int = 512,
        downs: int = 2,
        residuals: int = 6,
        skips: bool = False,
    ) -> None:
        super().__init__()
        channels = [min(most, width * 2**i) for i in range(downs + 1)]
        self.motion = motion
        self.first = ConvNorm(3, width, 7)
        self.down = nn.ModuleList(Down(channels[i], channels[i + 1]) for i in range(downs))
        self.bottleneck = nn.Sequential(*(Residual(channels[-1]) for _ in range(residuals)))
        self.up = nn.ModuleList(Up(channels[i + 1], channels[i]) for i in reversed(range(downs)))
        self.final = nn.Conv2d(width, 3, 7, padding=3)
        self.skips = skips

    def encode(self, source: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Features of source frames at every resolution, finest first; they depend on no driving frame."""
        features = [self.first(source)]
        for down in self.down:
            features.append(down(features[-1]))
        return features

    def warp(self, features: Float[Tensor, "b c h w"], motion: Motion) -> Float[Tensor, "b c h w"]:
        """Features, or the source itself, as the motion has it."""
        return warp_by(features, motion.flow, self.motion.align_corners)

    def visible(self, features: Float[Tensor, "b c h w"], motion: Motion) -> Float[Tensor, "b c h w"]:
        """Moved features where the source shows them, zero elsewhere."""
        moved = self.warp(features, motion)
        return moved * resize_occlusion(motion.occlusion, features).to(moved.dtype)

    def blend(self, features: Tensor, out: Tensor, motion: Motion) -> Tensor:
        """Moved features where the source shows them, ``out`` elsewhere."""
        occlusion = resize_occlusion(motion.occlusion, features).to(out.dtype)
        return out.lerp(self.warp(features, motion).to(out.dtype), occlusion)

    def paint(
        self, out: Float[Tensor, "b c h2 w2"], source: Float[Tensor, "b 3 h w"], features: list[Tensor], motion: Motion
    ) -> Float[Tensor, "b 3 h w"]:
        """Frames from moved features of the lowest resolution.

        Args:
            out: the moved features.
            source: source frames; used with skips only, like features and motion.
            features: of :meth:`encode`.
            motion: of the frames.
        """
        out = self.bottleneck(out)
        for i, up in enumerate(self.up):
            if self.skips:
                out = self.blend(features[-1 - i], out, motion)
            out = up(out)
        if self.skips:
            out = self.blend(features[0], out, motion)
        out = self.final(out).float().sigmoid()
        return self.blend(source, out, motion) if self.skips else out

    def forward(
        self, source: Float[Tensor, "b 3 h w"], features: list[Tensor], motion: Motion
    ) -> Float[Tensor, "b 3 h w"]:
        """Frames of a motion; ``features`` are those of ``source``."""
        return self.paint(self.visible(features[-1], motion), source, features, motion)
