"""Flows that fill and blur, against slow references; similarities, against closed form."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from head3d.geometry import box_blur, fit_similarity, outside_flow, pixel_grid, warp

SIZE = 48


def disc(x: float, y: float, radius: float) -> torch.Tensor:
    offset = pixel_grid(SIZE, SIZE, torch.zeros(1)) - torch.tensor((x, y))
    return (offset.norm(dim=-1) < radius).float()[None, None]


@pytest.mark.parametrize("window", [1, 3, 9, 17])
def test_a_blur_in_two_passes_is_the_blur_in_one(window: int) -> None:
    x = torch.rand(2, 3, 20, 31, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(box_blur(x, window), F.avg_pool2d(x, window, stride=1, padding=window // 2), atol=1e-6)


def test_masked_pixels_are_filled_from_the_nearest_outside() -> None:
    mask = torch.cat((disc(20, 24, 9), disc(30, 10, 6)))
    flow = outside_flow(mask, rim=2)
    taken = warp(mask, flow, padding="zeros")
    assert taken.max() < 1e-4  # nothing of the mask is left
    grid = pixel_grid(SIZE, SIZE, mask).permute(2, 0, 1)
    assert (grid + flow).round().sub(grid + flow).abs().max() < 1e-5  # whole pixels
    grown = F.max_pool2d(mask, 5, stride=1, padding=2)[:, 0].bool()
    for here, own in zip(grown, flow, strict=True):
        away = (~here).nonzero().float()
        for y, x in here.nonzero()[::7].tolist():
            nearest = (away - torch.tensor((y, x)).float()).norm(dim=-1).min()
            assert own[:, y, x].norm() == pytest.approx(float(nearest), abs=1e-4)
    assert (flow.abs().sum(1) * ~grown).max() == 0


def test_a_mask_without_outside_or_inside_moves_nothing() -> None:
    assert outside_flow(torch.ones(1, 1, 8, 8)).abs().max() == 0
    assert outside_flow(torch.zeros(1, 1, 8, 8)).abs().max() == 0


def test_similarity_by_hand() -> None:
    points = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [3.0, 2.0]])
    wanted = 3 * np.stack([-points[:, 1], points[:, 0]], axis=1) + (5, -1)  # a quarter turn, three times as large
    assert fit_similarity(points, wanted) == pytest.approx(np.array([[0, -3, 5], [3, 0, -1]]))
