"""Flows that fill and blur, against slow references; similarities, against closed form."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from head3d.geometry import (
    FaceFit,
    Pose,
    align_flow,
    box_blur,
    dilate,
    double_flow,
    fit_affine,
    fit_similarity,
    intrinsics,
    outside_flow,
    pixel_grid,
    pose_from_euler,
    resize_flow,
    warp,
)

SIZE = 48


def disc(x: float, y: float, radius: float) -> torch.Tensor:
    offset = pixel_grid(SIZE, SIZE, torch.zeros(1)) - torch.tensor((x, y))
    return (offset.norm(dim=-1) < radius).float()[None, None]


def linear_flow(height: int, width: int) -> torch.Tensor:
    """A flow in pixels that grows with the place, to the side otherwise than down."""
    x, y = pixel_grid(height, width, torch.zeros(1)).unbind(-1)
    return torch.stack((0.1 * x - 0.03 * y + 1, 0.05 * y + 0.02 * x - 2))[None]


@pytest.mark.parametrize(("height", "width"), [(32, 48), (31, 47)])
def test_a_doubled_flow_lies_where_a_convolution_of_stride_two_has_looked(height: int, width: int) -> None:
    flow = linear_flow(height, width)
    found = double_flow(flow[..., ::2, ::2] / 2, height, width)
    inner = (..., slice(height - 1 + height % 2), slice(width - 1 + width % 2))
    assert found.shape == flow.shape
    assert torch.allclose(found[inner], flow[inner], atol=1e-5)
    if height % 2 == 0:  # beyond the last cell
        assert torch.equal(found[..., -1, :], found[..., -2, :]) and torch.equal(found[..., -1], found[..., -2])


@pytest.mark.parametrize("factor", [2, 4])
def test_a_resized_flow_lies_where_areas_were_pooled(factor: int) -> None:
    flow = linear_flow(32, 48)
    found = resize_flow(F.avg_pool2d(flow, factor) / factor, 32, 48)
    inner = (..., slice(factor, -factor), slice(factor, -factor))
    assert torch.allclose(found[inner], flow[inner], atol=1e-5)
    assert resize_flow(flow, 32, 48) is flow


@pytest.mark.parametrize("window", [1, 3, 9, 17])
def test_a_blur_by_sums_of_sums_is_the_mean_of_a_square_and_so_is_its_gradient(window: int) -> None:
    rng = torch.Generator().manual_seed(0)
    x, weight = torch.rand(2, 2, 3, 20, 31, generator=rng)
    answers = []
    for blur in (box_blur, lambda x, window: F.avg_pool2d(x, window, stride=1, padding=window // 2)):
        x = x.detach().requires_grad_()
        blurred = blur(x, window)
        (blurred * weight).sum().backward()
        answers.append((blurred.detach(), x.grad))
    torch.testing.assert_close(*answers, atol=1e-6, rtol=0)


@pytest.mark.parametrize("window", [5, 13])
def test_a_blur_wider_than_the_image(window: int) -> None:
    x = torch.rand(1, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    padded = F.pad(x, [window // 2] * 4)
    torch.testing.assert_close(box_blur(x, window), F.avg_pool2d(padded, window, stride=1))


@pytest.mark.parametrize("window", [1, 3, 7, 9, 17, 31])
def test_dilation_is_the_greatest_value_of_a_square(window: int) -> None:
    x = torch.randn(2, 3, 12, 9, generator=torch.Generator().manual_seed(0))
    padded = F.pad(x, [window // 2] * 4, value=-torch.inf)
    assert torch.equal(dilate(x, window), F.max_pool2d(padded, window, stride=1))


def test_what_an_evaluation_has_warped_a_training_can_warp_too() -> None:
    source, flow = torch.rand(1, 1, 7, 11), torch.zeros(1, 2, 7, 11)
    with torch.inference_mode():
        torch.testing.assert_close(warp(source, flow), source)
        pixel_grid(11, 7, like=source)
    source.requires_grad_()
    warp(source, flow.requires_grad_()).square().sum().backward()
    assert source.grad is not None and flow.grad is not None
    torch.testing.assert_close(source.grad, 2 * source)
    (pixel_grid(11, 7, like=source) * source[0, 0].T[..., None]).square().sum().backward()  # saves the grid for that


def test_masked_pixels_are_filled_from_the_nearest_outside() -> None:
    mask = torch.cat((disc(20, 24, 9), disc(30, 10, 6)))
    flow = outside_flow(mask)
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


def test_affine_by_hand() -> None:
    points = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [3.0, 2.0]])
    wanted = points @ np.array([[2.0, 0.5], [0.0, -1.0]]) + (5, -1)
    assert fit_affine(points, wanted) == pytest.approx(np.array([[2, 0, 5], [0.5, -1, -1]]))


def test_a_face_is_laid_on_another_one_at_every_pose() -> None:
    """Half as wide, and two pixels to the right: turned by a quarter it is half as high, and two pixels down."""
    size, distance_m = 33, 1.0
    k = intrinsics(size, size, 10.0)
    still = pose_from_euler(torch.zeros(1))
    fit = FaceFit(torch.diag(torch.tensor([0.5, 1.0])), torch.tensor([2.0, 0.0]), still)
    offset = (pixel_grid(size, size, k) - k[:2, 2]).permute(2, 0, 1)

    def places(pose: Pose) -> torch.Tensor:
        """Where pixels take their values from, from the head's centre, when the head is where it was."""
        return align_flow(pose, pose, k, distance_m, size, fit)[0] + offset

    assert torch.allclose(places(still), torch.stack((offset[0] / 2 + 2, offset[1])), atol=1e-4)
    quarter = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])  # x turns to y, which is down
    turned = Pose(quarter, torch.zeros(1, 3))
    assert torch.allclose(places(turned), torch.stack((offset[0], offset[1] / 2 + 2)), atol=1e-4)
    far = Pose(still.rotation, torch.tensor([[0.0, 0.0, 1.0]]))  # twice as far away
    assert torch.allclose(places(far), torch.stack((offset[0] / 2 + 1, offset[1])), atol=1e-4)


def test_of_a_soft_mask_no_faint_edge_is_left() -> None:
    grid = pixel_grid(SIZE, SIZE, torch.zeros(())) - (SIZE - 1) / 2
    mask = ((12 - grid.norm(dim=-1)) / 8).clamp(0, 1)[None, None]
    assert warp(mask, outside_flow(mask)).max() < 0.05
