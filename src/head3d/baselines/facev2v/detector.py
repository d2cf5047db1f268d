"""Canonical keypoints of FaceV2V: where they would be if the head faced the camera without expression (Sec. 3.1)."""

from jaxtyping import Float
from torch import Tensor, nn

from head3d.baselines.blocks import convolution, downsample
from head3d.baselines.facev2v.blocks3d import LiftingHourglass, expected_position


class CanonicalDetector(nn.Module):
    """Canonical 3D keypoints of a source image.

    Args:
        keypoints: K.
        width: channels of the finest volume.
        most: greatest number of channels of a level.
        levels: halvings of the hourglass.
        scale: resolution of the network's input relative to the frame.
        temperature: of the softmax over a heatmap.
        lifted: channels of the coarsest volume.
        depth: cells of the volume along z.
    """

    def __init__(
        self,
        keypoints: int = 15,
        width: int = 32,
        most: int = 1024,
        levels: int = 5,
        scale: float = 0.25,
        temperature: float = 0.1,
        lifted: int = 1024,
        depth: int = 16,
    ) -> None:
        super().__init__()
        self.shrink = downsample(3, scale)
        self.predictor = LiftingHourglass(3, width, levels, most, lifted, depth)
        self.kp = convolution(width, keypoints, 3, 1, dims=3)
        self.temperature = temperature

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k 3"]:
        """Keypoints (x, y, z) in [-1, 1] of an image in [0, 1]."""
        logits = self.kp(self.predictor(self.shrink(image)))
        heatmaps = (logits.float().flatten(2) / self.temperature).softmax(dim=2)
        return expected_position(heatmaps.view(logits.shape))
