"""Dense 3D motion and generator of FaceV2V (Sec. 3.3): the model that the unofficial code calls ``original``."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from head3d.baselines.blocks import ConvNorm, Down, Residual, Up, convolution
from head3d.baselines.facev2v.blocks3d import (
    MotionHourglass,
    coordinate_volume,
    gaussian_volumes,
    shifted,
)
from head3d.baselines.keypoints import full_precision, sample


class VolumeMotion(nn.Module):
    """Motion of every cell of the source's volume, and what it leaves unseen.

    Args:
        keypoints: K.
        features: channels of the source's volume.
        compressed: channels that they are reduced to before the volume is moved with each keypoint.
        depth: cells of the volume along z.
        width: channels of the finest level of the hourglass.
        most: greatest number of channels of a level.
        levels: halvings of the hourglass.
        align_corners: see :func:`head3d.baselines.keypoints.sample`.
    """

    def __init__(
        self,
        keypoints: int,
        features: int,
        compressed: int = 4,
        depth: int = 16,
        width: int = 32,
        most: int = 1024,
        levels: int = 5,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.compressor = ConvNorm(features, compressed, 1, dims=3)
        self.hourglass = MotionHourglass((keypoints + 1) * (compressed + 1), width, levels, most)
        channels = self.hourglass.channels
        self.mask = convolution(channels, keypoints + 1, 7, 3, dims=3)
        self.occlusion = convolution(channels * depth, 1, 7, 3)

    def compress(self, volume: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c2 d h w"]:
        """The few channels of the source's volume that the motion is judged by."""
        return self.compressor(volume)

    def forward(
        self,
        compressed: Float[Tensor, "#b c d h w"],
        source: Float[Tensor, "#b k 3"],
        driving: Float[Tensor, "b k 3"],
    ) -> tuple[Float[Tensor, "b d h w 3"], Float[Tensor, "b 1 h w"], Float[Tensor, "b k1 d h w"]]:
        """Position in the source of each cell of the driving frame; occlusion in (0, 1); share of each keypoint.

        Args:
            compressed: of :meth:`compress`.
            source: keypoints of the source frame.
            driving: keypoints of the driving frame.
        """
        features = self.hourglass(self._candidates(compressed, source, driving))
        shares = self.mask(features).float().softmax(dim=1)
        motion = self._combine(shares, source - driving)
        occlusion = torch.sigmoid(self.occlusion(features.flatten(1, 2)).float())
        return motion, occlusion, shares

    def _candidates(self, compressed: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        """For the background and each keypoint: its heatmap, and the volume moved with it; (B, (K + 1)(C + 1), ...)."""
        size = compressed.shape[-3:]
        heatmaps = gaussian_volumes(driving, *size) - gaussian_volumes(source, *size)
        heatmaps = F.pad(heatmaps, (0, 0, 0, 0, 0, 0, 1, 0))
        moved = shifted(compressed, F.pad(source - driving, (0, 0, 1, 0)), self.align_corners)
        return torch.cat((heatmaps[:, :, None], moved), dim=2).flatten(1, 2)

    @staticmethod
    @full_precision
    def _combine(shares: Tensor, shifts: Tensor) -> Tensor:
        # Keypoints only translate, so that the mean of their motions is the mean translation: shares sum to one.
        mean = (shares[:, 1:].flatten(2).transpose(1, 2) @ shifts).unflatten(1, shares.shape[-3:])
        return coordinate_volume(*shares.shape[-3:], like=shares) + mean


class Generator(nn.Module):
    """A source frame as a volume, and the volume moved and painted as a driving frame.

    Args:
        motion: the network of its motion.
        width: channels at the frame's resolution; they double with each halving.
        most: greatest number of 2D channels.
        downs: halvings between the frame and the volume.
        volume: channels of the volume.
        depth: cells of the volume along z.
        residuals: residual blocks on the volume, and as many on the moved features.
    """

    def __init__(
        self,
        motion: VolumeMotion,
        width: int = 64,
        most: int = 512,
        downs: int = 2,
        volume: int = 32,
        depth: int = 16,
        residuals: int = 6,
    ) -> None:
        super().__init__()
        channels = [min(most, width * 2**i) for i in range(downs + 1)]
        self.motion, self.depth = motion, depth
        self.first = ConvNorm(3, width, 7)
        self.down = nn.ModuleList(Down(channels[i], channels[i + 1]) for i in range(downs))
        self.lift = convolution(channels[-1], volume * depth, 1, 0)
        self.solid = nn.ModuleList(Residual(volume, dims=3) for _ in range(residuals))
        self.flatten = ConvNorm(volume * depth, channels[-1], slope=0.01)
        self.mix = convolution(channels[-1], channels[-1], 1, 0)
        self.flat = nn.ModuleList(Residual(channels[-1]) for _ in range(residuals))
        self.up = nn.ModuleList(Up(channels[i + 1], channels[i]) for i in reversed(range(downs)))
        self.final = convolution(width, 3, 7, 3)

    def encode(self, source: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, Tensor]:
        """Volume (B, C, D, H / 4, W / 4) of a source frame in [0, 1], and its compressed form."""
        x = self.first(source)
        for down in self.down:
            x = down(x)
        volume = self.lift(x).unflatten(1, (-1, self.depth))
        for block in self.solid:
            volume = block(volume)
        return volume, self.motion.compress(volume)

    def decode(
        self,
        volume: Float[Tensor, "#b c d h w"],
        compressed: Float[Tensor, "#b c2 d h w"],
        source: Float[Tensor, "#b k 3"],
        driving: Float[Tensor, "b k 3"],
    ) -> dict[str, Tensor]:
        """Frames of an encoded source, of one item or of as many as there are driving frames.

        Args:
            volume: of :meth:`encode`.
            compressed: of :meth:`encode`.
            source: keypoints of the source.
            driving: keypoints of the driving frames.

        Returns:
            prediction: (B, 3, H, W) in (0, 1).
            occlusion: (B, 1, H / 4, W / 4) in (0, 1).
            mask: (B, K + 1, D, H / 4, W / 4), sums to one over the background and the keypoints.
            deformation: (B, D, H / 4, W / 4, 3), position in the source, in [-1, 1].
        """
        deformation, occlusion, mask = self.motion(compressed, source, driving)
        moved = sample(volume.expand(len(driving), -1, -1, -1, -1), deformation, self.motion.align_corners)
        moved = moved.to(volume.dtype)
        x = self.mix(self.flatten(moved.flatten(1, 2)))
        x = x * occlusion.to(x.dtype)
        for block in self.flat:
            x = block(x)
        for up in self.up:
            x = up(x)
        prediction = torch.sigmoid(self.final(x).float())
        return {"prediction": prediction, "occlusion": occlusion, "mask": mask, "deformation": deformation}

    def forward(
        self, image: Float[Tensor, "b 3 h w"], source: Float[Tensor, "b k 3"], driving: Float[Tensor, "b k 3"]
    ) -> dict[str, Tensor]:
        """:meth:`decode` of :meth:`encode`."""
        return self.decode(*self.encode(image), source, driving)
