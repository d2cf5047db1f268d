"""The forward renderer against closed form: planes and spheres at known poses, gradients, hidden surfaces."""

import pytest
import torch
from torch import Tensor

from head3d.geometry import (
    Pose,
    Rendered,
    canonical_flow,
    from_canonical,
    intrinsics,
    mean_of_views,
    pixel_grid,
    pose_from_euler,
    project,
    reproject,
    splat,
    to_canonical,
    unproject,
    warp,
)

SIZE = 128
K = intrinsics(SIZE, SIZE, 10.0)
POSES = [
    pose_from_euler(12.0, -5.0, 3.0, torch.tensor([[0.004, -0.003, 0.02]])),
    pose_from_euler(-20.0, 8.0, -10.0, torch.tensor([[-0.006, 0.002, -0.05]])),
    pose_from_euler(0.0, 0.0, 12.0, torch.tensor([[0.0, 0.0, -0.1]])),  # grows by a ninth
]


def test_a_strongly_grown_and_rolled_plane_stays_within_a_fifth_of_a_pixel() -> None:
    pose = pose_from_euler(0.0, 0.0, 25.0, torch.tensor([[0.0, 0.0, -0.2]]))
    rendered = from_canonical(coordinates(), disc(), torch.ones(1, 1, SIZE, SIZE), pose, K, 1.0)
    centre = (SIZE - 1) / 2
    target = (pixel_grid(SIZE, SIZE, torch.zeros(1)) - centre).reshape(-1, 2)
    source = 0.8 * target @ pose.rotation[0, :2, :2] + centre
    error = rendered.image[0] - source.T.reshape(2, SIZE, SIZE)
    assert (error.abs() * inside(rendered)[0]).max() < 0.2


def disc(radius: float = 0.35) -> Tensor:
    grid = pixel_grid(SIZE, SIZE, torch.zeros(1)) - (SIZE - 1) / 2
    return (grid.norm(dim=-1) < radius * SIZE).float()[None, None]


def sphere_depth(radius_m: float = 0.055) -> Tensor:
    """Depth of a ball about the head's centre, flat where rays miss it."""
    pixels = (pixel_grid(SIZE, SIZE, torch.zeros(1)) - K[:2, 2]) / K[0, 0]
    ray = torch.cat((pixels, torch.ones(SIZE, SIZE, 1)), dim=-1)
    a, b, c = ray.square().sum(-1), -ray[..., 2], 1 - radius_m**2
    return ((-b - (b * b - a * c).clamp(min=0).sqrt()) / a)[None, None]


def coordinates() -> Tensor:
    """An image whose two channels are the pixel's own coordinates."""
    return pixel_grid(SIZE, SIZE, torch.zeros(1)).permute(2, 0, 1)[None]


def inside(rendered: Rendered) -> Tensor:
    """Pixels well inside the rendered shape, away from its rim."""
    return -torch.nn.functional.max_pool2d(-rendered.mask, 5, stride=1, padding=2) > 0.99


@pytest.mark.parametrize("pose", POSES)
def test_a_plane_lands_where_its_homography_says(pose: Pose) -> None:
    depth = torch.ones(1, 1, SIZE, SIZE)
    rendered = from_canonical(coordinates(), disc(), depth, pose, K, 1.0)
    # Rays of the target meet the moved plane n.p = n.o, with n = R z and o any moved point of it.
    rays = unproject(torch.ones(1, 1, SIZE, SIZE), K)[0]
    normal = pose.rotation[0, :, 2]
    origin = pose.apply(torch.tensor([[[0.0, 0.0, 1.0]]]), 1.0)[0, 0]
    hits = rays * ((normal @ origin) / (rays @ normal))[:, None]
    source = project(pose.unapply(hits[None], 1.0), K).reshape(SIZE, SIZE, 2).permute(2, 0, 1)[None]
    use = inside(rendered)
    assert use.sum() > 1500
    assert ((rendered.image - source).abs() * use).max() < 0.1
    truth = hits[:, 2].reshape(1, 1, SIZE, SIZE)
    assert ((rendered.depth - truth).abs() * use).max() < 5e-4


@pytest.mark.parametrize("yaw", [-15.0, 8.0, 20.0])
def test_a_sphere_lands_where_its_points_do(yaw: float) -> None:
    pose = pose_from_euler(yaw, 4.0, 2.0, torch.tensor([[0.003, 0.001, -0.04]]))
    # Nearly tangent rays are left out: a pixel there spans a large patch of the surface.
    mask, depth = disc(0.2), sphere_depth()
    rendered = from_canonical(coordinates(), mask, depth, pose, K, 1.0)
    target = pixel_grid(SIZE, SIZE, torch.zeros(1)).permute(2, 0, 1)[None]
    source = target + rendered.flow
    # Forward again by the analytic sphere: the source of every target pixel must land on that pixel.
    where = warp(depth, rendered.flow)
    points = torch.cat(((source.permute(0, 2, 3, 1) - K[:2, 2]) / K[0, 0], torch.ones(1, SIZE, SIZE, 1)), dim=-1)
    points = points * where.permute(0, 2, 3, 1)
    landed = project(pose.apply(points.reshape(1, -1, 3), 1.0), K).reshape(1, SIZE, SIZE, 2).permute(0, 3, 1, 2)
    use = inside(rendered)
    assert use.sum() > 800
    assert ((landed - target).abs() * use).max() < 0.1


@pytest.mark.parametrize("pose", POSES)
def test_to_canonical_undoes_from_canonical(pose: Pose) -> None:
    mask, depth = disc(0.22), sphere_depth()
    there = from_canonical(coordinates(), mask, depth, pose, K, 1.0)
    back = to_canonical(there.image, there.mask, there.depth, pose, K, 1.0)
    both = inside(back)
    assert both.sum() > 800
    assert ((back.image - coordinates()).abs() * both).max() < 0.5  # sampled twice, the rim stretched


def test_between_two_poses_a_sphere_lands_where_its_points_do() -> None:
    seen = pose_from_euler(10.0, 4.0, -6.0, torch.tensor([[0.004, -0.002, 0.03]]))
    wanted = pose_from_euler(-8.0, 9.0, 5.0, torch.tensor([[-0.003, 0.002, -0.02]]))
    # A ball looks the same however it is turned: its depth at `seen` is that of a ball about where the head went.
    depth = sphere_depth() + seen.translation[0, 2]
    rendered = reproject(coordinates(), disc(0.2), depth, seen, wanted, K, 1.0)
    points = wanted.apply(seen.unapply(unproject(depth, K), 1.0), 1.0)
    lands = project(points, K).reshape(1, SIZE, SIZE, 2).permute(0, 3, 1, 2)
    back = warp(lands, rendered.image - coordinates())  # where the source of each pixel says that it lands
    error = (back - coordinates()).norm(dim=1, keepdim=True) * inside(rendered)
    assert inside(rendered).sum() > 1000
    assert error.max() < 0.1


def test_near_surfaces_hide_far_ones() -> None:
    far = torch.full((1, 1, SIZE, SIZE), 1.05)
    near = pixel_grid(SIZE, SIZE, torch.zeros(1))[..., 0] < 40
    depth = torch.where(near, 0.95, far)
    image = near.float().expand(1, 1, SIZE, SIZE)
    pose = pose_from_euler(0.0, 0.0, 0.0, torch.tensor([[0.03, 0.0, 0.0]]))
    moved = from_canonical(image, torch.ones(1, 1, SIZE, SIZE), depth, pose, K, 1.0)
    # The near stripe moves f * 0.03 * (1 / 0.95 - 1 / 1.05) = 2.2 pixels further than what lies behind it.
    edge = 39 + float(K[0, 0]) * 0.03 / 0.95
    columns = torch.arange(SIZE)
    assert (moved.image[0, 0, 64, (columns > 26) & (columns < edge - 1)] > 0.95).all()
    assert (moved.image[0, 0, 64, columns > edge + 2] < 0.05).all()
    assert moved.depth[0, 0, 64, int(edge) - 2] == pytest.approx(0.95, abs=2e-3)


def test_growing_leaves_no_pinholes() -> None:
    pose = pose_from_euler(5.3, 0.0, 7.0, torch.tensor([[0.0, 0.0, -0.35]]))
    rendered = from_canonical(torch.ones(1, 1, SIZE, SIZE), disc(0.25), torch.ones(1, 1, SIZE, SIZE), pose, K, 1.0)
    grid = pixel_grid(SIZE, SIZE, torch.zeros(1)) - (SIZE - 1) / 2
    assert rendered.image[0, 0][grid.norm(dim=-1) < 0.33 * SIZE].min() > 0.99


def test_what_lies_before_the_head_outside_its_mask_hides_nothing() -> None:
    pose = POSES[0]
    depth = torch.ones(1, 1, SIZE, SIZE)
    alone = from_canonical(coordinates(), disc(), depth, pose, K, 1.0)
    in_front = torch.where(disc() > 0, depth, 0.9)
    assert ((alone.mask > 0) == (from_canonical(coordinates(), disc(), in_front, pose, K, 1.0).mask > 0)).all()


def test_gradients_agree_with_finite_differences() -> None:
    torch.manual_seed(0)
    size = 24
    k = intrinsics(size, size, 10.0).double()
    grid = pixel_grid(size, size, torch.zeros(1, dtype=torch.float64))
    mask = (((grid - 11.5).norm(dim=-1)) < 8).double()[None, None]
    base = (1 + 0.004 * torch.sin(grid[..., 0] / 5) * torch.cos(grid[..., 1] / 6))[None, None]
    image = torch.sin(grid.sum(-1) / 4)[None, None]
    probe = torch.randn(1, 1, size, size, dtype=torch.float64)

    # Away from the identity: there every coordinate is whole, and bilinear weights have a kink.
    pose = pose_from_euler(6.1, 3.3, 2.2, torch.tensor([[0.0011, 0.0007, 0.013]]))

    def value(pixels: Tensor, depth: Tensor, rotation: Tensor, translation: Tensor) -> Tensor:
        rendered = from_canonical(pixels, mask, depth, Pose(rotation, translation), k, 1.0)
        return (rendered.image * probe).sum() + rendered.depth.mul(rendered.mask.detach() > 0.5).sum()

    inputs = [image, base, pose.rotation.double(), pose.translation.double()]
    leaves = [x.clone().requires_grad_() for x in inputs]
    gradients = torch.autograd.grad(value(*leaves), leaves)
    for index, gradient in enumerate(gradients):
        direction = torch.randn_like(inputs[index])
        step = 1e-7
        ahead = [x + step * direction if i == index else x for i, x in enumerate(inputs)]
        behind = [x - step * direction if i == index else x for i, x in enumerate(inputs)]
        numeric = (value(*ahead) - value(*behind)) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(float(numeric), rel=1e-3, abs=1e-4)


def test_flow_of_eq_5_points_where_eq_3_sends() -> None:
    pose, depth = POSES[1], sphere_depth()
    flow = canonical_flow(depth, pose, K, 1.0)
    landed = project(pose.apply(unproject(depth, K), 1.0), K)
    assert torch.allclose(flow.flatten(2).transpose(1, 2) + pixel_grid(SIZE, SIZE, depth).reshape(1, -1, 2), landed)


def test_splat_against_a_slow_reference() -> None:
    """Per target pixel: flows of the four-neighbour splats, averaged with nearness weights, one by one."""
    torch.manual_seed(1)
    size = 12
    pixels = torch.rand(1, size * size, 2) * (size + 4) - 2
    depth = 1 + 0.01 * torch.rand(1, size * size)
    points = torch.cat((torch.zeros(1, size * size, 2), depth[..., None]), dim=-1)
    mask = (torch.rand(1, 1, size, size) > 0.3).float()
    flow, z, covered = splat(points, pixels, mask)
    nearest = depth[mask.flatten(1) > 0].min()
    for row in range(size):
        for column in range(size):
            total, moved, deep, share_sum = 0.0, torch.zeros(2), 0.0, 0.0
            for n in range(size * size):
                if not mask.flatten()[n]:
                    continue
                u, v = pixels[0, n]
                share = max(0.0, 1 - abs(float(u) - column)) * max(0.0, 1 - abs(float(v) - row))
                weight = share * float(torch.exp(-(depth[0, n] - nearest) / 0.004))
                total += weight
                moved = moved + weight * torch.tensor((n % size - float(u), n // size - float(v)))
                deep += weight * float(depth[0, n])
                share_sum += share
            if share_sum > 0.3:  # pixels of their own; the rest borrow from neighbours
                assert torch.allclose(flow[0, :, row, column], moved / total, atol=0.05)
                assert float(z[0, 0, row, column]) == pytest.approx(deep / total, abs=1e-4)
                assert covered[0, 0, row, column] == 1


@pytest.mark.parametrize(
    ("rows", "columns", "closes"),
    [
        (slice(12, 17), slice(12, 17), True),
        (slice(12, 18), slice(8, 24), True),
        (slice(0, 5), slice(12, 17), True),  # outside the image counts as covered
        (slice(12, 19), slice(12, 19), False),
        (slice(10, 19), slice(8, 24), False),
    ],
)
def test_gaps_narrower_than_seven_pixels_count_as_covered(rows: slice, columns: slice, closes: bool) -> None:
    size = 32
    mask = torch.ones(1, 1, size, size)
    mask[..., rows, columns] = 0
    pixels = pixel_grid(size, size, mask).reshape(1, -1, 2)
    points = torch.cat((torch.zeros_like(pixels), torch.ones(1, size * size, 1)), dim=-1)
    covered = splat(points, pixels, mask)[2]
    assert torch.equal(covered, torch.ones_like(mask) if closes else mask)


def test_mean_of_views_ignores_holes() -> None:
    image = torch.tensor([0.2, 0.0, 0.6]).reshape(3, 1, 1, 1).expand(3, 3, 4, 4)
    mask = torch.tensor([1.0, 0.0, 1.0]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    mean, seen = mean_of_views(Rendered(image, mask, mask, mask), 3)
    assert torch.allclose(mean, torch.full((1, 3, 4, 4), 0.4))
    assert torch.equal(seen, torch.ones(1, 1, 4, 4))


def test_the_mean_of_soft_views_has_their_colour() -> None:
    mask = torch.tensor([0.2, 0.0, 0.6]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    mean, seen = mean_of_views(Rendered(0.5 * mask.expand(3, 3, 4, 4), mask, mask, mask), 3)
    assert torch.allclose(seen, torch.full((1, 1, 4, 4), 0.6))
    assert torch.allclose(mean, torch.full((1, 3, 4, 4), 0.5 * 0.6))


def test_a_near_head_in_the_batch_does_not_change_a_far_one() -> None:
    """Surfaces are told apart by what hides them in their own image, however far from the camera that is."""
    rng = torch.Generator().manual_seed(0)
    pixels = pixel_grid(16, 16, torch.zeros(())).reshape(1, -1, 2) + 2 * torch.randn(1, 256, 2, generator=rng)
    relief = torch.cat((pixels, 0.05 * torch.rand(1, 256, 1, generator=rng)), dim=-1)
    points = torch.cat((relief, relief)) + torch.tensor([[[0.0, 0.0, 0.5]], [[0.0, 0.0, 1.5]]])
    flow, depth, covered = splat(points, pixels.expand(2, -1, -1), torch.ones(2, 1, 16, 16))
    assert torch.allclose(flow[0], flow[1], atol=1e-2) and torch.equal(covered[0], covered[1])
    assert torch.allclose(depth[0] + 1, depth[1], atol=1e-4)


def test_what_is_no_head_adds_nothing_and_learns_nothing() -> None:
    """Images of different heads, one of them empty, splatted together and each alone; and points outside the masks."""
    rng = torch.Generator().manual_seed(0)
    mask = torch.zeros(3, 1, 16, 16)
    mask[0, :, 4:12, 5:9], mask[2, :, 2:5, 3:14] = 1, 0.5
    pixels = pixel_grid(16, 16, mask).reshape(1, -1, 2) + torch.randn(3, 256, 2, generator=rng)
    points = torch.cat((pixels, 1 + 0.05 * torch.rand(3, 256, 1, generator=rng)), dim=-1).requires_grad_()
    together = splat(points, pixels, mask.requires_grad_())
    for index in range(3):
        alone = splat(points[[index]], pixels[[index]], mask[[index]])
        assert all(torch.equal(a[index], b[0]) for a, b in zip(together, alone, strict=True))
    assert together[2][1].max() == 0
    together[1].sum().backward()
    assert mask.grad is not None
    assert mask.grad[mask > 0].abs().max() > 0
    assert mask.grad[mask == 0].abs().max() == 0
    assert points.grad is not None
    moved = points.grad.flatten(0, 1).norm(dim=-1) > 0
    assert moved.any()
    assert not moved[mask.flatten() == 0].any()
    elsewhere = torch.where(mask.flatten(2).transpose(1, 2) > 0, points.detach(), 7.0)
    assert torch.equal(splat(elsewhere, pixels, mask)[0], together[0])


def test_a_soft_edge_stays_soft() -> None:
    grid = pixel_grid(64, 64, torch.zeros(())) - 31.5
    mask = ((24 - grid.norm(dim=-1)) / 10).clamp(0, 1)[None, None]
    still = Pose(torch.eye(3)[None], torch.zeros(1, 3))
    image = torch.zeros(1, 3, 64, 64)
    made = from_canonical(image, mask, torch.ones_like(mask), still, intrinsics(64, 64, 10.0), 1.0)
    assert (made.mask - mask).abs().max() < 0.03
