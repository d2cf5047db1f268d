"""A user's video: its one face found, whatever its length; then any of its crops."""

from pathlib import Path

import numpy as np
import pytest

from head3d.assets import cache as assets
from head3d.data import faces, video
from head3d.data.faces import Face
from head3d.data.footage import ChosenTracker, survey
from head3d.errors import UserError
from head3d.params import Params

from .conftest import ffmpeg


def test_a_whole_video_has_one_steady_box(demo: Params) -> None:
    footage = survey(assets.fetch("video-carphone"), demo)
    assert (footage.n_frames, footage.resample) == (120, None)
    assert footage.fps == pytest.approx(30000 / 1001)
    assert footage.seen.mean() > 0.9
    crops = np.stack(list(footage.crops(64)))
    assert crops.shape == (120, 64, 64, 3)
    assert np.array_equal(footage.crops_at([100, 3], 64), crops[[100, 3]])
    whole, square = footage.whole(100)
    assert whole.shape[:2] == (144, 193)  # square pixels: the file says 176, each wider than high
    assert np.abs(square.cut(whole, 64).astype(int) - crops[100]).mean() < 1


def test_landmarks_in_crops_are_known_between_two_looks(demo: Params) -> None:
    """Near to those that a fit finds in the frame itself, for all that they were looked for in every fifth only."""
    footage = survey(assets.fetch("video-carphone"), demo)
    wanted, known = [3, 7, 41, 88], footage.landmarks([3, 7, 41, 88], 256)
    assert (known.shape, known.dtype) == ((4, 68, 2), np.float32)
    for frame, points in zip(footage.crops_at(wanted, 256), known, strict=True):
        fitted = faces.landmarks(frame, faces.detect(frame)[0])
        assert np.abs(points - fitted).mean() < 4  # of 256 pixels
    assert np.allclose(footage.landmarks([41], 64)[0] + 0.5, (known[2] + 0.5) / 4, atol=1e-4)
    footage.seen[7] = False
    assert np.isnan(footage.landmarks([3, 7], 64)).all(axis=(1, 2)).tolist() == [False, True]


def test_an_uneven_rate_is_made_even(demo: Params, tmp_path: Path) -> None:
    """Or the result would run away from its sound: half a second passes without a frame."""
    uneven, wait = tmp_path / "uneven.mp4", "setpts='PTS+gte(N,60)*0.5/TB'"
    ffmpeg("-i", assets.fetch("video-carphone"), "-vf", wait, "-fps_mode", "passthrough", uneven)
    footage, info = survey(uneven, demo), video.probe(uneven)
    assert footage.resample == footage.fps == info.fps
    assert footage.n_frames == pytest.approx(info.fps * info.duration, abs=2)


def test_a_video_without_a_face_is_one_line(demo: Params, tmp_path: Path) -> None:
    flat = tmp_path / "flat.mp4"
    video.write_video(flat, [np.full((240, 320, 3), 90, np.uint8)] * 10, 25.0)
    with pytest.raises(UserError, match=r"flat\.mp4: no face was found in it; allowed: a face of at least \d+ pixels"):
        survey(flat, demo)


def test_faces_are_counted_from_the_left(demo: Params, two_people: Path) -> None:
    middle = 213.0  # between the two: carphone is 193 pixels wide
    centres = {}
    for face in (None, 1, 2):
        footage = survey(two_people, demo, face=face)
        assert footage.seen.mean() > 0.9
        centres[face] = footage.square.x0 + footage.square.side / 2
    assert centres[1] < middle < centres[2]
    assert centres[None] == pytest.approx(centres[2], abs=5)  # the larger one is on the right
    with pytest.raises(UserError, match=r"pair\.mp4: no face 3; allowed: 1 to 2, counted from the left"):
        survey(two_people, demo, face=3)


def test_another_face_is_not_taken_for_the_chosen_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector is made up: it misses the chosen face twice."""
    frame = np.zeros((300, 600, 3), np.uint8)
    left, right = Face((20.0, 50.0, 120.0, 150.0), 1.0), Face((400.0, 100.0, 500.0, 200.0), 1.0)
    tracker, seen = ChosenTracker(20.0, 1), []
    for shown in ([left, right], [right], [right], [left, right]):
        monkeypatch.setattr(faces, "find", lambda *_, shown=shown: shown)
        seen.append(tracker.see(frame))
    assert seen == [(left, [right]), (None, [right]), (None, [right]), (left, [right])]
