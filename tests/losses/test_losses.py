"""Losses against slow or closed-form references."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from head3d.geometry import warp
from head3d.losses import PerceptualLoss, ThinPlateSpline, depth_smoothness, flow_equivariance, head_share, symmetry


def test_symmetry_is_zero_for_a_mirror_image_and_known_for_a_ramp() -> None:
    half = torch.rand(1, 3, 8, 4, generator=torch.Generator().manual_seed(0))
    assert symmetry(torch.cat((half, half.flip(-1)), dim=-1)) == 0
    ramp = torch.arange(4.0).expand(1, 3, 2, 4)  # differences 3, 1, 1, 3
    assert float(symmetry(ramp)) == pytest.approx(2.0)
    assert float(symmetry(ramp, torch.tensor([0.5]))) == pytest.approx(4.0)


def test_smoothness_of_a_slope_and_what_edges_forgive() -> None:
    depth = (torch.arange(5.0) * 0.3).expand(1, 1, 5, 5)
    flat = torch.zeros(1, 3, 5, 5)
    assert float(depth_smoothness(depth, flat)) == pytest.approx(0.3, rel=1e-5)
    edges = torch.arange(5.0).expand(1, 3, 5, 5)
    assert float(depth_smoothness(depth, edges)) == pytest.approx(0.3 * math.exp(-1), rel=1e-5)
    mask = torch.zeros(1, 1, 5, 5)
    mask[..., 2, 1:3] = 1  # one horizontal pair of pixels, no vertical one
    assert float(depth_smoothness(depth, flat, mask)) == pytest.approx(0.3 / 20, rel=1e-5)


@pytest.mark.parametrize("divided", [True, False])
def test_a_smaller_head_is_no_cheaper_once_divided_by_its_area(divided: bool) -> None:
    """A picture of a lopsided head whose size has a gradient: what symmetry pulls it to."""
    axis = torch.linspace(-1, 1, 128)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    size = torch.tensor(0.5, requires_grad=True)
    radius = torch.hypot(x, y) / size
    mask = torch.sigmoid((1 - radius) * 12)[None, None]
    image = ((0.5 + 0.4 * torch.sin(3 * x / size)) * mask).expand(1, 3, -1, -1)
    loss = symmetry(image, head_share(mask) if divided else None)
    loss.backward()
    assert size.grad is not None
    relative = float(size.grad * size.detach() / loss.detach())  # exponent with which the loss grows with the size
    assert relative == pytest.approx(0.0 if divided else 2.0, abs=0.1)


def test_a_share_is_never_zero() -> None:
    assert head_share(torch.tensor([0.5, 0.0])[:, None, None, None].expand(2, 1, 4, 4)).tolist() == [
        0.5,
        pytest.approx(0.02),
    ]


def test_smoothness_teaches_the_image_no_edges() -> None:
    depth = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    depth_smoothness(depth, image).backward()
    assert image.grad is None and depth.grad is not None and depth.grad.any()


def tiny_vgg(layers: int = 13) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    weights, inputs, index = {}, 3, 0
    for entry in (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512):
        if entry == "M":
            index += 1
            continue
        weights[f"features.{index}.weight"] = torch.randn(entry, inputs, 3, 3, generator=draw) / math.sqrt(9 * inputs)
        weights[f"features.{index}.bias"] = torch.zeros(entry)
        inputs, index = entry, index + 2
    return weights


def test_perceptual_layers_are_those_of_the_plain_network() -> None:
    from torchvision.models import vgg16

    weights = tiny_vgg()
    loss = PerceptualLoss("vgg16", weights, (1.0,))
    plain = nn.Sequential(*list(vgg16(weights=None).features.children())[:26]).eval()
    plain.load_state_dict({k.removeprefix("features."): v for k, v in weights.items()})
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    x = (image - torch.tensor((0.485, 0.456, 0.406))[:, None, None]) / torch.tensor((0.229, 0.224, 0.225))[
        :, None, None
    ]
    wanted = []
    with torch.no_grad():
        for index, layer in enumerate(plain):
            x = layer(x)
            if index in (1, 6, 11, 18, 25):  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1
                wanted.append(x.clone())
        got = loss.features(image)
    assert len(got) == 5
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_perceptual_loss_is_zero_for_the_truth_and_has_no_gradient_to_it() -> None:
    loss = PerceptualLoss("vgg16", tiny_vgg(), (1.0, 0.5))
    a = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2), requires_grad=True)
    b = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3), requires_grad=True)
    assert float(loss(a, a.detach()).detach()) == 0
    loss(a, b).backward()
    assert a.grad is not None and a.grad.abs().sum() > 0
    assert b.grad is None


def test_equivariance_is_zero_for_a_perfect_flow() -> None:
    """A reference that is a warp of the driving frame by a known flow: the true flows agree exactly."""
    size = 64
    spline = ThinPlateSpline(2, torch.Generator().manual_seed(0))
    t_flow = spline.flow(size, size)
    # f maps driving pixels to the reference by a fixed affine motion; its flow is linear, so warping it is exact.
    coordinates = torch.stack(torch.meshgrid(torch.arange(size * 1.0), torch.arange(size * 1.0), indexing="xy"))
    motion = lambda q: torch.stack((0.05 * q[:, 0] - 0.02 * q[:, 1] + 1.5, 0.03 * q[:, 0] + 0.04 * q[:, 1] - 2), dim=1)  # noqa: E731
    q = coordinates.expand(2, -1, -1, -1)
    plain = motion(q)
    moved = q + t_flow
    transformed = t_flow + motion(moved)
    assert float(flow_equivariance(plain, transformed, t_flow)) < 1e-6
    assert float(flow_equivariance(plain, plain, t_flow)) > 1e-3


def test_spline_matches_its_slow_form() -> None:
    spline = ThinPlateSpline(1, torch.Generator().manual_seed(5))
    point = torch.tensor([0.3, -0.4])
    affine = spline.theta[0, :, :2] @ point + spline.theta[0, :, 2]
    bump = 0.0
    for centre, weight in zip(spline.control, spline.weights[0], strict=True):
        r = float((point - centre).abs().sum())
        bump += float(weight) * r * r * math.log(r + 1e-6)
    assert torch.allclose(spline(point[None, None])[0, 0], affine + bump, atol=1e-5)


def test_identity_warp_changes_nothing_at_any_size() -> None:
    image = torch.rand(1, 3, 20, 28, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(warp(image, torch.zeros(1, 2, 20, 28)), image, atol=1e-5)


def test_perceptual_loss_is_the_sum_over_sizes_and_layers() -> None:
    loss = PerceptualLoss("vgg16", tiny_vgg(), (1.0, 0.5), layers=2)
    a, b = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    wanted = 0.0
    for x, y in ((a, b), (F.avg_pool2d(a, 2), F.avg_pool2d(b, 2))):
        wanted += sum(float((p - q).abs().mean()) for p, q in zip(loss.features(x), loss.features(y), strict=True))
    assert float(loss(a, b)) == pytest.approx(wanted, rel=1e-4)


def test_perceptual_gradient_is_that_of_the_plain_sum() -> None:
    loss = PerceptualLoss("vgg16", tiny_vgg(), (1.0,), layers=2)
    truth, given = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    gradients = []
    for plain in (False, True):
        image = given.clone().requires_grad_()
        if plain:
            pairs = zip(loss.features(image), loss.features(truth), strict=True)
            value = torch.stack([(a - b).abs().mean() for a, b in pairs]).sum()
        else:
            value = loss(image, truth)
        (3 * value).backward()
        gradients.append(image.grad)
    torch.testing.assert_close(*gradients)


def test_perceptual_loss_of_many_bfloat16_features_is_summed_in_float32() -> None:
    """Ten thousand ones added up in bfloat16 stop at 256."""
    loss = PerceptualLoss("vgg16", tiny_vgg(), (1.0,), layers=1)
    loss.features = lambda image: [image]  # type: ignore[method-assign]
    ones = torch.ones(1, 3, 61, 61, dtype=torch.bfloat16)
    assert float(loss(ones, 0 * ones)) == pytest.approx(1, abs=1e-6)


def test_equivariance_is_told_in_shares_of_half_the_image() -> None:
    still = torch.zeros(1, 2, 9, 17)
    moved = still.clone()
    moved[:, 0] = 4.0  # of the eight pixels that half the image has; nothing in y
    assert float(flow_equivariance(still, moved, still)) == pytest.approx(4 / 8 / 2)
    assert float(flow_equivariance(still, moved, still + 100.0)) == 0  # T leads out of the image everywhere


def test_splines_bend_as_far_as_asked_and_follow_from_the_generator() -> None:
    spline, same = (ThinPlateSpline(500, torch.Generator().manual_seed(0)) for _ in range(2))
    assert float((spline.theta - torch.eye(2, 3)).std()) == pytest.approx(0.05, rel=0.1)  # FOMM's
    assert float(spline.weights.std()) == pytest.approx(0.005, rel=0.1)
    some = same.rows(slice(3, 5))
    assert torch.equal(some.flow(8, 8), spline.flow(8, 8)[3:5])
