"""The patch discriminator that FOMM, DaGAN and FaceV2V train with (pix2pix HD, at one scale)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from head3d.baselines import official
from head3d.baselines.keypoints import VARIANCE, gaussian_heatmaps

TABLE: official.Table = (("discs.1.down_blocks.#", "down.#"), ("discs.1.conv", "final"), *official.SPECTRAL)


class PatchDown(nn.Module):
    """4x4 convolution without padding, instance normalisation, LeakyReLU(0.2), 2x2 average pool."""

    def __init__(self, inputs: int, outputs: int, normalise: bool, pool: bool, spectral: bool) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, 4)
        self.conv = spectral_norm(conv) if spectral else conv
        self.norm = nn.InstanceNorm2d(outputs, affine=True) if normalise else nn.Identity()
        self.pool = pool

    def forward(self, x: Float[Tensor, "b c1 h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        x = F.leaky_relu(self.norm(self.conv(x)), 0.2)
        return F.avg_pool2d(x, 2) if self.pool else x


class Discriminator(nn.Module):
    """Real or generated, patch by patch (FOMM, supplementary material).

    Args:
        width: channels after the first block are twice this.
        most: greatest number of channels.
        blocks: number of them.
        spectral: spectral normalisation of every convolution.
        keypoints: number of keypoints that it is also shown as heatmaps; 0 for none (``use_kp`` of ``vox-adv-256``).
    """

    def __init__(
        self, width: int = 32, most: int = 512, blocks: int = 4, spectral: bool = True, keypoints: int = 0
    ) -> None:
        super().__init__()
        channels = [3 + keypoints] + [min(most, width * 2 ** (i + 1)) for i in range(blocks)]
        self.down = nn.ModuleList(
            PatchDown(channels[i], channels[i + 1], normalise=i > 0, pool=i < blocks - 1, spectral=spectral)
            for i in range(blocks)
        )
        final = nn.Conv2d(channels[-1], 1, 1)
        self.final = spectral_norm(final) if spectral else final
        self.keypoints = keypoints

    def forward(
        self, images: Float[Tensor, "b 3 h w"], points: Float[Tensor, "b k 2"] | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Features of every block, and the map of answers (B, 1, h, w), unbounded.

        Args:
            images: RGB in [0, 1].
            points: keypoints of the images, if it is shown any.
        """
        out = images
        if self.keypoints:
            if points is None:
                raise ValueError("this discriminator is shown keypoints too")
            height, width = images.shape[-2:]
            out = torch.cat((out, gaussian_heatmaps(points, height, width, VARIANCE)), dim=1)
        features = []
        for down in self.down:
            out = down(out)
            features.append(out)
        return features, self.final(out)
