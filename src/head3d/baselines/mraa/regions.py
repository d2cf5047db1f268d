"""Regions of MRAA and the networks that find, move and animate them (Siarohin et al., CVPR 2021)."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from head3d.baselines.blocks import Encoder, Hourglass, downsample
from head3d.baselines.keypoints import (
    covariance,
    expected_position,
    full_precision,
    gaussian_heatmaps,
    movement_scale,
    relative_jacobian,
    sparse_motions,
    spatial_softmax,
    to_source,
)


@dataclass(frozen=True)
class Regions:
    """Regions of frames.

    Attributes:
        shift: (B, K, 2), centres in [-1, 1].
        covar: (B, K, 2, 2), covariance of the position.
        affine: (B, K, 2, 2), principal axes times standard deviations; affine affine^T is the covariance.
    """

    shift: Tensor
    covar: Tensor
    affine: Tensor

    def expand(self, batch: int) -> "Regions":
        """One frame's regions for each of ``batch`` frames."""
        matrices = (x.expand(batch, -1, -1, -1) for x in (self.covar, self.affine))
        return Regions(self.shift.expand(batch, -1, -1), *matrices)

    def __getitem__(self, index: slice) -> "Regions":
        return Regions(self.shift[index], self.covar[index], self.affine[index])


@full_precision
def principal_axes(covar: Float[Tensor, "b k 2 2"]) -> Float[Tensor, "b k 2 2"]:
    """U sqrt(S) of covariances U S U^T.

    The sign of each axis is free, and reaches the prediction. So the decomposition always runs where the official code
    runs it, in LAPACK in float32, whatever device the networks are on.
    """
    u, s, _ = torch.linalg.svd(covar.cpu())
    return (u * s.sqrt()[..., None, :]).to(covar.device)


@full_precision
def align_axes(affine: Float[Tensor, "b k 2 2"]) -> Float[Tensor, "b k 2 2"]:
    """Changes of coordinates with a positive first entry: undoes axes of opposite signs (``revert_axis_swap``)."""
    return affine * affine[..., :1, :1].sign()


@full_precision
def gram(affine: Float[Tensor, "b k 2 2"]) -> Float[Tensor, "b k 2 2"]:
    """A A^T: the covariance that axes stand for, whatever their signs."""
    return affine @ affine.mT


class RegionPredictor(nn.Module):
    """Regions by PCA of heatmaps (MRAA, Sec. 3.2): (B, 3, H, W) -> :class:`Regions`.

    Args:
        regions: number of them, K.
        width: of the hourglass.
        most: greatest number of channels of the hourglass.
        levels: of the hourglass.
        scale: of the image's resolution at which the network works.
        temperature: of the heatmaps' softmax.
    """

    def __init__(
        self,
        regions: int = 10,
        width: int = 32,
        most: int = 1024,
        levels: int = 5,
        scale: float = 0.25,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        self.shrink = downsample(3, scale)
        self.predictor = Hourglass(3, width, levels, most)
        self.regions = nn.Conv2d(self.predictor.channels, regions, 7, padding=3)
        self.temperature = temperature

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Regions:
        heatmaps = spatial_softmax(self.regions(self.predictor(self.shrink(images))), self.temperature)
        shift = expected_position(heatmaps)
        covar = covariance(heatmaps, shift)
        return Regions(shift, covar, principal_axes(covar))


class BackgroundPredictor(nn.Module):
    """Motion of the background as an affine map (MRAA, Sec. 3.3).

    Two frames (B, 3, H, W) -> (B, 3, 3), from driving to source coordinates in [-1, 1], homogeneous.

    Args:
        width: of the encoder.
        most: greatest number of its channels.
        levels: of the encoder.
    """

    def __init__(self, width: int = 32, most: int = 1024, levels: int = 5) -> None:
        super().__init__()
        self.encoder = Encoder(6, width, levels, most)
        self.fc = nn.Linear(self.encoder.channels, 6)
        nn.init.zeros_(self.fc.weight)
        self.fc.bias.data.copy_(torch.eye(3)[:2].flatten())  # the identity, whatever the frames

    def forward(self, source: Float[Tensor, "b 3 h w"], driving: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 3"]:
        features = self.encoder(torch.cat((source, driving), dim=1))[-1]
        affine = self.fc(features.mean(dim=(2, 3))).float().unflatten(1, (2, 3))
        last = affine.new_tensor((0.0, 0.0, 1.0)).expand(len(affine), 1, 3)
        return torch.cat((affine, last), dim=1)


def perceptron(*sizes: int) -> nn.Sequential:
    """Linear layers with batch normalisation and ReLU between them."""
    layers: list[nn.Module] = []
    for i, (entering, leaving) in enumerate(pairwise(sizes)):
        if i:
            layers += [nn.BatchNorm1d(entering), nn.ReLU(inplace=True)]
        layers.append(nn.Linear(entering, leaving))
    return nn.Sequential(*layers)


class AvdNetwork(nn.Module):
    """Animation via disentanglement (MRAA, Sec. 3.6): regions with the shape of one head and the pose of another.

    Args:
        regions: number of them, K.
        identity: size of the code of the shape.
        pose: size of the code of the pose.
    """

    def __init__(self, regions: int = 10, identity: int = 64, pose: int = 64) -> None:
        super().__init__()
        size = 6 * regions
        self.id_encoder = perceptron(size, 256, 512, 1024, identity)
        self.pose_encoder = perceptron(size, 256, 512, 1024, pose)
        self.decoder = perceptron(pose + identity, 1024, 512, 256, size)

    def forward(self, identity: Regions, pose: Regions) -> Regions:
        """Regions of the head of ``identity`` in the pose of ``pose``, frame by frame."""
        sign = to_source(identity.affine, pose.affine)[..., :1, :1].sign()  # as in align_axes
        codes = (
            self.pose_encoder(self.pack(pose.shift, pose.affine)),
            self.id_encoder(self.pack(identity.shift, identity.affine * sign)),
        )
        out = self.decoder(torch.cat(codes, dim=1)).float().unflatten(1, (-1, 6))
        affine = out[..., 2:].unflatten(-1, (2, 2))
        return Regions(out[..., :2], gram(affine), affine)

    @staticmethod
    def pack(shift: Float[Tensor, "b k 2"], affine: Float[Tensor, "b k 2 2"]) -> Float[Tensor, "b k6"]:
        """Regions as one vector a frame."""
        return torch.cat((shift, affine.flatten(2)), dim=2).flatten(1)


def motion_inputs(
    source: Regions, driving: Regions, height: int, width: int, background: Float[Tensor, "b 3 3"] | None
) -> tuple[Tensor, Tensor]:
    """What the motion network is shown of regions at a resolution.

    Returns:
        Heatmaps (B, K, H, W): Gaussians of the regions' own covariances, driving minus source; sparse motions
        (B, K + 1, H, W, 2).
    """
    there, here = (gaussian_heatmaps(r.shift, height, width, r.covar) for r in (driving, source))
    local = align_axes(to_source(source.affine, driving.affine))
    return there - here, sparse_motions(source.shift, driving.shift, height, width, local, background)


def relative_regions(source: Regions, driving: Regions, first: Regions) -> Regions:
    """The source's regions moved as the driving ones have moved since their first frame.

    The movement is always scaled by the ratio of the heads' sizes, and the covariances, which the heatmaps are drawn
    with, stay those of the driving frames: both as in the official code.
    """
    scale = movement_scale(source.shift[0], first.shift[0])
    shift = (driving.shift - first.shift) * scale + source.shift
    return Regions(shift, driving.covar, relative_jacobian(source.affine, driving.affine, first.affine))


def stretched(
    regions: Regions, reach: float, rng: torch.Generator, rows: slice = slice(None), whole: int | None = None
) -> Regions:
    """Regions (B, K) stretched along x and along y by random factors in 1 +- ``reach``, two for each frame.

    As the official ``random_scale`` of the AVD network's training.

    Args:
        regions: of frames.
        reach: how far, as a share.
        rng: randomness.
        rows: which frames these are of the ``whole`` number that factors are drawn for.
        whole: that number; None where these are all.
    """
    drawn = torch.rand(whole or len(regions.shift), 1, 2, generator=rng)[rows]
    factors = (1 - reach + 2 * reach * drawn).to(regions.shift)
    affine = factors[..., None] * regions.affine
    return Regions(factors * regions.shift, gram(affine), affine)
