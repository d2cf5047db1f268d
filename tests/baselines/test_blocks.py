"""Shared blocks and functions against slow, obvious references."""

from __future__ import annotations

import math
from typing import TypeVar

import pytest
import torch
import torch.nn.functional as F
from fill import fill
from torch import Tensor, nn

from head3d.baselines import keypoints as kp
from head3d.baselines.blocks import (
    AntiAliasDownsample,
    ConvNorm,
    Decoder,
    Down,
    Encoder,
    Hourglass,
    Residual,
    Up,
    convolution,
)
from head3d.baselines.discriminator import TABLE, Discriminator, PatchDown
from head3d.baselines.official import to_official

M = TypeVar("M", bound=nn.Module)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def alive(module: M) -> M:
    """A network whose normalisations do something, in evaluation mode."""
    state = module.state_dict()
    module.load_state_dict({k: v if k.endswith("kernel") else fill(k, tuple(v.shape)) for k, v in state.items()})
    return module.eval()


@pytest.mark.parametrize(("scale", "sigma", "side"), [(0.5, 0.5, 5), (0.25, 1.5, 13), (0.125, 3.5, 29)])
def test_downsampling_is_a_gaussian_blur_of_every_nth_pixel(scale: float, sigma: float, side: int) -> None:
    shrink = AntiAliasDownsample(2, scale)
    assert shrink.kernel.shape == (2, 1, side, side)
    middle, step = side // 2, round(1 / scale)
    weights = [
        [math.exp(-((i - middle) ** 2 + (j - middle) ** 2) / (2 * sigma**2)) for j in range(side)] for i in range(side)
    ]
    total = sum(map(sum, weights))
    image = torch.rand(1, 2, 13, 18)
    small = shrink(image)
    assert small.shape[-2:] == (math.ceil(13 / step), math.ceil(18 / step))
    for y, x in ((0, 0), (1, 1), (small.shape[2] - 1, small.shape[3] - 1)):
        expected = 0.0
        for i in range(side):
            for j in range(side):
                v, u = y * step + i - middle, x * step + j - middle
                if 0 <= v < 13 and 0 <= u < 18:
                    expected += weights[i][j] / total * float(image[0, 1, v, u])
        assert float(small[0, 1, y, x]) == pytest.approx(expected, abs=1e-6)


def normalised(norm: nn.BatchNorm2d | nn.BatchNorm3d, x: Tensor) -> Tensor:
    mean, var, weight, bias = (
        v[:, None, None] for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias) if v is not None
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def test_blocks_do_their_steps_in_the_official_order() -> None:
    x = torch.randn(2, 3, 6, 8)
    with torch.no_grad():
        block = alive(ConvNorm(3, 4, 7, slope=0.01))
        expected = normalised(block.norm, F.conv2d(x, block.conv.weight, block.conv.bias, padding=3))
        assert torch.allclose(block(x), expected.where(expected > 0, expected * 0.01), atol=1e-5)

        block = alive(Down(3, 4))
        expected = normalised(block.norm, F.conv2d(x, block.conv.weight, block.conv.bias, padding=1)).clamp(min=0)
        expected = torch.stack([expected[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).mean(dim=0)
        assert torch.allclose(block(x), expected, atol=1e-5)

        block = alive(Up(3, 4))
        big = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        expected = normalised(block.norm, F.conv2d(big, block.conv.weight, block.conv.bias, padding=1)).clamp(min=0)
        assert torch.allclose(block(x), expected, atol=1e-5)

        block = alive(Residual(3))
        out = F.conv2d(normalised(block.norm1, x).clamp(min=0), block.conv1.weight, block.conv1.bias, padding=1)
        out = F.conv2d(normalised(block.norm2, out).clamp(min=0), block.conv2.weight, block.conv2.bias, padding=1)
        assert torch.allclose(block(x), x + out, atol=1e-5)


def test_hourglass_widens_and_keeps_its_input() -> None:
    net = Hourglass(3, 8, 3, 24).eval()
    sizes = [tuple(w.shape[:2]) for name, w in net.named_parameters() if name.endswith("conv.weight")]
    assert sizes == [(16, 3), (24, 16), (24, 24), (24, 24), (16, 48), (8, 32)]
    x = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        out = net(x)
    assert net.channels == 11
    assert out.shape == (2, 11, 16, 24)
    assert torch.equal(out[:, 8:], x)


def test_encoder_and_decoder_make_an_hourglass() -> None:
    encoder, decoder = Encoder(3, 8, 2, 64).eval(), Decoder(3, 8, 2, 64).eval()
    features = encoder(torch.rand(1, 3, 8, 8))
    assert [tuple(f.shape[1:]) for f in features] == [(3, 8, 8), (16, 4, 4), (32, 2, 2)]
    assert decoder(features).shape == (1, 11, 8, 8)
    assert len(features) == 3  # the decoder takes nothing away from the caller


def test_blocks_over_volumes_keep_their_depth() -> None:
    x = torch.rand(1, 3, 5, 8, 8)
    assert Down(3, 4, dims=3)(x).shape == (1, 4, 5, 4, 4)
    assert Up(3, 4, dims=3)(x).shape == (1, 4, 5, 16, 16)
    assert Residual(3, dims=3)(x).shape == x.shape
    assert Hourglass(3, 4, 2, 64, dims=3)(x).shape == (1, 7, 5, 8, 8)


def test_grid_reaches_the_corners() -> None:
    grid = kp.coordinate_grid(3, 5, torch.zeros(1))
    assert grid[0, 0].tolist() == [-1, -1]
    assert grid[2, 4].tolist() == [1, 1]
    assert grid[1, 3].tolist() == [0.5, 0]


def random_matrices(*shape: int) -> Tensor:
    return torch.eye(2) + 0.3 * torch.randn(*shape, 2, 2)


def test_heatmaps_are_gaussians() -> None:
    mean, spread = torch.rand(1, 2, 2) - 0.5, random_matrices(1, 2)
    spread = spread @ spread.mT * 0.1
    plain, full = kp.gaussian_heatmaps(mean, 4, 5), kp.gaussian_heatmaps(mean, 4, 5, spread)
    for k in range(2):
        for i in range(4):
            for j in range(5):
                away = torch.tensor([2 * j / 4 - 1, 2 * i / 3 - 1]) - mean[0, k]
                near = float(away @ away) / 0.01
                assert float(plain[0, k, i, j]) == pytest.approx(math.exp(-near / 2), rel=1e-3, abs=1e-7)
                far = float(away @ spread[0, k].inverse() @ away)
                assert float(full[0, k, i, j]) == pytest.approx(math.exp(-far / 2), rel=1e-3, abs=1e-7)


def test_mean_and_covariance_of_heatmaps() -> None:
    heatmaps = kp.spatial_softmax(torch.randn(2, 3, 5, 7), 0.5)
    assert torch.allclose(heatmaps.sum(dim=(2, 3)), torch.ones(2, 3))
    mean = kp.expected_position(heatmaps)
    covar = kp.covariance(heatmaps, mean)
    middle, spread = torch.zeros(2), torch.zeros(2, 2)
    points = [(torch.tensor([2 * j / 6 - 1, 2 * i / 4 - 1]), heatmaps[1, 2, i, j]) for i in range(5) for j in range(7)]
    for point, share in points:
        middle = middle + share * point
    for point, share in points:
        spread = spread + share * torch.outer(point - middle, point - middle)
    assert torch.allclose(mean[1, 2], middle, atol=1e-6)
    assert torch.allclose(covar[1, 2], spread, atol=1e-6)


def test_sparse_motions() -> None:
    source, driving, local = torch.rand(2, 3, 2), torch.rand(2, 3, 2), random_matrices(2, 3)
    background = torch.eye(3) + 0.1 * torch.randn(2, 3, 3)
    motions = kp.sparse_motions(source, driving, 4, 5, local, background)
    assert motions.shape == (2, 4, 4, 5, 2)
    for i, j, k in ((0, 0, 0), (3, 1, 2), (2, 4, 1)):
        z = torch.tensor([2 * j / 4 - 1, 2 * i / 3 - 1])
        expected = local[1, k] @ (z - driving[1, k]) + source[1, k]
        assert torch.allclose(motions[1, k + 1, i, j], expected, atol=1e-6)
        x, y, w = background[1] @ torch.tensor([*z.tolist(), 1.0])
        assert torch.allclose(motions[1, 0, i, j], torch.stack((x / w, y / w)), atol=1e-6)
    still = kp.sparse_motions(source, source, 4, 5)
    assert torch.allclose(still, kp.coordinate_grid(4, 5, source).expand_as(still), atol=1e-6)


def test_sampling_at_the_grid_is_the_identity_only_with_align_corners() -> None:
    image = torch.rand(1, 2, 6, 5)
    grid = kp.coordinate_grid(6, 5, image)[None]
    assert torch.allclose(kp.sample(image, grid, align_corners=True), image, atol=1e-6)
    assert not torch.allclose(kp.sample(image, grid, align_corners=False), image, atol=1e-2)


def test_a_motion_is_resized_to_the_features() -> None:
    grid = torch.rand(1, 4, 4, 2)
    resized = kp.resize_motion(grid, 8, 8)
    # Pixel 1 of 8 is a quarter of the way from pixel 0 to pixel 1 of 4.
    assert torch.allclose(resized[0, 0, 1], 0.75 * grid[0, 0, 0] + 0.25 * grid[0, 0, 1], atol=1e-6)
    image = torch.rand(1, 3, 8, 8)
    assert torch.allclose(kp.warp_by(image, grid, False), kp.sample(image, resized, False))
    assert kp.resize_motion(grid, 4, 4) is grid


def test_movement_scale_is_the_ratio_of_sizes() -> None:
    for dims, ratio in ((2, 2.0), (3, 2.0**1.5)):  # square roots of an area and of a volume
        points = torch.rand(10, dims)
        assert kp.movement_scale(points * 2, points) == pytest.approx(ratio, rel=1e-4)
    line = torch.arange(10.0)[:, None].expand(10, 2)
    assert kp.movement_scale(torch.rand(10, 2), line) == 1


def test_geometry_stays_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        heatmaps = kp.spatial_softmax(torch.randn(1, 2, 5, 5).bfloat16(), 0.1)
        motions = kp.sparse_motions(torch.rand(1, 2, 2).bfloat16(), torch.rand(1, 2, 2), 4, 4, random_matrices(1, 2))
        jacobian = kp.relative_jacobian(random_matrices(1, 2), random_matrices(3, 2), random_matrices(1, 2))
    assert {heatmaps.dtype, motions.dtype, jacobian.dtype} == {torch.float32}


def test_discriminator_has_the_official_tensors() -> None:
    net = Discriminator()
    assert sum(p.numel() for p in net.parameters()) == 2_758_849
    names = to_official((f"discriminator.{name}" for name in net.state_dict()), TABLE)
    convolutions = [f"down_blocks.{i}.conv" for i in range(4)] + ["conv"]
    wanted = [f"{c}.{leaf}" for c in convolutions for leaf in ("bias", "weight_orig", "weight_u", "weight_v")]
    wanted += [f"down_blocks.{i}.norm.{leaf}" for i in (1, 2, 3) for leaf in ("weight", "bias")]
    assert sorted(names) == sorted(f"discriminator.discs.1.{name}" for name in wanted)


def test_a_block_of_the_discriminator_keeps_a_fifth_of_what_is_below_zero() -> None:
    block = PatchDown(1, 2, normalise=False, pool=True, spectral=False)
    block.conv.load_state_dict({"weight": torch.zeros(2, 1, 4, 4), "bias": torch.tensor([-1.0, 2.0])})
    assert block(torch.rand(1, 1, 9, 9)).mean(dim=(2, 3)).tolist() == [pytest.approx([-0.2, 2.0])]


def test_discriminator_answers_patch_by_patch() -> None:
    net = Discriminator(width=4, keypoints=5, spectral=False)
    features, answers = net(torch.rand(2, 3, 128, 128), torch.rand(2, 5, 2))
    assert [tuple(f.shape[1:]) for f in features] == [(8, 62, 62), (16, 29, 29), (32, 13, 13), (64, 10, 10)]
    assert answers.shape == (2, 1, 10, 10)
    assert sum(p.numel() for p in Discriminator(spectral=False, keypoints=15).parameters()) == 2_774_209


@pytest.mark.parametrize(
    ("kernel", "size"), [(3, (2, 4, 4)), (7, (5, 16, 16)), (7, (8, 2, 2)), (7, (7, 16, 16)), (3, (4, 2, 2))]
)
def test_volumes_shorter_than_the_kernel_learn_right_in_bfloat16(kernel: int, size: tuple[int, ...]) -> None:
    """Gradients under autocast against float64's: a library's kernel gives wrong ones of the weights for the first."""
    conv = convolution(20, 5, kernel, kernel // 2, dims=3)
    x = torch.randn(3, 20, *size, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = conv(x)
    towards = torch.randn(y.shape)
    got = torch.autograd.grad(y.float(), (x, conv.weight), towards)
    wanted = torch.autograd.grad(conv.double()(x.double()), (x, conv.weight), towards.double())
    for one, other in zip(got, wanted, strict=True):
        assert float((one - other).norm()) < 0.03 * float(other.norm())
