"""The flow that a head's rigid motion gives a reference frame, on a ball whose motion is known."""

import pytest
import torch
from torch import Tensor

from head3d.geometry import Pose, outside_flow, pixel_grid, pose_from_euler, warp
from head3d.models.depth import DepthNet
from head3d.models.head3d import Canonical, HeadGeometry, rigid_flow
from head3d.models.pose import PoseNet

SIZE = 64


@pytest.fixture(scope="module")
def geometry() -> HeadGeometry:
    depth = DepthNet(encoder_width=0.25, decoder_width=0.1, range_m=0.1)
    return HeadGeometry(depth, PoseNet("resnet18", 64, 0.1, 0.5))


def ball() -> Canonical:
    grid = pixel_grid(SIZE, SIZE, torch.zeros(1)) - (SIZE - 1) / 2
    mask = (grid.norm(dim=-1) < 16).float()[None, None]
    image = mask * torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    bulge = 0.02 * (1 - (grid / 16).square().sum(dim=-1)).clamp(min=0).sqrt()
    return Canonical(image, mask, 1 - bulge[None, None])


def flow_between(geometry: HeadGeometry, reference: Pose, driving: Pose) -> tuple[Tensor, Tensor, Tensor]:
    """Flow, driving mask and reference mask."""
    head = ball()
    rendered, shown = geometry.render(head, driving), geometry.render(head, reference)
    flow = rigid_flow(geometry, head, rendered, reference, outside_flow(shown.mask))
    return flow, rendered.mask, shown.mask


def test_a_head_that_stays_moves_nothing(geometry: HeadGeometry) -> None:
    pose = pose_from_euler(8.0, -4.0, 5.0)
    flow, _, _ = flow_between(geometry, pose, pose)
    assert flow.abs().max() < 0.3


def test_a_shifted_head_takes_its_pixels_along_and_leaves_the_background(geometry: HeadGeometry) -> None:
    pixels = 12.0
    step = pixels / float(geometry.k(torch.zeros(1, 3, SIZE, SIZE))[0, 0])
    moved = pose_from_euler(0.0, 0.0, 0.0, torch.tensor([[step, 0.0, 0.0]]))
    flow, driving, reference = flow_between(geometry, pose_from_euler(0.0, 0.0, 0.0), moved)
    on_head = driving[:, 0] > 0.99
    assert (flow[:, 0] + pixels)[on_head].abs().max() < 0.5 and flow[:, 1][on_head].abs().max() < 0.3
    assert flow[..., :4].abs().max() == 0  # the far side of the picture
    # Where the head was in the reference, the background beside it shows, not a second head.
    left = (reference[:, 0] > 0.99) & (torch.nn.functional.max_pool2d(driving, 17, 1, 8)[:, 0] == 0)
    assert left.any() and warp(reference, flow)[:, 0][left].max() < 0.05
