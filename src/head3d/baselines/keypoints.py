"""Keypoints and the motion they say: grids, heatmaps, sparse motions, sampling, relative motion.

Coordinates are (x, y) in [-1, 1], where -1 and 1 are the centres of the outermost pixels. A motion is backward and
absolute: (..., H, W, 2) holds, for each pixel of the driving frame, the position in the source frame.

Everything here runs in float32, autocast or not: in bfloat16 a coordinate would be off by a quarter of a pixel.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

GATHERED = 8  # least channels of a shared source that are gathered; below, the weights cost more than the sums
VARIANCE = 0.01  # of the Gaussian around a keypoint; the same in every official configuration


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function of tensors in float32, whatever autocast surrounds it."""

    def exact(value: object) -> object:
        if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16):
            return value.float()
        return value

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        tensor = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
        with torch.autocast("cpu" if tensor is None else tensor.device.type, enabled=False):
            return function(*map(exact, args), **{k: exact(v) for k, v in kwargs.items()})  # type: ignore[arg-type]

    return wrapped


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of frames.

    Attributes:
        value: (B, K, 2), or (B, K, 3) where a method has depth.
        jacobian: (B, K, 2, 2), local change of coordinates around each, or None.
    """

    value: Tensor
    jacobian: Tensor | None = None

    def expand(self, batch: int) -> "Keypoints":
        """One frame's keypoints for each of ``batch`` frames."""
        jacobian = self.jacobian
        return Keypoints(
            self.value.expand(batch, -1, -1), None if jacobian is None else jacobian.expand(batch, -1, -1, -1)
        )

    def __getitem__(self, index: slice) -> "Keypoints":
        return Keypoints(self.value[index], None if self.jacobian is None else self.jacobian[index])


def coordinate_grid(height: int, width: int, like: Tensor) -> Float[Tensor, "h w 2"]:
    """Position of every pixel, x then y, on the device of ``like``, in float32."""
    x = 2 * (torch.arange(width, device=like.device, dtype=torch.float32) / (width - 1)) - 1
    y = 2 * (torch.arange(height, device=like.device, dtype=torch.float32) / (height - 1)) - 1
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)


def spatial_softmax(logits: Float[Tensor, "b k h w"], temperature: float) -> Float[Tensor, "b k h w"]:
    """Heatmaps that each sum to one."""
    return (logits.float().flatten(2) / temperature).softmax(dim=2).view(logits.shape)


@full_precision
def expected_position(heatmaps: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k 2"]:
    """Mean position under heatmaps that each sum to one."""
    grid = coordinate_grid(*heatmaps.shape[-2:], like=heatmaps)
    return (heatmaps[..., None] * grid).sum(dim=(2, 3))


@full_precision
def covariance(heatmaps: Float[Tensor, "b k h w"], mean: Float[Tensor, "b k 2"]) -> Float[Tensor, "b k 2 2"]:
    """Covariance of the position under heatmaps that each sum to one."""
    away = coordinate_grid(*heatmaps.shape[-2:], like=heatmaps) - mean[:, :, None, None]
    # Summed in just this order, as in MRAA's code: its principal axes make a rounding error a hundred times larger.
    outer = away[..., :, None] * away[..., None, :]
    return (outer * heatmaps[..., None, None]).sum(dim=(2, 3))


@full_precision
def gaussian_heatmaps(
    mean: Float[Tensor, "b k 2"], height: int, width: int, spread: float | Float[Tensor, "b k 2 2"] = VARIANCE
) -> Float[Tensor, "b k h w"]:
    """Gaussians of height 1 around points.

    Args:
        mean: the points.
        height: of the heatmaps.
        width: of the heatmaps.
        spread: one variance for all, or a covariance matrix for each.
    """
    grid = coordinate_grid(height, width, like=mean)
    if isinstance(spread, Tensor):
        away = grid - mean[:, :, None, None]
        return torch.exp(-0.5 * (transform(torch.linalg.inv(spread), away) * away).sum(dim=-1))
    # Along x times along y: exp is taken of a row and a column, not of every pixel.
    x, y = (
        torch.exp(-0.5 * (line - mean[..., i, None]) ** 2 / spread)
        for i, line in enumerate((grid[0, :, 0], grid[:, 0, 1]))
    )
    return y[..., None] * x[..., None, :]


def transform(matrices: Float[Tensor, "b k 2 2"], vectors: Float[Tensor, "b k h w 2"]) -> Float[Tensor, "b k h w 2"]:
    """Each point's matrix times each of its vectors."""
    x, y = vectors.unbind(dim=-1)
    m = matrices[:, :, None, None]
    return torch.stack((m[..., 0, 0] * x + m[..., 0, 1] * y, m[..., 1, 0] * x + m[..., 1, 1] * y), dim=-1)


@full_precision
def sparse_motions(
    source: Float[Tensor, "b k 2"],
    driving: Float[Tensor, "b k 2"],
    height: int,
    width: int,
    local: Float[Tensor, "b k 2 2"] | None = None,
    background: Float[Tensor, "b 3 3"] | None = None,
) -> Float[Tensor, "b k1 h w 2"]:
    """The background's motion, then the motion of each point's neighbourhood (FOMM, Eq. 4).

    Args:
        source: points in the source frames.
        driving: the same points in the driving frames.
        height: of the motions.
        width: of the motions.
        local: linear part around each point, from driving to source; the identity if None.
        background: homography of the background, from driving to source; the identity if None.
    """
    grid = coordinate_grid(height, width, like=source)
    away = grid - driving[:, :, None, None]
    near = (away if local is None else transform(local, away)) + source[:, :, None, None]
    if background is None:
        rest = grid.expand(len(source), 1, -1, -1, -1)
    else:
        x, y = grid.unbind(dim=-1)
        row = [background[:, i, :, None, None] for i in range(3)]
        x, y, w = (r[:, 0] * x + r[:, 1] * y + r[:, 2] for r in row)
        rest = torch.stack((x / w, y / w), dim=-1)[:, None]
    return torch.cat((rest, near), dim=1)


@full_precision
def sample(
    source: Float[Tensor, "b c *size"], grid: Float[Tensor, "b *size2 d"], align_corners: bool
) -> Float[Tensor, "b c *size2"]:
    """Source at the positions of a motion, zero outside; images or volumes.

    Args:
        source: images or features; one that is expanded over the batch costs less.
        grid: positions; any resolution.
        align_corners: whether -1 and 1 mean the centres of the outermost pixels, as everywhere else in this module,
            or their outer edges. Official code never says, so that its answer depends on torch: True up to 1.2, False
            since. What a network was trained with is what it should run with.
    """
    shared = len(source) == 1 or source.stride(0) == 0
    learning = torch.is_grad_enabled() and (source.requires_grad or grid.requires_grad)
    if shared and not learning and source.device.type == "cpu" and source.shape[1] >= GATHERED:
        return gather(source[:1], grid, align_corners)
    return F.grid_sample(source, grid, "bilinear", "zeros", align_corners=align_corners)


def gather(
    source: Float[Tensor, "1 c *size"], grid: Float[Tensor, "b *size2 d"], align_corners: bool
) -> Float[Tensor, "b c *size2"]:
    """What ``grid_sample`` makes of one source, nine times as fast on processors; channels last.

    A pixel is a weighted sum of the pixels around its position, and their channels lie side by side in memory: rows of
    a table, which ``embedding_bag`` is made to sum.
    """
    size = source.shape[2:]
    index: Tensor = torch.zeros(1, dtype=torch.int32)
    weight: Tensor = torch.ones(1)
    for axis, cells in enumerate(reversed(size)):  # the grid's first coordinate is x, the last axis of the source
        at = grid[..., axis].float()
        at = (at + 1) * (cells - 1) / 2 if align_corners else ((at + 1) * cells - 1) / 2
        # Far outside is outside; what no integer can hold would otherwise wrap around into the image.
        at = at.nan_to_num(-2.0).clamp(-2, cells + 1)
        low = at.floor()
        corners = torch.stack((low, low + 1), dim=-1)
        inside = (corners >= 0) & (corners < cells)
        share = (1 - (at[..., None] - corners).abs()) * inside
        place = corners.clamp(0, cells - 1).to(torch.int32) * math.prod(size[len(size) - axis :])
        index = (index[..., None, :] + place[..., :, None]).flatten(-2)
        weight = (weight[..., None, :] * share[..., :, None]).flatten(-2)
    rows = source[0].flatten(1).T.float().contiguous()
    corners_each = index.shape[-1]
    summed = F.embedding_bag(
        index.reshape(-1, corners_each), rows, per_sample_weights=weight.reshape(-1, corners_each), mode="sum"
    )
    return summed.view(*grid.shape[:-1], -1).movedim(-1, 1)


@full_precision
def resize_motion(grid: Float[Tensor, "b h w 2"], height: int, width: int) -> Float[Tensor, "b h2 w2 2"]:
    """A motion at another resolution."""
    if grid.shape[1:3] == (height, width):
        return grid
    # align_corners=False although the grid's corners are pixel centres: as in all official code.
    resized = F.interpolate(grid.permute(0, 3, 1, 2), size=(height, width), mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1)


def warp_by(source: Float[Tensor, "b c h w"], grid: Float[Tensor, "b h2 w2 2"], align_corners: bool) -> Tensor:
    """Source moved by a motion that is first resized to the source's resolution: (B, C, H, W)."""
    return sample(source, resize_motion(grid, *source.shape[-2:]), align_corners).to(source.dtype)


def movement_scale(source: Float[Tensor, "k d"], driving: Float[Tensor, "k d"]) -> float:
    """How much larger the source's head is than the driving one: ratio of roots of convex hulls' areas (volumes in 3D).

    Points without an extent (all in one place or on one line) have no hull: then 1.
    """
    try:
        areas = [ConvexHull(points.detach().cpu().double().numpy()).volume for points in (source, driving)]
    except QhullError:
        return 1.0
    return float(np.sqrt(areas[0]) / np.sqrt(areas[1]))


@full_precision
def to_source(source: Float[Tensor, "b k 2 2"], driving: Float[Tensor, "b k 2 2"]) -> Float[Tensor, "b k 2 2"]:
    """Change of coordinates from around driving keypoints or regions to around the source's (FOMM, Eq. 5)."""
    return source @ torch.linalg.inv(driving)


@full_precision
def relative_jacobian(
    source: Float[Tensor, "#b k 2 2"], driving: Float[Tensor, "b k 2 2"], first: Float[Tensor, "#b k 2 2"]
) -> Float[Tensor, "b k 2 2"]:
    """The source's frame after the driving one's change since its first frame: J_d inv(J_first) J_s."""
    return driving @ torch.linalg.inv(first) @ source


def relative_keypoints(source: Keypoints, driving: Keypoints, first: Keypoints, adapt_scale: bool = False) -> Keypoints:
    """The source's keypoints moved as the driving ones have moved since their first frame (FOMM, Sec. 3.4).

    Args:
        source: of one frame.
        driving: of any number of frames.
        first: of the driving video's first frame.
        adapt_scale: scale the movement by the ratio of the two heads' sizes.
    """
    scale = movement_scale(source.value[0], first.value[0]) if adapt_scale else 1.0
    value = (driving.value - first.value) * scale + source.value
    if source.jacobian is None or driving.jacobian is None or first.jacobian is None:
        return Keypoints(value)
    return Keypoints(value, relative_jacobian(source.jacobian, driving.jacobian, first.jacobian))
