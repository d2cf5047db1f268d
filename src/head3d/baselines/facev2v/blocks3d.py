"""Geometry and networks on feature volumes (B, C, D, H, W), x along W, y along H, z along D.

Coordinates are in [-1, 1], where -1 and 1 are the centres of the outermost cells, as in
:mod:`head3d.baselines.keypoints`. Networks halve and double H and W only; the depth D stays.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from head3d.baselines.blocks import ConvNorm, Down, Hourglass, Up, convolution, hourglass_channels
from head3d.baselines.keypoints import VARIANCE, full_precision


def axis_coordinates(cells: int, like: Tensor) -> Float[Tensor, " n"]:
    """Positions of the cells of one axis, float32."""
    return 2 * (torch.arange(cells, device=like.device, dtype=torch.float32) / (cells - 1)) - 1


def coordinate_volume(depth: int, height: int, width: int, like: Tensor) -> Float[Tensor, "d h w 3"]:
    """Position of every cell: x, y, z, float32."""
    x, y, z = (axis_coordinates(n, like) for n in (width, height, depth))
    size = (depth, height, width)
    return torch.stack((x.expand(size), y[:, None].expand(size), z[:, None, None].expand(size)), dim=-1)


@full_precision
def expected_position(heatmaps: Float[Tensor, "b k d h w"]) -> Float[Tensor, "b k 3"]:
    """Mean position under heatmaps that each sum to one."""
    depth, height, width = heatmaps.shape[-3:]
    x = (heatmaps.sum(dim=(2, 3)) * axis_coordinates(width, heatmaps)).sum(dim=-1)
    y = (heatmaps.sum(dim=(2, 4)) * axis_coordinates(height, heatmaps)).sum(dim=-1)
    z = (heatmaps.sum(dim=(3, 4)) * axis_coordinates(depth, heatmaps)).sum(dim=-1)
    return torch.stack((x, y, z), dim=-1)


@full_precision
def gaussian_volumes(
    mean: Float[Tensor, "b k 3"], depth: int, height: int, width: int, variance: float = VARIANCE
) -> Float[Tensor, "b k d h w"]:
    """Gaussians of height 1 around points: a product of one along each axis."""
    along = [
        torch.exp(-0.5 * (axis_coordinates(cells, mean) - mean[..., axis, None]) ** 2 / variance)
        for axis, cells in enumerate((width, height, depth))
    ]
    return along[2][..., :, None, None] * (along[1][..., :, None] * along[0][..., None, :])[:, :, None]


def _interpolation(cells: int, shift: Float[Tensor, "*b"], align_corners: bool) -> Float[Tensor, "*b n n"]:
    """Matrix that samples an axis linearly at its own positions moved by ``shift``, zero outside."""
    at = axis_coordinates(cells, shift) + shift[..., None]
    index = (at + 1) * (cells - 1) / 2 if align_corners else ((at + 1) * cells - 1) / 2
    return (1 - (index[..., None] - torch.arange(cells, device=shift.device)).abs()).clamp(min=0)


@full_precision
def shifted(
    volume: Float[Tensor, "#b c d h w"], shifts: Float[Tensor, "b k 3"], align_corners: bool
) -> Float[Tensor, "b k c d h w"]:
    """A volume sampled at its own positions, all moved by the same vector.

    The same numbers as trilinear sampling (``grid_sample``); as every position moves alike, one small matrix an axis
    does it, in less than half the time and without copies of the volume.

    Args:
        volume: features; zero outside.
        shifts: K vectors for each item, in coordinates.
        align_corners: see :func:`head3d.baselines.keypoints.sample`.
    """
    depth, height, width = volume.shape[-3:]
    x = _interpolation(width, shifts[..., 0], align_corners)[:, :, None, None]  # (b, k, 1, 1, w, w)
    y = _interpolation(height, shifts[..., 1], align_corners)[:, :, None, None]
    z = _interpolation(depth, shifts[..., 2], align_corners)[:, :, None]  # (b, k, 1, d, d)
    rows = volume[:, None].transpose(-1, -2)  # (b, 1, c, d, w, h)
    moved = (y @ (x @ rows).transpose(-1, -2)).flatten(-2)  # (b, k, c, d, h * w)
    return (z @ moved).unflatten(-1, (height, width))


class MotionHourglass(Hourglass):
    """3D hourglass, closed by a convolution over its last features and its input together.

    (B, inputs, D, H, W) -> (B, width + inputs, D, H, W); H and W divisible by 2 ** levels.
    """

    def __init__(self, inputs: int, width: int, levels: int, most: int) -> None:
        super().__init__(inputs, width, levels, most, dims=3)
        self.close = ConvNorm(self.channels, self.channels, dims=3)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c2 d h w"]:
        return self.close(super().forward(x))


class LiftingHourglass(nn.Module):
    """Hourglass without skips, from an image to a volume: (B, inputs, H, W) -> (B, width, D, H, W).

    Args:
        inputs: channels of the image.
        width: channels of the volume that leaves.
        levels: halvings; H and W are divisible by 2 ** levels.
        most: greatest number of channels of a level.
        lifted: channels of the coarsest volume.
        depth: D.
    """

    def __init__(self, inputs: int, width: int, levels: int, most: int, lifted: int, depth: int) -> None:
        super().__init__()
        channels = hourglass_channels(inputs, width, levels, most)
        self.depth = depth
        self.down = nn.ModuleList(Down(channels[i], channels[i + 1]) for i in range(levels))
        self.conv = convolution(channels[-1], lifted * depth, 1, 0)
        self.up = nn.ModuleList(
            Up(lifted if i == levels - 1 else min(most, width * 2 ** (i + 1)), min(most, width * 2**i), dims=3)
            for i in reversed(range(levels))
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 d h w"]:
        for down in self.down:
            x = down(x)
        x = self.conv(x).unflatten(1, (-1, self.depth))
        for up in self.up:
            x = up(x)
        return x
