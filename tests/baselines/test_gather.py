"""Sampling of a source that all driving frames share."""

import pytest
import torch
import torch.nn.functional as F

from head3d.baselines.keypoints import GATHERED, gather, sample


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(7, 5), (1, 3), (4, 6, 5)])
def test_gathering_is_sampling(size: tuple[int, ...], align_corners: bool) -> None:
    torch.manual_seed(0)
    source = torch.randn(1, 9, *size)
    grid = 2.6 * torch.rand(3, *(side + 1 for side in size), len(size)) - 1.3  # a part of it is outside
    expected = F.grid_sample(source.expand(3, *source.shape[1:]), grid, align_corners=align_corners)
    torch.testing.assert_close(gather(source, grid, align_corners), expected, rtol=0, atol=1e-5)


def test_positions_without_bound_are_outside() -> None:
    grid = torch.tensor([[[[1e30, 0.0], [0.0, -1e30], [float("inf"), 0.0], [0.0, 0.0]]]])
    sampled = gather(torch.ones(1, 2, 3, 3), grid, align_corners=True)
    torch.testing.assert_close(sampled, torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(1, 2, 1, 4))


def test_learning_goes_through_what_has_gradients() -> None:
    torch.manual_seed(0)
    grid = (torch.rand(2, 4, 4, 2) - 0.5).requires_grad_(True)
    shared = torch.randn(1, GATHERED, 6, 6).expand(2, -1, -1, -1)
    sample(shared, grid, align_corners=False).sum().backward()
    assert grid.grad is not None and grid.grad.abs().sum() > 0
    with torch.no_grad():
        given = sample(shared, grid, align_corners=False)
    torch.testing.assert_close(given, sample(shared, grid, align_corners=False).detach(), rtol=0, atol=1e-5)
