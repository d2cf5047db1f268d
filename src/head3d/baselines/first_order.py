"""Keypoints with local frames, of FOMM (Siarohin et al., NeurIPS 2019) and of DaGAN, which takes them over."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from head3d.baselines.blocks import Hourglass, downsample
from head3d.baselines.keypoints import (
    VARIANCE,
    Keypoints,
    expected_position,
    full_precision,
    gaussian_heatmaps,
    sparse_motions,
    spatial_softmax,
    to_source,
)


@full_precision
def weighted(maps: Float[Tensor, "b k4 h w"], heatmaps: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k 2 2"]:
    """Mean of each keypoint's four maps under its heatmap, as matrices."""
    maps = maps.unflatten(1, (heatmaps.shape[1], 4))
    return (maps * heatmaps[:, :, None]).sum(dim=(-2, -1)).unflatten(-1, (2, 2))


class KeypointDetector(nn.Module):
    """Keypoints and local frames (FOMM, Sec. 3.1): (B, channels, H, W) -> (B, K, 2) in [-1, 1], (B, K, 2, 2).

    Args:
        keypoints: number of them, K.
        width: of the hourglass.
        most: greatest number of channels of the hourglass.
        levels: of the hourglass.
        scale: of the image's resolution at which the network works.
        temperature: of the heatmaps' softmax.
        channels: of the image; four for DaGAN, which adds depth.
    """

    def __init__(
        self,
        keypoints: int = 10,
        width: int = 32,
        most: int = 1024,
        levels: int = 5,
        scale: float = 0.25,
        temperature: float = 0.1,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.shrink = downsample(channels, scale)
        self.predictor = Hourglass(channels, width, levels, most)
        # No padding: heatmaps are six pixels smaller than features, yet span [-1, 1] like any other map.
        self.kp = nn.Conv2d(self.predictor.channels, keypoints, 7)
        self.jacobian = nn.Conv2d(self.predictor.channels, 4 * keypoints, 7)
        nn.init.zeros_(self.jacobian.weight)
        if self.jacobian.bias is not None:  # the identity, whatever the image
            self.jacobian.bias.data.copy_(torch.eye(2).flatten().repeat(keypoints))
        self.temperature = temperature

    def forward(self, images: Float[Tensor, "b c h w"]) -> Keypoints:
        features = self.predictor(self.shrink(images))
        heatmaps = spatial_softmax(self.kp(features), self.temperature)
        return Keypoints(expected_position(heatmaps), weighted(self.jacobian(features), heatmaps))


def motion_inputs(source: Keypoints, driving: Keypoints, height: int, width: int) -> tuple[Tensor, Tensor]:
    """What the motion network is shown of keypoints at a resolution.

    Returns:
        Heatmaps (B, K, H, W): driving minus source (FOMM, Eq. 6); sparse motions (B, K + 1, H, W, 2).
    """
    shown = (gaussian_heatmaps(points.value, height, width, VARIANCE) for points in (driving, source))
    local = None
    if source.jacobian is not None and driving.jacobian is not None:
        local = to_source(source.jacobian, driving.jacobian)
    motions = sparse_motions(source.value, driving.value, height, width, local)
    there, here = shown
    return there - here, motions
