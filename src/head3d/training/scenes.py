"""Heads in other scenes: a few people, each filmed in one place, must not teach what backgrounds and hair look like."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from head3d.geometry import dilate
from head3d.training.batches import jitter_colors

AROUND = 0.06  # of the picture's side, around a head: its hair mixes with that, which is therefore no background
SHIFT = (-0.15, 0.3)  # of the picture's height, below the head's lowest row, where the person's own shoulders begin
NOTHING_KEPT = 0.25  # share of the new scenes without the person's own shoulders


def without_heads(frames: Float[Tensor, "b 3 h w"], masks: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Frames with their heads painted over by the mean of what is seen near by; farther in, by that of a larger part.

    Args:
        frames: RGB in [0, 1].
        masks: soft head masks in [0, 1].
    """
    window = 2 * round(AROUND * frames.shape[-1]) + 1
    seen = 1 - dilate(masks, window).gt(0.1).float()
    levels = [(frames * seen, seen)]
    while min(levels[-1][0].shape[-2:]) > 1:
        colors, share = levels[-1]
        levels.append((F.avg_pool2d(colors, 2, ceil_mode=True), F.avg_pool2d(share, 2, ceil_mode=True)))
    colors, share = levels[-1]
    painted = colors / share.clamp(min=1e-6)
    for colors, share in reversed(levels[:-1]):
        painted = colors + (1 - share) * F.interpolate(painted, colors.shape[-2:], mode="bilinear")
    return painted


def recolored_heads(
    frames: Float[Tensor, "b 3 h w"], masks: Float[Tensor, "b 1 h w"], strength: float, rng: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Frames in which every other head, drawn at random, has other colours than what is around it.

    Args:
        frames: RGB in [0, 1].
        masks: soft head masks in [0, 1].
        strength: of :func:`jitter_colors`.
        rng: randomness.
    """
    heads = jitter_colors(frames[:, None], strength, rng)[:, 0]
    chosen = torch.rand(len(frames), 1, 1, 1, generator=rng) < 0.5
    return torch.where(chosen, frames + masks * (heads - frames), frames)


def other_backgrounds(
    frames: Float[Tensor, "b 3 h w"], masks: Float[Tensor, "b 1 h w"], share: float, rng: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Frames of which some have another frame's background behind the head, enlarged, mirrored and in other colours.

    From a row near the chin downwards mostly the frame's own shoulders stay: a head seldom stands in the air.

    Args:
        frames: RGB in [0, 1].
        masks: soft head masks in [0, 1], which hold for the new frames too.
        share: of the frames that change.
        rng: randomness.
    """
    count, _, height, width = frames.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=rng)

    donors = without_heads(frames, masks)[torch.randperm(count, generator=rng)]
    zoom, mirrored = uniform(0.35, 1), uniform(0, 1) < 0.5
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = torch.where(mirrored, -zoom, zoom), zoom
    theta[:, :, 2] = (1 - zoom)[:, None] * uniform(-1, 1, 2)  # the part that is seen lies inside the donor
    grid = F.affine_grid(theta, [count, 3, height, width], align_corners=False)
    behind = F.grid_sample(donors, grid, padding_mode="reflection", align_corners=False)

    mean = behind.mean(dim=(2, 3), keepdim=True)
    contrast, color = uniform(0.3, 1.6, 1, 1, 1), uniform(0, 1, 3, 1, 1)
    level = torch.where(uniform(0, 1, 1, 1, 1) < 0.5, color[:, :1], 0.5 * (color + mean))  # any grey, or any tint
    behind = ((behind - mean) * contrast + level).clamp(0, 1)

    rows = torch.arange(height, dtype=frames.dtype)
    lowest = torch.where(masks.amax(dim=(1, 3)) > 0.5, rows, -1.0).amax(dim=1)
    begin = lowest + height * uniform(*SHIFT)
    begin = torch.where(uniform(0, 1) < NOTHING_KEPT, 2.0 * height, begin)
    shoulders = torch.sigmoid(rows - begin[:, None])[:, None, :, None]
    mixed = behind + torch.maximum(masks, shoulders) * (frames - behind)
    return torch.where(uniform(0, 1, 1, 1, 1) < share, mixed, frames)
