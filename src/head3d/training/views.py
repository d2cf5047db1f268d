"""Views of heads as the small parser is shown them, drawn at random around the one that the landmarks give."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from head3d.models.head_masks import head_view

WHOLE = 0.1  # share of the views that begin with the whole frame, as where no face is found
TURN_DEG, GROWTH, SHIFT = 12.0, 0.2, 0.1  # most that a view is turned, that its size's logarithm changes, and moved
#                                           (of half its side)


def drawn_views(
    landmarks: Iterable[np.ndarray], height: int, width: int, rng: torch.Generator
) -> Float[Tensor, "b 3 3"]:
    """A view of each frame (:func:`head_view`), turned, enlarged or shrunk, moved, and every other one mirrored.

    Args:
        landmarks: of each frame, ``(68, 2)``, pixels, NaN where there are none.
        height: of the frames, pixels.
        width: of the frames, pixels.
        rng: randomness.
    """
    views = torch.from_numpy(np.stack([head_view(points, height, width) for points in landmarks])).float()
    count = len(views)

    def uniform(most: float, *shape: int) -> Tensor:
        return most * (2 * torch.rand(count, *shape, generator=rng) - 1)

    views[torch.rand(count, generator=rng) < WHOLE] = torch.eye(3)
    angle, size = uniform(TURN_DEG).deg2rad(), uniform(GROWTH).exp()
    side = torch.where(uniform(1) < 0, -size, size)
    cos, sin = angle.cos(), angle.sin()
    columns = torch.stack((cos * side, sin * side), dim=1), torch.stack((-sin * size, cos * size), dim=1)
    change = torch.eye(3).repeat(count, 1, 1)
    change[:, :2] = torch.stack((*columns, uniform(SHIFT, 2)), dim=2)
    return views @ change
