"""Differentiable forward renderer: moves the pixels of a head image with its depth to another pose (Eqs. 1 and 3).

Every source pixel is projected into the target and splats, over its four neighbours, not its colour but the *flow* back
to itself, weighted by nearness so that near surfaces hide far ones. The target then samples the source image once along
the averaged flow. Splatting colours would leave a screen-door pattern where the head grows, and averaging flows rather
than absolute coordinates keeps the result exact to first order wherever samples fall unevenly.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from head3d.geometry.camera import pixel_grid, project, unproject
from head3d.geometry.pose import Pose
from head3d.geometry.warp import warp

NEARNESS_M = 0.004  # how much nearer a surface must be to outweigh another one e-fold
COVERED = 0.02  # share of a pixel that splats must cover before it counts as seen
GAPS = ((3, 1e-3), (7, 1e-6))  # windows, pixels, from which a gap borrows, and the weight of what is borrowed
CLOSED = 7  # gaps narrower than this count as covered when they lie inside


@dataclass(frozen=True)
class Rendered:
    """A rendered view.

    Attributes:
        image: (B, C, H, W), zero where nothing is seen.
        mask: (B, 1, H, W) in [0, 1], the source's soft mask as seen from the new pose.
        depth: (B, 1, H, W), metres, meaningful where ``mask`` > 0.
        flow: (B, 2, H, W), pixels, backward: from each target pixel to its source.
    """

    image: Tensor
    mask: Tensor
    depth: Tensor
    flow: Tensor


def box_blur(x: Float[Tensor, "b c h w"], window: int) -> Float[Tensor, "b c h w"]:
    """Mean over a square of ``window`` (odd) pixels, zeros outside; of float32, for it sums in the type of ``x``."""
    return _BoxBlur.apply(x, window)


class _BoxBlur(torch.autograd.Function):
    """Rows and then columns, each by sums of sums: several times as fast as pooling, forwards and back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: int) -> Tensor:
        ctx.window = window
        padded = F.pad(x, [window // 2] * 4)
        return _window_sums(_window_sums(padded, window, dim=-1), window, dim=-2) / window**2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return box_blur(gradients[0], ctx.window), None  # with zeros outside it is its own adjoint


def _window_sums(x: Tensor, window: int, dim: int) -> Tensor:
    """Sums over every ``window`` neighbours along a dimension, which shrinks by ``window - 1``."""
    size = x.size(dim) - window + 1
    runs, length, pieces, start = x, 1, [], 0  # sums over 1, 2, 4, ... neighbours, of which the window is put together
    while True:
        if window & length:
            pieces.append(runs.narrow(dim, start, size))
            start += length
        if 2 * length > window:
            return sum(pieces[1:], start=pieces[0])
        rest = runs.size(dim) - length
        runs = runs.narrow(dim, 0, rest) + runs.narrow(dim, length, rest)
        length *= 2


def dilate(x: Float[Tensor, "b c h w"], window: int) -> Float[Tensor, "b c h w"]:
    """Greatest value in a square of ``window`` (odd) pixels; ``max_pool2d`` is many times slower on few channels."""
    for dim in (-1, -2):
        edge = [window // 2] * 2 if dim == -1 else [0, 0, *[window // 2] * 2]
        runs, length = F.pad(x, edge, value=-torch.inf), 1  # maxima of 1, 2, 4, ... neighbours
        while 2 * length <= window:
            runs = _later(runs, length, dim)
            length *= 2
        x = _later(runs, window - length, dim) if window > length else runs
    return x


def _later(runs: Tensor, step: int, dim: int) -> Tensor:
    """Maxima of each value and the one ``step`` places on."""
    rest = runs.size(dim) - step
    return torch.maximum(runs.narrow(dim, 0, rest), runs.narrow(dim, step, rest))


def splat(
    points: Float[Tensor, "b n 3"],
    pixels: Float[Tensor, "b n 2"],
    mask: Float[Tensor, "b 1 h w"],
) -> tuple[Float[Tensor, "b 2 h w"], Float[Tensor, "b 1 h w"], Float[Tensor, "b 1 h w"]]:
    """Splat the way back to every source pixel into the target.

    Args:
        points: where the source's pixels (row by row) lie in the target's camera space, metres.
        pixels: where they fall in the target image.
        mask: soft mask of the source; pixels where it is 0 neither show nor hide anything, and get no gradient.

    Returns:
        Backward flow in pixels, depth in metres, and which target pixels are covered (0 or 1).
    """
    batch, _, height, width = mask.shape
    # Most pixels are no head and add nothing: the K others of all images, one after the other.
    inside = mask.detach().flatten().nonzero()[:, 0]
    image_of, source = inside // (height * width), inside % (height * width)
    weight, z, pixels = mask.flatten()[inside], points[..., 2].flatten()[inside], pixels.flatten(0, 1)[inside]
    # Relative to each image's nearest point: absolute weights underflow and the head turns black.
    nearest = z.new_full((batch,), torch.inf).scatter_reduce(0, image_of, z.detach(), "amin")
    behind = (z - nearest[image_of]).clamp(max=80 * NEARNESS_M)
    near = weight * torch.exp(-behind / NEARNESS_M)

    back = pixel_grid(height, width, pixels).reshape(-1, 2)[source] - pixels  # from the landing place to the source
    corner = pixels.detach().floor()
    fraction = pixels - corner  # (K, 2)
    padded = width + 2  # one pixel of rim on every side takes what falls outside
    size = (height + 2) * padded
    column = corner[..., 0].clamp(-2, width).long()
    row = corner[..., 1].clamp(-2, height).long()
    values = torch.cat((torch.ones_like(back[..., :1]), back, z[..., None]), dim=-1)  # (K, 4)

    sums = mask.new_zeros(batch * size, 5)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        share = (fraction[..., 0] if dx else 1 - fraction[..., 0]) * (fraction[..., 1] if dy else 1 - fraction[..., 1])
        at = (row + dy + 1).clamp(0, height + 1) * padded + (column + dx + 1).clamp(0, width + 1) + image_of * size
        splats = torch.cat((values * (share * near)[..., None], (share * weight)[..., None]), dim=-1)
        sums = sums.index_add(0, at, splats)
    image = sums.reshape(batch, height + 2, padded, 5)[:, 1:-1, 1:-1].permute(0, 3, 1, 2).contiguous()

    # Where a surface is stretched, gaps borrow from their neighbours; pixels with splats of their own hardly notice.
    filled = image
    for window, weight_of in GAPS:
        filled = filled + weight_of * box_blur(image, window)
    total = filled[:, :1]
    safe = torch.where(total > 0, total, 1)
    flow, depth = filled[:, 1:3] / safe, filled[:, 3:4] / safe
    own = (image[:, 4:].detach() > COVERED).to(mask.dtype)
    beyond = (box_blur(own, CLOSED) == 0).to(mask.dtype)
    closed = (box_blur(beyond, CLOSED) == 0).to(mask.dtype)  # outside the image counts as covered
    covered = torch.maximum(own, closed) * (total.detach() > 0)
    return flow, depth, covered


def _render(
    image: Float[Tensor, "b c h w"],
    mask: Float[Tensor, "b 1 h w"],
    points: Float[Tensor, "b n 3"],
    k: Float[Tensor, "3 3"],
) -> Rendered:
    flow, depth, covered = splat(points, project(points, k), mask)
    sampled = warp(torch.cat((image, mask), dim=1), flow, padding="zeros") * covered
    return Rendered(sampled[:, :-1], sampled[:, -1:], depth, flow)


def to_canonical(
    image: Float[Tensor, "b c h w"],
    mask: Float[Tensor, "b 1 h w"],
    depth: Float[Tensor, "b 1 h w"],
    pose: Pose,
    k: Float[Tensor, "3 3"],
    distance_m: float,
) -> Rendered:
    """Eq. 1: send the pixels of a head image to canonical space.

    Args:
        image: head image, zero outside ``mask``.
        mask: soft head mask in [0, 1].
        depth: metres.
        pose: pose at which the head is seen.
        k: camera matrix.
        distance_m: distance of the head's centre.
    """
    return _render(image, mask, pose.unapply(unproject(depth, k), distance_m), k)


def from_canonical(
    image: Float[Tensor, "b c h w"],
    mask: Float[Tensor, "b 1 h w"],
    depth: Float[Tensor, "b 1 h w"],
    pose: Pose,
    k: Float[Tensor, "3 3"],
    distance_m: float,
) -> Rendered:
    """Eq. 3: send the pixels of a canonical head to the view at ``pose``; arguments as :func:`to_canonical`."""
    return _render(image, mask, pose.apply(unproject(depth, k), distance_m), k)


def reproject(
    image: Float[Tensor, "b c h w"],
    mask: Float[Tensor, "b 1 h w"],
    depth: Float[Tensor, "b 1 h w"],
    source_pose: Pose,
    target_pose: Pose,
    k: Float[Tensor, "3 3"],
    distance_m: float,
) -> Rendered:
    """Send the pixels of a head image seen at one pose to its view at another, Eq. 1 and Eq. 3 in one go.

    Args:
        image: head image, zero outside ``mask``.
        mask: soft head mask in [0, 1].
        depth: metres.
        source_pose: pose at which the head is seen.
        target_pose: pose of the view.
        k: camera matrix.
        distance_m: distance of the head's centre.
    """
    canonical = source_pose.unapply(unproject(depth, k), distance_m)
    return _render(image, mask, target_pose.apply(canonical, distance_m), k)


def mean_of_views(views: Rendered, references: int) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b 1 h w"]]:
    """Mean canonical head: the average over the frames that see a pixel, not over holes.

    Args:
        views: N canonical frames for each of B heads, (B * N, ...), the N of one head next to each other.
        references: N.

    Returns:
        The mean head image (premultiplied by its mask) and the mask: the best view's.
    """
    images = views.image.unflatten(0, (-1, references))
    masks = views.mask.unflatten(0, (-1, references))
    mask = masks.amax(dim=1)
    colour = images.sum(dim=1) / masks.sum(dim=1).clamp(min=1e-3)
    return colour * mask, mask
