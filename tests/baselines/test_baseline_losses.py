"""Losses of the baselines against closed forms and slow, obvious references."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from head3d.baselines import losses
from head3d.baselines.discriminator import Discriminator
from head3d.baselines.facev2v.head import rotation_matrix
from head3d.baselines.keypoints import coordinate_grid
from head3d.baselines.objective import Pairs, adversarial, weighted_sum
from head3d.losses import ThinPlateSpline
from head3d.params import Params
from head3d.training.baseline import load_objective, make


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def spline_of(batch: int = 2, seed: int = 0, affine: float = 0.05, bumps: float = 0.005) -> ThinPlateSpline:
    return ThinPlateSpline(batch, torch.Generator().manual_seed(seed), affine, bumps)


def test_the_spline_has_fomms_spreads_and_control_points() -> None:
    spline = spline_of(4000)
    assert float((spline.theta - torch.eye(2, 3)).std()) == pytest.approx(0.05, rel=0.05)
    assert float(spline.weights.std()) == pytest.approx(0.005, rel=0.05)
    assert spline.control.tolist() == [[x, y] for y, x in product((-1, -0.5, 0, 0.5, 1), repeat=2)]


def test_the_splines_jacobian_is_its_derivative() -> None:
    spline = spline_of(3, bumps=0.05)
    points = (rand(3, 7, 2) * 2 - 1).requires_grad_()
    moved = spline(points)
    wanted = torch.stack([torch.autograd.grad(moved[..., i].sum(), points, retain_graph=True)[0] for i in (0, 1)], -2)
    assert torch.allclose(losses.spline_jacobian(spline, points.detach()), wanted, atol=1e-5)


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_deformed_image_shows_what_the_image_shows_at_the_moved_place(align_corners: bool) -> None:
    """A ramp, of which every place can be read off; only places that stay inside."""
    spline = spline_of()
    size = 33
    grid = coordinate_grid(size, size, like=torch.empty(0))
    ramp = grid.permute(2, 0, 1).expand(2, -1, -1, -1)
    if not align_corners:  # then the outermost pixels are half a pixel inside -1 and 1
        ramp = ramp * (size - 1) / size
    got = losses.deform(ramp.contiguous(), spline, align_corners).permute(0, 2, 3, 1)
    wanted = spline(grid.reshape(1, -1, 2).expand(2, -1, -1)).unflatten(1, (size, size))
    inside = (wanted.abs() < 0.95).all(dim=-1)
    assert inside.float().mean() > 0.7
    assert torch.allclose(got[inside], wanted[inside], atol=1e-5)


def test_a_deformed_image_has_no_edges() -> None:
    """Beyond its edges an image goes on mirrored: what is of one colour stays so."""
    white = torch.ones(2, 3, 16, 16)
    assert torch.allclose(losses.deform(white, spline_of(affine=0.5), False), white, atol=1e-5)


def test_equivariance_of_perfect_points_is_zero() -> None:
    """Points p' that T carries to p exactly, and frames that T' carries too."""
    spline = spline_of()
    found = rand(2, 5, 2) * 1.6 - 0.8
    assert float(losses.equivariance_value(spline(found), found, spline)) == pytest.approx(0, abs=1e-6)
    assert float(losses.equivariance_value(spline(found) + 0.25, found, spline)) == pytest.approx(0.25, abs=1e-6)
    frames = rand(2, 5, 2, 2, seed=1) + 2 * torch.eye(2)
    carried = losses.spline_jacobian(spline, found) @ frames
    assert float(losses.equivariance_local(carried, frames, found, spline)) == pytest.approx(0, abs=1e-5)
    # Twice the frame: 1 - inv(2 J) J = 1/2 on the diagonal, 0 beside it.
    assert float(losses.equivariance_local(2 * carried, frames, found, spline)) == pytest.approx(0.25, abs=1e-5)


def test_axes_have_no_sign() -> None:
    spline = spline_of(1)
    found, axes = rand(1, 4, 2), rand(1, 4, 2, 2, seed=3) + torch.eye(2)
    turned = axes * torch.tensor([1.0, -1.0, -1.0, 1.0]).view(1, 4, 1, 1)
    plain = losses.spline_jacobian(spline, found) @ axes
    for free, wanted in ((True, 0.0), (False, 0.5)):
        got = losses.equivariance_local(plain, turned, found, spline, free_sign=free)
        assert float(got) == pytest.approx(wanted, abs=1e-5)  # half of the four are off by 2 on the diagonal


def test_equivariance_against_loops() -> None:
    spline = spline_of()
    plain, deformed, points = rand(2, 3, 2, 2, seed=4) + torch.eye(2), rand(2, 3, 2, 2, seed=5), rand(2, 3, 2, seed=6)
    jacobian = losses.spline_jacobian(spline, points)
    total = 0.0
    for b, k in product(range(2), range(3)):
        change = torch.linalg.inv(plain[b, k]) @ jacobian[b, k] @ deformed[b, k]
        for i, j in product(range(2), repeat=2):
            total += abs(float(i == j) - float(change[i, j]))
    got = losses.equivariance_local(plain, deformed, points, spline)
    assert float(got) == pytest.approx(total / (2 * 3 * 4), rel=1e-4)


def test_adversarial_losses_by_hand() -> None:
    real, fake = torch.tensor([0.5, 2.0]).view(1, 1, 1, 2), torch.tensor([-3.0, 0.5]).view(1, 1, 1, 2)
    assert float(losses.generator_gan_loss(fake, "least_squares")) == pytest.approx((16 + 0.25) / 2)
    assert float(losses.generator_gan_loss(fake, "hinge")) == pytest.approx(1.25)
    assert float(losses.discriminator_gan_loss(real, fake, "least_squares")) == pytest.approx((0.25 + 1 + 9 + 0.25) / 2)
    assert float(losses.discriminator_gan_loss(real, fake, "hinge")) == pytest.approx(0.5 / 2 + 1.5 / 2)


def test_feature_matching_sums_blocks_and_teaches_the_generator_only() -> None:
    real = [torch.zeros(1, 2, 2, 2, requires_grad=True), torch.zeros(1, 1, 1, 1, requires_grad=True)]
    fake = [torch.full((1, 2, 2, 2), 0.5, requires_grad=True), torch.full((1, 1, 1, 1), -2.0, requires_grad=True)]
    got = losses.feature_matching(real, fake)
    got.backward()
    assert float(got.detach()) == pytest.approx(2.5)
    assert real[0].grad is None and fake[0].grad is not None


def test_one_step_on_all_is_the_official_alternation() -> None:
    """The generator's gradient with the discriminator fixed; the discriminator's with the frame fixed."""
    torch.manual_seed(0)
    net = Discriminator(4, 16, blocks=2, spectral=False)
    start, truth = rand(2, 3, 32, 32), rand(2, 3, 32, 32, seed=1)
    predicted = start.clone().requires_grad_()
    terms = adversarial(net, predicted, truth, "hinge")
    (terms["generator_gan"] + 10 * terms["feature_matching"] + terms["discriminator_gan"]).backward()

    frame = start.clone().requires_grad_()
    features, answer = net(frame)
    with torch.no_grad():
        true_features, _ = net(truth)
    matching = sum((a - b).abs().mean() for a, b in zip(true_features, features, strict=True))
    (wanted,) = torch.autograd.grad(-answer.mean() + 10 * matching, frame)
    assert predicted.grad is not None and torch.allclose(predicted.grad, wanted, atol=1e-6)

    alone = F.relu(1 - net(truth)[1]).mean() + F.relu(1 + net(start)[1]).mean()
    for parameter, gradient in zip(net.parameters(), torch.autograd.grad(alone, list(net.parameters())), strict=True):
        assert parameter.grad is not None and torch.allclose(parameter.grad, gradient, atol=1e-6)
        assert parameter.requires_grad


def test_the_discriminator_teaches_no_keypoints() -> None:
    net = Discriminator(4, 16, blocks=2, spectral=False, keypoints=3)
    points = (rand(1, 3, 2) - 0.5).requires_grad_()
    frame = rand(1, 3, 32, 32).requires_grad_()
    terms = adversarial(net, frame, rand(1, 3, 32, 32, seed=2), "least_squares", points)
    torch.stack(list(terms.values())).sum().backward()
    assert points.grad is None and frame.grad is not None


def test_keypoint_prior_against_loops() -> None:
    points = rand(2, 4, 3) * 0.4
    total = 0.0
    for frame in points:
        for a, b in product(frame, repeat=2):
            total += max(0.0, 0.1 - float((a - b).square().sum())) / 2
        total += abs(float(frame[:, 2].mean()) - 0.33) / 2
    assert float(losses.keypoint_prior(points)) == pytest.approx(total, rel=1e-4)
    # Far apart, what stays is each keypoint's nearness to itself.
    far = torch.tensor([[[0.0, 0, 0.33], [1, 0, 0.33], [0, 1, 0.33]]])
    assert float(losses.keypoint_prior(far)) == pytest.approx(0.3, abs=1e-6)


def test_pose_and_expression_by_hand() -> None:
    said = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-3.0, 4.0]])
    assert float(losses.pose_error(said, torch.zeros(3, 2))) == pytest.approx((6 + 4) / 2)
    assert float(losses.expression_size(torch.tensor([[[0.1, -0.2, 0.3]], [[0.0, 0.0, -0.4]]]))) == pytest.approx(0.5)


def test_angles_come_back_from_facev2vs_rotation() -> None:
    degrees = torch.tensor([[20.0, -40.0, 0.0], [-15.0, 5.0, 30.0], [10.0, 25.0, -35.0]])  # yaw, pitch, roll
    got = losses.euler_xyz(rotation_matrix(*degrees))
    assert torch.allclose(got, degrees * 3.14 / math.pi, atol=1e-3)  # the network's degrees are a little short


def test_the_teachers_pose_turns_keypoints_as_the_head_turns(tiny: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """A point of the head, moved by F_P's rotation and by FaceV2V's from the taught angles: the same place."""
    from head3d.baselines.facev2v.training import teacher_euler
    from head3d.geometry import pose_from_euler
    from head3d.training.build.geometry import build_geometry

    pose = pose_from_euler(torch.tensor([30.0, -10.0]), torch.tensor([12.0, 20.0]), torch.tensor([-25.0, 8.0]))
    geometry = build_geometry(tiny)
    monkeypatch.setattr(geometry.pose, "forward", lambda images: pose)
    degrees = teacher_euler(geometry, torch.zeros(2, 3, 8, 8), torch.ones(2, 1, 8, 8))
    nose = torch.tensor([0.1, 0.2, -0.9])  # x right, y down, z away from the camera
    ours = pose.rotation @ nose
    theirs = rotation_matrix(*degrees) @ (nose * torch.tensor([1.0, 1.0, -1.0]))
    assert torch.allclose(ours, theirs * torch.tensor([1.0, 1.0, -1.0]), atol=2e-3)


def test_the_pyramid_sums_its_resolutions() -> None:
    from head3d.baselines.blocks import AntiAliasDownsample

    class Difference(torch.nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (a - b).abs().mean()

    pyramid = losses.PyramidLoss(Difference(), (1.0, 0.5))
    a, b = rand(2, 3, 16, 16), rand(2, 3, 16, 16, seed=1)
    half = AntiAliasDownsample(3, 0.5)
    assert float(pyramid(a, b)) == pytest.approx(
        float((a - b).abs().mean() + (half(a) - half(b)).abs().mean()), rel=1e-5
    )


def test_a_weighted_sum_leaves_out_what_has_no_weight() -> None:
    terms = {"a": torch.tensor(2.0), "b": torch.tensor(3.0), "shown": torch.tensor(5.0)}
    got = weighted_sum(terms, {"a": 10.0, "b": 0.0})
    assert float(got["loss"]) == 20
    assert set(got) == {"loss", "a", "b", "shown"}


@pytest.mark.parametrize("name", ["fomm", "mraa", "dagan"])
def test_the_l1_term_is_added_where_it_has_a_weight(name: str, tiny: Params) -> None:
    pairs = Pairs(rand(2, 3, 64, 64), rand(2, 3, 64, 64, seed=1), torch.ones(2, 1, 64, 64), torch.ones(2, 1, 64, 64))
    settings, found = getattr(tiny.baseline, name), []
    for weight in (0.0, 300.0):
        torch.manual_seed(0)
        method = make(tiny, name).train()
        objective = load_objective(name)(method, settings, lambda a, b: (a - b).square().mean(), None, weight)
        terms = objective.losses(pairs, torch.Generator().manual_seed(0))
        found.append({name: float(value.detach()) for name, value in terms.items()})
    without, beside = found
    assert "pixel" not in without
    assert set(beside) == {*without, "pixel"}
    assert beside["loss"] - without["loss"] == pytest.approx(300 * beside["pixel"], rel=1e-3)
    assert beside["pixel"] > 0.1
