"""Measures of motion, on landmarks of heads at known poses with known expressions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from head3d.evaluation import measures
from head3d.evaluation.observe import DISTANCE_M, Observed, camera, located
from head3d.geometry import Pose, pose_from_euler, project
from head3d.geometry.head_model import landmark_points

FRAMES = 9
EYES_CM = 10.62  # distance of the outer corners of the eyes on the generic head, in its own units


def head(
    yaw: np.ndarray | float = 0.0,
    pitch: np.ndarray | float = 0.0,
    roll: np.ndarray | float = 0.0,
    mouth: np.ndarray | float = 0.0,
    size: float = 1.0,
) -> Observed:
    """The generic head at angles in degrees; the mouth open by so many percent of the eyes' distance."""
    numbers, model = landmark_points()
    points = torch.zeros(FRAMES, 68, 3)
    depth = measures.canonical_depth().float()
    points[:, :, 2] = torch.where(depth.isnan(), torch.zeros(()), depth)
    points[:, numbers] = model
    eyes = float((model[numbers.index(36)] - model[numbers.index(45)]).norm())
    lips = list(range(55, 60))
    points[:, 48:68, 1] = model[numbers.index(48), 1]
    points[:, lips, 1] += torch.as_tensor(mouth).float().reshape(-1, 1) / 100 * eyes
    points[:, :, 2] += DISTANCE_M  # canonical space begins at the camera
    angles = [torch.as_tensor(angle).float().reshape(-1).expand(FRAMES) for angle in (yaw, pitch, roll)]
    pose = pose_from_euler(*angles)
    seen = project(pose.apply(points, DISTANCE_M).double(), camera().double()).numpy() * size
    identity = np.tile(np.eye(1, 192, dtype=np.float32), (FRAMES, 1))
    return located(seen.astype(np.float32), identity)


def lost(seen: Observed, frames: list[int]) -> Observed:
    """The same video with no face in some frames."""
    landmarks, identity = seen.landmarks.copy(), seen.identity.copy()
    landmarks[frames] = identity[frames] = np.nan
    return located(landmarks, identity)


def ramp(to: float) -> np.ndarray:
    return np.linspace(0, to, FRAMES)


def glide(to: float) -> np.ndarray:
    """A ramp that rests for a frame at both ends, so that smoothing takes nothing from its mean."""
    return np.concatenate(([0], np.linspace(0, to, FRAMES - 2), [to]))


def test_a_video_against_itself() -> None:
    video = head(yaw=ramp(20), pitch=ramp(-8), roll=ramp(5), mouth=ramp(12))
    found = measures.motion_measures(video, video, measures.mean_person(video))
    for name in (*measures.ANGLES, *measures.ABSOLUTE, measures.EXPRESSION, measures.NO_FACE):
        assert found[name] == 0, name
    assert found[measures.IDENTITY] == pytest.approx(1)
    assert set(found) == set(measures.OF_MOTION)


@pytest.mark.parametrize(("angle", "place"), [("yaw", 0), ("pitch", 1), ("roll", 2)])
def test_a_head_that_turns_by_a_known_angle(angle: str, place: int) -> None:
    """A still video is off by all that the driver turns: a glide to 16 degrees has the mean 8."""
    turned = {"yaw": head(yaw=glide(16)), "pitch": head(pitch=glide(16)), "roll": head(roll=glide(16))}[angle]
    for absolute in (False, True):
        errors = measures.pose_errors(head(), turned, absolute)
        assert errors[place] == pytest.approx(8, abs=0.4)
        assert all(error < 0.5 for number, error in enumerate(errors) if number != place)


def test_the_first_pose_is_everybodys_own() -> None:
    result, driving = head(yaw=10 + ramp(16)), head(yaw=ramp(16) - 5)
    assert measures.pose_errors(result, driving)[0] < 0.5
    assert measures.pose_errors(result, driving, absolute=True)[0] == pytest.approx(15, abs=0.5)


def test_angles_do_not_depend_on_the_frames_size() -> None:
    small, large = head(yaw=ramp(16)), head(yaw=ramp(16), size=5)
    assert measures.pose_errors(large, small)[0] < 1e-3
    assert measures.expression_error(large, small) < 1e-2
    assert measures.jitter(large) == pytest.approx(measures.jitter(small), abs=1e-3)


def test_expression_error_of_a_still_video_is_all_that_the_driver_moves() -> None:
    """Five of 42 landmarks go down by 8 % after the second frame: smoothed, 0, 2, 6, 8, 8, ..."""
    opened = np.where(np.arange(FRAMES) > 1, 8.0, 0.0)
    wanted = np.sqrt(5 / 42 * (2**2 + 6**2 + 8**2 * (FRAMES - 3)) / FRAMES)
    assert measures.expression_error(head(), head(mouth=opened)) == pytest.approx(wanted, rel=0.02)
    # Measured from each video's mean it would be nearly nothing.
    changes = measures.changes(head(mouth=opened))
    assert np.sqrt(((changes - changes.mean(0)) ** 2).sum(-1).mean()) < wanted / 2


def test_expression_error_sees_half_a_motion_and_no_pose() -> None:
    whole, half = head(mouth=ramp(10)), head(mouth=ramp(5))
    still = measures.expression_error(head(), whole)
    assert measures.expression_error(half, whole) == pytest.approx(still / 2, rel=0.02)
    turned = head(yaw=ramp(15), pitch=ramp(6), roll=ramp(-10), mouth=ramp(10))
    assert measures.expression_error(turned, whole) < 0.1 * still


def test_frames_without_a_face_are_left_out_and_counted() -> None:
    driving = head(yaw=ramp(16))
    holes = lost(head(), [0, 1, 2, 3])
    assert measures.no_face(holes) == pytest.approx(4 / 9)
    # Counted from frame 4 on: 0, 2, ..., 8 degrees.
    assert measures.pose_errors(holes, driving)[0] == pytest.approx(4, abs=0.3)
    nothing = lost(head(), list(range(FRAMES)))
    found = measures.motion_measures(nothing, driving, measures.mean_person(driving))
    assert found.pop(measures.NO_FACE) == 1
    assert all(value != value for value in found.values())
    assert np.isnan(measures.mean_person(nothing)).all()


@pytest.mark.parametrize("gone", [[0], [3, 6], [0, 2, 4, 6]])
def test_a_face_that_is_missed_in_one_video_alone_is_no_error(gone: list[int]) -> None:
    video = head(yaw=ramp(16), mouth=ramp(12))
    assert measures.expression_error(lost(video, gone), video) < 1e-3
    assert measures.expression_error(video, lost(video, gone)) < 1e-3
    assert max(measures.pose_errors(lost(video, gone), video)) < 1e-3


def test_identity_is_the_mean_cosine() -> None:
    video = head()
    vectors = np.zeros((FRAMES, 192), np.float32)
    vectors[:, 0], vectors[:, 1] = 0.6, 0.8
    other = replace(video, identity=vectors)
    assert measures.identity(other, measures.mean_person(video)) == pytest.approx(0.6)
    assert measures.identity(other, measures.mean_person(other)) == pytest.approx(1)


def test_a_tremble_is_halved_in_what_moves_and_whole_in_jitter() -> None:
    """Every third frame is off by 8: smoothed, by 4 and by 2 beside it; the change of the speed is -16, 8 and 8."""
    trembling = head(mouth=np.where(np.arange(FRAMES) % 3 == 1, 8.0, 0.0))
    moved = measures.changes(trembling) - measures.changes(head())
    assert np.abs(moved).max() == pytest.approx(4, rel=0.05)
    raw = trembling.landmarks - head().landmarks
    assert np.abs(raw[:-2] - 2 * raw[1:-1] + raw[2:]).max() == pytest.approx(2 * np.abs(raw).max())


def test_jitter_of_a_tremble_by_hand() -> None:
    """Landmarks that jump 1 pixel up and down: every second difference is 2 pixels."""
    video = head()
    points = np.tile(video.landmarks[:1], (FRAMES, 1, 1))
    eyes = np.linalg.norm(points[0, 36] - points[0, 45])
    shaken = points.copy()
    shaken[:, :, 1] += np.where(np.arange(FRAMES) % 2, 0.5, -0.5)[:, None]
    assert measures.jitter(replace(video, landmarks=shaken)) == pytest.approx(200 / eyes)
    assert measures.jitter(replace(video, landmarks=points)) == 0
    moving = points + np.arange(FRAMES, dtype=np.float32)[:, None, None]
    assert measures.jitter(replace(video, landmarks=moving)) == pytest.approx(0, abs=1e-3)  # steady motion is none
    assert np.isnan(measures.jitter(lost(video, [1, 4, 7])))


def test_ghosts_by_hand() -> None:
    rendered = np.zeros((2, 128, 128), np.uint8)
    rendered[:, 40:80, 40:80] = 255
    heads = rendered.copy()
    heads[0, 38:82, 40:80] = 255  # two pixels over: within the slack
    assert measures.ghosts(heads, rendered) == 0
    heads[0, 36:84, 40:80] = 255  # four over: two rows of 40 on each side are beyond it
    assert measures.ghosts(heads, rendered) == pytest.approx(100 * 160 / 1600 / 2)
    heads[0] = rendered[0]
    heads[0, 40:80, 100:104] = 255  # 160 pixels far off
    assert measures.ghosts(heads, rendered) == pytest.approx(100 * 160 / 1600 / 2)
    assert np.isnan(measures.ghosts(heads, np.zeros_like(rendered)))


def test_poses_that_were_not_found_stay_unknown() -> None:
    seen = lost(head(), [2])
    assert isinstance(seen.pose, Pose)
    assert torch.isnan(seen.pose.rotation[2]).all()
    assert torch.isfinite(seen.pose.rotation[[0, 1, 3]]).all()


def test_the_written_specification_is_of_this_version_and_has_every_measure() -> None:
    said = (Path(__file__).resolve().parents[2] / "docs/metrics.md").read_text()
    assert f"\nVersion {measures.VERSION}." in said
    for name in (measures.IDENTITY, measures.ANGLES[0], measures.ABSOLUTE[0], measures.EXPRESSION, measures.JITTER):
        assert f"| `{name}`" in said, name
    assert f"| `{measures.NO_FACE}`" in said and f"| `{measures.GHOSTS}`" in said


def test_the_lips_stand_before_the_corners_of_the_mouth() -> None:
    numbers, model = landmark_points()
    depth = measures.canonical_depth()
    cm = float((model[numbers.index(36)] - model[numbers.index(45)]).norm()) / EYES_CM
    for middle in (51, 57, 62, 66):
        for corner in (48, 54):
            assert float(depth[corner] - depth[middle]) / cm == pytest.approx(measures.LIP_CM, rel=0.01)
    assert depth[30] < depth[51]  # the tip of the nose is nearer to the camera still


def test_a_person_is_a_unit_vector() -> None:
    """Three frames look one way and six another: (1, 2) / sqrt(5), whose cosines are 1 and 2 over sqrt(5)."""
    vectors = np.zeros((FRAMES, 192), np.float32)
    vectors[:3, 0] = vectors[3:, 1] = 1
    seen = replace(head(), identity=vectors)
    assert np.linalg.norm(measures.mean_person(seen)) == pytest.approx(1)
    assert measures.identity(seen, measures.mean_person(seen)) == pytest.approx((3 * 1 + 6 * 2) / 9 / 5**0.5)
