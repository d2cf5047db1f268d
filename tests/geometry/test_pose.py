"""Cameras, poses and their angles, PnP, and the generic head's depth, against closed form."""

import math

import pytest
import torch

from head3d.geometry import (
    Pose,
    align_flow,
    euler_from_pose,
    intrinsics,
    pnp,
    pose_from_euler,
    project,
    relative_pose,
    unproject,
    warp,
)
from head3d.geometry.head_model import generic_depth, landmark_points
from head3d.geometry.pnp import solve_pnp

K = intrinsics(128, 128, 10.0)


def some_poses(count: int = 50) -> Pose:
    draw = torch.Generator().manual_seed(3)
    angles = (torch.rand(3, count, generator=draw) * 2 - 1) * torch.tensor([40.0, 30.0, 40.0])[:, None]
    moved = (torch.rand(count, 3, generator=draw) * 2 - 1) * torch.tensor([0.02, 0.02, 0.2])
    return pose_from_euler(angles[0], angles[1], angles[2], moved)


def test_camera_of_eq_2() -> None:
    assert K[0, 0] == pytest.approx(127 / (2 * math.tan(math.radians(5))))
    assert K[:2, 2].tolist() == [63.5, 63.5]
    # The outermost pixel centres lie on the edges of the field of view.
    edge = unproject(torch.ones(1, 1, 128, 128), K).reshape(128, 128, 3)[64, 0]
    assert math.degrees(math.atan(-edge[0])) == pytest.approx(5.0, abs=1e-4)


def test_project_undoes_unproject() -> None:
    depth = 1 + 0.1 * torch.rand(2, 1, 16, 20, generator=torch.Generator().manual_seed(0))
    k = intrinsics(16, 20, 10.0)
    pixels = project(unproject(depth, k), k).reshape(2, 16, 20, 2)
    assert torch.allclose(pixels[0, 3, 7], torch.tensor([7.0, 3.0]), atol=1e-4)
    assert torch.allclose(pixels[1, 15, 19], torch.tensor([19.0, 15.0]), atol=1e-4)


def test_angles_survive_the_round_trip() -> None:
    poses = some_poses()
    back = pose_from_euler(*euler_from_pose(poses), poses.translation)
    assert torch.allclose(back.rotation, poses.rotation, atol=1e-5)
    assert torch.allclose(poses.rotation @ poses.rotation.transpose(1, 2), torch.eye(3).expand(50, 3, 3), atol=1e-5)


@pytest.mark.parametrize(
    ("angles", "axis", "sign"),
    [((20.0, 0.0, 0.0), 0, 1), ((0.0, 20.0, 0.0), 1, -1)],  # the nose goes right; the nose goes up (y points down)
)
def test_signs_of_yaw_and_pitch(angles: tuple[float, float, float], axis: int, sign: int) -> None:
    nose = torch.tensor([[[0.0, 0.0, 0.95]]])
    moved = pose_from_euler(*angles).apply(nose, 1.0)[0, 0]
    assert sign * moved[axis] == pytest.approx(0.05 * math.sin(math.radians(20)), abs=1e-6)
    assert moved[1 - axis] == pytest.approx(0, abs=1e-6)


def test_positive_roll_turns_clockwise() -> None:
    top = torch.tensor([[[0.0, -0.05, 1.0]]])
    assert pose_from_euler(0.0, 0.0, 10.0).apply(top, 1.0)[0, 0, 0] > 0.008


def test_eqs_1_and_3_and_the_centred_form_are_one_motion() -> None:
    poses = some_poses()
    points = torch.rand(50, 30, 3, generator=torch.Generator().manual_seed(1)) * 0.1 + torch.tensor(
        [-0.05, -0.05, 0.95]
    )
    centre = torch.tensor([0.0, 0.0, 1.0])
    centred = (points - centre) @ poses.rotation.transpose(1, 2) + centre + poses.translation[:, None]
    eq3 = points @ poses.rotation.transpose(1, 2) + poses.about_camera(1.0)[:, None]
    assert torch.allclose(poses.apply(points, 1.0), centred, atol=1e-6)
    assert torch.allclose(centred, eq3, atol=1e-6)
    assert torch.allclose(poses.unapply(eq3, 1.0), points, atol=1e-6)  # Eq. 1 inverts Eq. 3


def test_pnp_finds_the_pose_that_made_the_landmarks() -> None:
    poses = some_poses()
    numbers, model = landmark_points()
    landmarks = torch.zeros(50, 68, 2)
    placed = (model + torch.tensor([0.0, 0.0, 1.0])).expand(50, -1, -1)
    landmarks[:, numbers] = project(poses.apply(placed, 1.0), K)
    found, error = solve_pnp(landmarks, K, 1.0, iterations=80)
    assert error.max() < 0.02
    for ours, truth in zip(euler_from_pose(found), euler_from_pose(poses), strict=True):
        assert (ours - truth).abs().max() < 0.2
    assert torch.allclose(found.translation, poses.translation, atol=1e-3)


def test_pnp_of_a_larger_picture_is_the_same() -> None:
    """Residuals that no rigid head has count as much at any size of the image."""
    landmarks = torch.rand(5, 68, 2, generator=torch.Generator().manual_seed(0)) * 40 + 40
    large = landmarks * (511 / 127)
    (one, error), (other, large_error) = solve_pnp(landmarks, K, 1.0), solve_pnp(large, intrinsics(512, 512, 10.0), 1.0)
    assert torch.allclose(one.rotation, other.rotation, atol=1e-4)
    assert torch.allclose(one.translation, other.translation, atol=1e-4)
    assert torch.allclose(error * (511 / 127), large_error, rtol=1e-3)


def test_pnp_of_many_frames_is_that_of_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    landmarks = torch.rand(7, 68, 2, generator=torch.Generator().manual_seed(0)) * 40 + 40
    together, error = solve_pnp(landmarks, K, 1.0)
    monkeypatch.setattr(pnp, "AT_ONCE", 3)
    parts, part_error = solve_pnp(landmarks, K, 1.0)
    assert torch.allclose(parts.rotation, together.rotation, atol=1e-5)
    assert torch.allclose(parts.translation, together.translation, atol=1e-5)
    assert torch.allclose(part_error, error, atol=1e-4)


def test_pnp_of_missing_landmarks_is_nan_and_costs_nobody_else() -> None:
    landmarks = torch.rand(2, 68, 2, generator=torch.Generator().manual_seed(0)) * 40 + 40
    alone, _ = solve_pnp(landmarks[:1], K, 1.0)
    landmarks[1, 5] = torch.nan
    both, error = solve_pnp(landmarks, K, 1.0)
    assert both.rotation[1].isnan().all() and error[1].isnan()
    assert torch.allclose(both.rotation[0], alone.rotation[0], atol=1e-4)


def test_landmarks_are_mirror_symmetric() -> None:
    numbers, model = landmark_points()
    places = dict(zip(numbers, model.tolist(), strict=True))
    for left, right in ((36, 45), (31, 35), (17, 26), (48, 54)):
        assert places[left][0] == -places[right][0]
        assert places[left][1:] == places[right][1:]
    assert places[30][2] == min(p[2] for p in places.values())  # the tip of the nose is nearest to the camera


def test_generic_depth_faces_the_camera_and_turns_with_the_head() -> None:
    front = generic_depth(pose_from_euler(torch.zeros(1)), K, 128, 1.0)[0, 0]
    row, column = divmod(int(front.argmin()), 128)
    assert abs(column - 63.5) < 1 and 66 < row < 90  # the tip of the nose, below the centre
    assert torch.allclose(front, front.flip(-1), atol=1e-5)
    turned = generic_depth(pose_from_euler(25.0), K, 128, 1.0)[0, 0]
    assert int(turned.argmin()) % 128 > column + 8
    nearer = generic_depth(pose_from_euler(0.0, 0.0, 0.0, torch.tensor([[0.0, 0.0, -0.1]])), K, 128, 1.0)[0, 0]
    assert float(nearer.min()) == pytest.approx(float(front.min()) - 0.1, abs=1e-3)


def test_relative_motion_starts_at_the_subject() -> None:
    driving, subject = some_poses(5), some_poses(1)
    moved = relative_pose(driving, driving[:1], subject)
    assert torch.allclose(moved.translation[0], subject.translation[0])
    assert torch.equal(moved.rotation, driving.rotation)
    assert torch.allclose(moved.translation[3] - moved.translation[0], driving.translation[3] - driving.translation[0])


def test_alignment_brings_the_head_to_its_new_place() -> None:
    shown = pose_from_euler(0.0, 0.0, 0.0, torch.tensor([[0.02, -0.01, 0.1]]))
    wanted = pose_from_euler(0.0, 0.0, 0.0, torch.tensor([[-0.01, 0.015, -0.1]]))
    centre = torch.tensor([[[0.0, 0.0, 1.0]]])
    start, end = (project(p.apply(centre, 1.0), K)[0, 0] for p in (shown, wanted))
    flow = align_flow(shown, wanted, K, 1.0, 128)
    coordinates = torch.stack(torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="xy"))[None]
    moved = warp(coordinates, flow)
    column, row = end.round().int().tolist()
    offset = torch.tensor([column, row]) - end
    assert torch.allclose(moved[0, :, row, column], start + offset * 0.9 / 1.1, atol=1e-3)


def test_one_landmark_that_is_far_off_turns_no_head() -> None:
    truth, (numbers, model) = pose_from_euler(12.0, -6.0, 8.0), landmark_points()
    landmarks = torch.zeros(1, 68, 2)
    landmarks[:, numbers] = project(truth.apply(model[None] + torch.tensor([0.0, 0.0, 1.0]), 1.0), K)
    landmarks[0, 48] += 30  # a corner of the mouth, by a quarter of the picture
    found, _ = solve_pnp(landmarks, K, 1.0, iterations=80)
    for ours, wanted in zip(euler_from_pose(found), euler_from_pose(truth), strict=True):
        assert (ours - wanted).abs().max() < 1  # by least squares it would be several degrees
    assert torch.allclose(found.translation, truth.translation, atol=5e-3)
