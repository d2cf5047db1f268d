"""Dense motion from sparse motions (FOMM, Sec. 3.1): which keypoint moves each pixel, what the source can't show."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from head3d.baselines.blocks import Hourglass, downsample
from head3d.baselines.keypoints import full_precision, sample


@dataclass(frozen=True)
class Motion:
    """Motion of driving frames from a source frame, at the resolution of the motion network.

    Attributes:
        flow: (B, H, W, 2), where in the source each pixel comes from, in [-1, 1].
        occlusion: (B, 1, H, W) in [0, 1], 1 where the source shows what the driving frame shows.
        mask: (B, K + 1, H, W), share of each sparse motion in the flow, the background's first.
    """

    flow: Tensor
    occlusion: Tensor
    mask: Tensor


@full_precision
def mix(motions: Float[Tensor, "b k h w 2"], mask: Float[Tensor, "b k h w"]) -> Float[Tensor, "b h w 2"]:
    """Sum of motions, each weighted by its mask."""
    return (motions * mask[..., None]).sum(dim=1)


class DenseMotion(nn.Module):
    """Mixes sparse motions to a flow, and predicts occlusion.

    Args:
        keypoints: number of them, K.
        width: of the hourglass.
        most: greatest number of channels of the hourglass.
        levels: of the hourglass.
        scale: of the source's resolution at which the network works.
        align_corners: of the sampling.
        channels: of the source.
    """

    def __init__(
        self,
        keypoints: int,
        width: int = 64,
        most: int = 1024,
        levels: int = 5,
        scale: float = 0.25,
        align_corners: bool = False,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.shrink = downsample(channels, scale)
        self.hourglass = Hourglass((keypoints + 1) * (channels + 1), width, levels, most)
        self.mask = nn.Conv2d(self.hourglass.channels, keypoints + 1, 7, padding=3)
        self.occlusion = nn.Conv2d(self.hourglass.channels, 1, 7, padding=3)
        self.align_corners = align_corners

    def forward(
        self,
        small: Float[Tensor, "b c h w"],
        heatmaps: Float[Tensor, "b k h w"],
        motions: Float[Tensor, "b k1 h w 2"],
    ) -> Motion:
        """Motion of a batch.

        Args:
            small: source frames, shrunk (``self.shrink``).
            heatmaps: Gaussians around the driving keypoints minus those around the source's.
            motions: of :func:`head3d.baselines.keypoints.sparse_motions`.
        """
        batch, count, height, width = motions.shape[:4]
        # All K + 1 grids as one tall grid: the source is not copied for each of them.
        moved = sample(small, motions.flatten(1, 2), self.align_corners)
        moved = moved.unflatten(2, (count, height)).transpose(1, 2)
        heatmaps = torch.cat((heatmaps.new_zeros(batch, 1, height, width), heatmaps), dim=1)
        features = self.hourglass(torch.cat((heatmaps[:, :, None], moved), dim=2).flatten(1, 2))
        mask = self.mask(features).float().softmax(dim=1)
        return Motion(mix(motions, mask), self.occlusion(features).float().sigmoid(), mask)
