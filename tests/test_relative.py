"""How one face lies on another: real faces, moved by known maps."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from head3d import relative
from head3d.assets import cache as assets
from head3d.data import video
from head3d.geometry import FaceFit, intrinsics, pixel_grid, pose_from_euler, warp
from head3d.models.depth import DepthNet
from head3d.models.head3d import Canonical, HeadGeometry
from head3d.models.pose import PoseNet
from head3d.relative import (
    FACE_M,
    FACE_MOTION,
    FURTHEST,
    HEAD_MOTION,
    INNER,
    Start,
    face_motion,
    fit_driver_face,
    landmarks,
    shown_of_driver,
)

SIZE = 192
CAMERA = (intrinsics(SIZE, SIZE, 10.0), 1.0)
AHEAD = pose_from_euler(torch.zeros(1))


@pytest.fixture(scope="module")
def face() -> torch.Tensor:
    """A real frame (1, 3, SIZE, SIZE), its face about in the middle."""
    frame = next(video.read_frames(assets.fetch("video-single"), start=30, count=1))
    height, width = frame.shape[:2]
    side, x = min(height, width), (width - min(height, width)) // 2
    square = torch.from_numpy(frame[:side, x : x + side].copy()).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(square, size=(SIZE, SIZE), mode="bilinear", antialias=True)


def moved(image: torch.Tensor, linear: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """The image whose places, from the middle, are those of ``image`` at ``linear q + shift``."""
    offset = pixel_grid(SIZE, SIZE, image) - CAMERA[0][:2, 2]
    return warp(image, (offset @ linear.T + shift - offset).permute(2, 0, 1)[None], mode="bicubic").clamp(0, 1)


def test_the_map_between_two_faces_is_found(face: torch.Tensor) -> None:
    linear, shift = torch.tensor([[1.1, 0.0], [0.0, 0.9]]), torch.tensor([6.0, -4.0])
    fit = fit_driver_face(face, moved(face, linear, shift), AHEAD, *CAMERA)
    assert fit is not None
    assert fit.pose is AHEAD
    assert torch.allclose(fit.linear, linear, atol=0.06)
    corners = torch.tensor([[-30.0, -30.0], [30.0, -30.0], [0.0, 30.0]])  # about where the face is
    assert ((corners @ fit.linear.T + fit.shift) - (corners @ linear.T + shift)).norm(dim=1).max() < 2.0


def test_the_same_face_lies_on_itself(face: torch.Tensor) -> None:
    fit = fit_driver_face(face, face, AHEAD, *CAMERA)
    assert isinstance(fit, FaceFit)
    assert torch.allclose(fit.linear, torch.eye(2), atol=1e-4) and torch.allclose(fit.shift, torch.zeros(2), atol=1e-3)


def test_no_face_and_faces_too_far_apart_are_left_to_the_poses(face: torch.Tensor) -> None:
    nothing = torch.full_like(face, 0.5)
    assert fit_driver_face(nothing, face, AHEAD, *CAMERA) is None
    assert fit_driver_face(face, nothing, AHEAD, *CAMERA) is None
    away = torch.tensor([math.ceil(1.1 * FURTHEST * SIZE), 0.0])
    assert fit_driver_face(face, moved(face, torch.eye(2), away), AHEAD, *CAMERA) is None
    assert fit_driver_face(face, moved(face, 2.0 * torch.eye(2), torch.zeros(2)), AHEAD, *CAMERA) is None


def test_a_face_turned_over_is_left_to_the_poses(face: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Landmarks that lie as in a mirror are a wrong detection: no head turns over."""
    points = landmarks(face)
    assert points is not None
    mirrored = points * (-1, 1) + (2 * points[INNER, 0].mean(), 0)  # about its own middle, or it were too far away
    monkeypatch.setattr(relative, "landmarks", lambda picture: points if picture is face else mirrored)
    assert fit_driver_face(face, face, AHEAD, *CAMERA) is not None
    assert fit_driver_face(face, face.clone(), AHEAD, *CAMERA) is None


def test_landmarks_are_asked_in_bytes(face: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values beyond [0, 1], as bicubic sampling makes them, are cut off and do not wrap around."""
    from head3d.data.follower import Follower

    seen: list[np.ndarray] = []
    monkeypatch.setattr(Follower, "see", lambda self, frame: seen.append(frame))
    assert fit_driver_face(face * 3 - 1, face, AHEAD, *CAMERA) is None
    assert seen[0].dtype == np.uint8 and seen[0].shape == (SIZE, SIZE, 3)
    assert np.array_equal(seen[0], np.round(np.clip(face[0].permute(1, 2, 0).numpy() * 3 - 1, 0, 1) * 255))


def test_what_is_far_from_the_face_moves_less() -> None:
    k, distance_m = CAMERA
    pose = pose_from_euler(torch.zeros(2))
    pose = type(pose)(pose.rotation, torch.tensor([[0.0, 0.0, 0.0], [0.01, 0.0, 1.0]]))  # the other: far, to the right
    flow = torch.full((2, 2, SIZE, SIZE), 1000.0)
    lengths = face_motion(flow, pose, k, distance_m).norm(dim=1)
    near, far = lengths.amax(dim=(1, 2)), lengths.amin(dim=(1, 2))
    assert torch.allclose(near, torch.tensor(FACE_MOTION * SIZE), rtol=0.01)
    assert torch.allclose(far, torch.tensor(HEAD_MOTION * SIZE), rtol=0.01)
    face = (lengths > (near + far)[:, None, None] / 2).float()
    radius = (face.sum(dim=(1, 2)) / math.pi).sqrt()
    assert torch.allclose(radius, FACE_M * k[0, 0] / torch.tensor([1.0, 2.0]) * math.log(2) ** 0.25, rtol=0.02)
    x = (face.sum(dim=1) @ torch.arange(float(SIZE))) / face.sum(dim=(1, 2))
    assert torch.allclose(x, k[0, 2] + k[0, 0] * torch.tensor([0.0, 0.005]), atol=0.5)
    small = torch.full((2, 2, SIZE, SIZE), 0.5)
    assert torch.allclose(face_motion(small, pose, k, distance_m), small, atol=0.01)


def test_the_drivers_first_frame_is_carried_to_the_driving_pose_as_a_stiff_head() -> None:
    geometry, mask = HeadGeometry(DepthNet(0.25, 0.1), PoseNet("resnet18", 64)), torch.zeros(1, 1, 64, 64)
    mask[..., 22:42, 22:42] = 1
    frame = 0.2 + 0.6 * mask * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    shown, head = torch.full_like(frame, 0.9), Canonical(mask.expand(-1, 3, -1, -1), mask, torch.ones_like(mask))
    k, given = geometry.k(mask), []
    ahead, moved = (pose_from_euler(translation=torch.tensor([[x / float(k[0, 0]), 0.0, 0.0]])) for x in (0.0, 8.0))

    def flow(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        given.append((source, target))
        return torch.full((1, 2, 64, 64), 4.0)

    matcher: Any = SimpleNamespace(flow=flow)
    made, motion = shown_of_driver(
        matcher, geometry, Start(frame, ahead), head, geometry.render(head, moved), shown, moved
    )
    ((still, target),) = given
    assert target is shown
    assert torch.allclose(still[..., 24:40, 32:48], frame[..., 24:40, 24:40], atol=0.02)
    assert torch.allclose(still[..., :20], shown[..., :20]), "what moves behind the driver is left out"
    assert (still - shown)[..., 30, 51].abs().min() > 0.1, "a soft edge around the head belongs to it"
    assert torch.equal(motion, face_motion(torch.full((1, 2, 64, 64), 4.0), moved, k, 1.0))
    assert torch.equal(made, warp(still, motion))
