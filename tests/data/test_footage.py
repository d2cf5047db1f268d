"""A user's video: its one face found, whatever its length; then any of its crops."""

from pathlib import Path

import numpy as np
import pytest

from head3d.assets import cache as assets
from head3d.data import video
from head3d.data.footage import survey
from head3d.errors import UserError
from head3d.params import Params


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
