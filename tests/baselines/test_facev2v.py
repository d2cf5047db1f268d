"""FaceV2V against the unofficial code's answers, and its shortcuts against what they stand for."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from fill import golden, official_shapes, official_states
from scipy.spatial.transform import Rotation
from torch import Tensor

from head3d.baselines import build
from head3d.baselines.facev2v import blocks3d
from head3d.baselines.facev2v.generator import VolumeMotion
from head3d.baselines.facev2v.head import Head, expected_degrees, rotation_matrix, transform_keypoints
from head3d.baselines.facev2v.method import FaceV2V
from head3d.baselines.inference import for_inference
from head3d.baselines.keypoints import Keypoints, relative_keypoints
from head3d.compute import cpu_gains_by_bfloat16
from head3d.errors import UserError

NETWORKS = ("generator", "kp_detector", "he_estimator")
SMALL = {
    "keypoints": 5, "depth": 4, "detector_width": 4, "detector_most": 16, "detector_lifted": 8, "detector_levels": 4,
    "head_width": 8, "head_most": 64, "width": 8, "most": 32, "volume": 4, "residuals": 1, "motion_width": 4,
    "motion_most": 16, "motion_levels": 4,
}  # fmt: skip


def small(image_size: int = 64, **settings: object) -> FaceV2V:
    method = build("facev2v", image_size, **{**SMALL, **settings})
    assert isinstance(method, FaceV2V)
    return method.load_official(official_states(method))


def frames(count: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


@torch.inference_mode()
def test_answers_are_the_official_ones() -> None:
    method = build("facev2v", 128)
    method.load_official(official_states(method))
    source, driving, answers = golden("facev2v")
    ours = method.forward_pair(source, driving)
    assert len(answers) == 10
    for name, value in answers.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    driven = method.drive(method.prepare(source), driving)
    torch.testing.assert_close(driven, answers["prediction"], rtol=0, atol=1e-5)


@pytest.mark.skipif(not cpu_gains_by_bfloat16(), reason="bfloat16 is slow on this processor: five minutes")
@torch.inference_mode()
def test_bfloat16_answers_are_nearly_the_official_ones() -> None:
    method = build("facev2v", 128)
    method.load_official(official_states(method))
    source, driving, answers = golden("facev2v")
    fast = for_inference(method, torch.bfloat16)
    driven = fast.drive(fast.prepare(source), driving)
    torch.testing.assert_close(driven, answers["prediction"], rtol=0, atol=1e-2)


def test_names_and_shapes_are_the_official_ones() -> None:
    with torch.device("meta"):
        state = build("facev2v", 128).state_dict()
    official = {f"{n}.{k}": s for n in NETWORKS for k, s in official_shapes(f"facev2v_{n}").items()}
    ours = {name: tuple(value.shape) for name, value in state.items()}
    assert dict(zip(FaceV2V.to_official(ours), ours.values(), strict=True)) == official
    assert dict(zip(FaceV2V.from_official(official), official.values(), strict=True)) == ours


def test_official_yaw_and_roll_cross_over() -> None:
    assert FaceV2V.from_official(["he_estimator.fc_roll.weight", "he_estimator.fc_yaw.weight"]) == [
        "he_estimator.yaw.weight",
        "he_estimator.roll.weight",
    ]


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (128, 64)])
@torch.inference_mode()
def test_frames_of_a_batch_do_not_influence_each_other(size: tuple[int, int]) -> None:
    method, (source, *driving) = small(), frames(4, *size)
    state = method.prepare(source[None])
    together = method.drive(state, torch.stack(driving))
    pairs = method.forward_pair(torch.stack((source, driving[1])), torch.stack(driving[:2]))
    assert together.shape == (3, 3, *size)
    assert pairs["mask"].sum(dim=1).sub(1).abs().max() < 1e-5
    for index, frame in enumerate(driving):
        torch.testing.assert_close(method.drive(state, frame[None])[0], together[index], rtol=0, atol=1e-5)
    torch.testing.assert_close(pairs["prediction"][0], together[0], rtol=0, atol=1e-5)
    alone = method.forward_pair(driving[1][None], driving[1][None])
    torch.testing.assert_close(pairs["prediction"][1], alone["prediction"][0], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_relative_motion_starts_at_the_source() -> None:
    method, (source, *rest) = small(), frames(4)
    driving = torch.stack(rest)
    state = method.prepare(torch.stack((driving[0], source)), frame=1)
    still = method.drive(state, source[None])
    torch.testing.assert_close(method.drive(state, driving, "relative")[:1], still, rtol=0, atol=1e-5)
    later = method.drive(state, driving[1:], "relative", first=driving[0])
    torch.testing.assert_close(later, method.drive(state, driving, "relative")[1:], rtol=0, atol=1e-5)
    assert (later - method.drive(state, driving[1:])).abs().max() > 1e-4
    small_head = Keypoints(normal(1, 5, 3))
    moved = relative_keypoints(small_head, Keypoints(normal(2, 5, 3, seed=1)), Keypoints(small_head.value / 4), True)
    expected = (normal(2, 5, 3, seed=1) - small_head.value / 4) * math.sqrt(64) + small_head.value  # volumes: 4 ** 3
    torch.testing.assert_close(moved.value, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_align_corners_changes_the_sampling_only() -> None:
    source, driving = frames(1), frames(1, seed=1)
    outer, inner = (small(align_corners=a).forward_pair(source, driving) for a in (False, True))
    assert torch.equal(outer["kp_driving"], inner["kp_driving"])
    assert (outer["prediction"] - inner["prediction"]).abs().max() > 1e-4


def head(count: int, keypoints: int = 5) -> Head:
    yaw, pitch, roll = (normal(count, 66, seed=i, scale=3) for i in range(3))
    return Head(yaw, pitch, roll, normal(count, 3, seed=3), normal(count, keypoints, 3, seed=4))


def test_keypoints_turn_move_and_deform() -> None:
    canonical, pose = normal(1, 5, 3, seed=9), head(4)
    for _ in range(2):  # official code changes the pose that it is given, and fails when given it again
        points = transform_keypoints(canonical, pose)
        for b in range(4):
            yaw, pitch, roll = (
                sum(p * (3 * i - 99) for i, p in enumerate(logits[b].softmax(0).tolist()))
                for logits in (pose.yaw, pose.pitch, pose.roll)
            )
            turn = Rotation.from_euler("XYZ", [a / 180 * 3.14 for a in (pitch, yaw, roll)])
            for k in range(5):
                expected = torch.from_numpy(turn.apply(canonical[0, k].double().numpy()))
                expected = expected + pose.translation[b] + pose.expression[b, k]
                torch.testing.assert_close(points[b, k].double(), expected, rtol=0, atol=1e-5)
    assert pose.translation.shape == (4, 3)


def test_angles_are_in_degrees() -> None:
    logits = torch.full((1, 66), -50.0)
    logits[0, 40] = 50
    assert float(expected_degrees(logits)) == pytest.approx(21)
    turn = rotation_matrix(*(torch.tensor([a]) for a in (90.0, 0.0, 0.0)))
    torch.testing.assert_close(turn[0] @ torch.tensor([0.0, 0, 1]), torch.tensor([1.0, 0, 0]), rtol=0, atol=1e-3)


def test_volumes_have_x_along_their_width() -> None:
    grid = blocks3d.coordinate_volume(3, 4, 5, torch.zeros(0))
    assert grid[0, 0, 4].tolist() == [1, -1, -1]
    assert grid[0, 3, 0].tolist() == [-1, 1, -1]
    assert grid[2, 0, 0].tolist() == [-1, -1, 1]
    heatmaps = normal(2, 5, 3 * 4 * 5).softmax(dim=-1).view(2, 5, 3, 4, 5)
    expected = (heatmaps[..., None] * grid).sum(dim=(2, 3, 4))
    torch.testing.assert_close(blocks3d.expected_position(heatmaps), expected, rtol=0, atol=1e-6)
    points = normal(2, 5, 3, scale=0.3)
    away = grid - points[:, :, None, None, None]
    expected = torch.exp(-0.5 * (away**2).sum(dim=-1) / 0.01)
    torch.testing.assert_close(blocks3d.gaussian_volumes(points, 3, 4, 5), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(4, 8, 8), (16, 32, 32), (5, 6, 9)])
def test_shifted_volumes_are_sampled_ones(align_corners: bool, size: tuple[int, int, int]) -> None:
    volume, shifts = normal(2, 3, *size), normal(2, 4, 3, seed=1, scale=0.6)
    shifts[0, 0] = 0
    moved = blocks3d.shifted(volume, shifts, align_corners)
    for k in range(4):
        grid = blocks3d.coordinate_volume(*size, volume) + shifts[:, k, None, None, None]
        expected = F.grid_sample(volume, grid, "bilinear", "zeros", align_corners=align_corners)
        torch.testing.assert_close(moved[:, k], expected, rtol=0, atol=1e-5)
    one = blocks3d.shifted(volume[:1], shifts, align_corners)  # one volume for several items
    torch.testing.assert_close(one[0], moved[0])


@pytest.mark.parametrize("align_corners", [False, True])
def test_gradients_of_shifts_are_those_of_sampling(align_corners: bool) -> None:
    volume, shifts = normal(1, 3, 4, 8, 8).requires_grad_(), normal(1, 2, 3, seed=1, scale=0.3).requires_grad_()
    weights = normal(1, 2, 3, 4, 8, 8, seed=2)
    ours = torch.autograd.grad((blocks3d.shifted(volume, shifts, align_corners) * weights).sum(), (volume, shifts))
    grids = blocks3d.coordinate_volume(4, 8, 8, volume) + shifts[0, :, None, None, None]
    sampled = F.grid_sample(volume.expand(2, -1, -1, -1, -1), grids, align_corners=align_corners)
    theirs = torch.autograd.grad((sampled[None] * weights).sum(), (volume, shifts))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_motion_is_the_mean_of_every_keypoints_motion() -> None:
    torch.manual_seed(0)
    network = VolumeMotion(3, 4, depth=4, width=4, most=16, levels=2).eval()
    volume = network.compress(normal(2, 4, 4, 8, 8))
    source, driving = normal(2, 3, 3, scale=0.3), normal(2, 3, 3, seed=1, scale=0.3)
    deformation, occlusion, mask = network(volume, source, driving)
    grid = blocks3d.coordinate_volume(4, 8, 8, volume)
    expected = mask[:, 0, ..., None] * grid
    for k in range(3):
        moved = grid - driving[:, k, None, None, None] + source[:, k, None, None, None]
        expected = expected + mask[:, k + 1, ..., None] * moved
    torch.testing.assert_close(deformation, expected, rtol=0, atol=1e-6)
    assert occlusion.shape == (2, 1, 8, 8)


def test_every_weight_learns() -> None:
    method = small().train()
    answer = method.forward_pair(frames(2), frames(2, seed=1))
    answer["prediction"].mean().backward()
    assert [name for name, p in method.named_parameters() if p.grad is None] == []


def test_errors_are_one_line() -> None:
    method = small()
    states = official_states(method)
    del states["he_estimator"]["fc_t.bias"]
    with pytest.raises(UserError, match=r"1 missing \(he_estimator.fc_t.bias\)") as error:
        method.load_official(states)
    assert "\n" not in str(error.value)
    states["he_estimator"]["fc_t.bias"] = torch.zeros(7)
    with pytest.raises(UserError, match="1 of another shape") as error:
        method.load_official(states)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="multiples of 64"):
        method.prepare(frames(1, 48, 48))
    with pytest.raises(UserError, match="multiples of 64"):
        method.forward_pair(frames(1, 48, 48), frames(1, 48, 48))
    with pytest.raises(UserError, match="multiples of 128"):
        build("facev2v", 64)
    with pytest.raises(UserError, match="motion is 'free'"):
        method.drive(method.prepare(frames(1)), frames(1), "free")
