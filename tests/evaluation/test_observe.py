"""What is seen of real faces: still ones stand still, turned ones turn by what they were turned."""

import numpy as np
import pytest
from PIL import Image

from head3d.assets import cache as assets
from head3d.data import video
from head3d.data.boxes import smooth_landmarks
from head3d.evaluation import measures
from head3d.evaluation.observe import FACE, VIEW, Observed, located, observe, view_of


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    """A real frame around a face, 256 x 256."""
    whole = next(iter(video.read_frames(assets.fetch("video-wolfgang"), start=300, count=1)))
    marks = observe([whole]).landmarks[0]
    middle, reach = (marks.min(0) + marks.max(0)) / 2, np.ptp(marks, axis=0).max()
    (x0, y0), (x1, y1) = (middle - reach).tolist(), (middle + reach).tolist()
    return np.asarray(Image.fromarray(whole).crop((round(x0), round(y0), round(x1), round(y1))).resize((256, 256)))


def turned(frame: np.ndarray, degrees: float) -> np.ndarray:
    """Clockwise, as roll counts."""
    return np.asarray(Image.fromarray(frame).rotate(-degrees, Image.Resampling.BICUBIC, fillcolor=(90, 90, 90)))


def test_a_still_face_stands_still(frame: np.ndarray) -> None:
    seen = observe([frame] * 4)
    assert seen.found.all()
    assert measures.jitter(seen) == 0
    assert measures.identity(seen, measures.mean_person(seen)) == pytest.approx(1, abs=1e-5)


def test_a_picture_turned_by_known_angles_rolls_by_them(frame: np.ndarray) -> None:
    angles = [0, 0, 4, 8, 12, 12]  # it rests at both ends: smoothing takes nothing from the mean
    still, rolling = observe([frame] * 6), observe([turned(frame, angle) for angle in angles])
    yaw, pitch, roll = measures.pose_errors(still, rolling)
    assert roll == pytest.approx(np.mean(angles), abs=0.7)
    assert max(yaw, pitch) < 2
    # The face is the same: a turn changes its expression and its identity little.
    assert measures.expression_error(still, rolling) < 2
    assert measures.identity(rolling, measures.mean_person(still)) > 0.9


def test_the_largest_face_is_followed_and_a_lost_one_counted(frame: np.ndarray) -> None:
    grey = np.full_like(frame, 128)
    seen = observe([frame, grey, frame])
    assert seen.found.tolist() == [True, False, True]
    assert measures.no_face(seen) == pytest.approx(1 / 3)
    small = np.asarray(Image.fromarray(frame).resize((110, 110)))
    both = np.full((256, 400, 3), 128, np.uint8)
    both[:, :256], both[100:210, 270:380] = frame, small
    assert np.abs(observe([both]).landmarks - seen.landmarks[:1]).max() < 4
    assert len(observe([])) == 0


def test_many_faces_are_embedded_in_their_frames(frame: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches end in the middle of a video with holes."""
    monkeypatch.setattr("head3d.evaluation.observe.FACES_AT_ONCE", 2)
    grey = np.full_like(frame, 128)
    seen = observe([frame, grey, frame, frame])
    alone = observe([frame])
    assert np.isnan(seen.identity[1]).all()
    assert (seen.identity[[0, 2, 3]] @ alone.identity[0]).min() > 0.99


def test_the_view_is_one_shift_and_one_scale() -> None:
    marks = np.random.default_rng(0).uniform(100, 300, (5, 68, 2)).astype(np.float32)
    seen = view_of(marks)
    assert np.median(np.ptp(seen, axis=1).max(1)) == pytest.approx(FACE, rel=1e-4)
    assert view_of(marks * 3 + 7) == pytest.approx(seen, abs=1e-2)
    assert isinstance(observe([]), Observed)


def test_poses_and_expressions_are_of_smoothed_landmarks() -> None:
    marks = np.random.default_rng(0).uniform(100, 300, (5, 68, 2)).astype(np.float32)
    seen = located(marks, np.zeros((5, 2), np.float32))
    assert seen.points == pytest.approx(view_of(smooth_landmarks(marks)), abs=1e-4)
    assert np.array_equal(seen.landmarks, marks)


def test_the_median_face_stands_in_the_middle_of_the_view() -> None:
    """Of the centres of its outermost pixels, as the camera has it."""
    points = np.random.default_rng(0).normal(300, 50, (1, 68, 2)).astype(np.float32)
    seen = view_of(points)[0]
    assert (seen.min(0) + seen.max(0)) / 2 == pytest.approx((VIEW - 1) / 2, abs=1e-3)
    assert np.ptp(seen, axis=0).max() == pytest.approx(FACE, abs=1e-3)
