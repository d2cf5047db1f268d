"""Which face is followed where metadata points at one; the detector is made up, as its misses cannot be ordered."""

from __future__ import annotations

import numpy as np
import pytest

from head3d.data import faces
from head3d.data.box_tracker import BoxTracker
from head3d.data.faces import Face

FRAME = np.zeros((300, 700, 3), np.uint8)
LARGE, SMALL = Face((20.0, 50.0, 220.0, 250.0), 1.0), Face((400.0, 100.0, 500.0, 200.0), 1.0)
MOVED, FAR = Face((430.0, 100.0, 530.0, 200.0), 1.0), Face((481.0, 100.0, 581.0, 200.0), 1.0)


def look(
    tracker: BoxTracker, monkeypatch: pytest.MonkeyPatch, shown: list[Face], closely: list[Face] | None = None
) -> tuple[Face | None, list[Face]]:
    """What is followed, and all others, in a frame in which the detector finds some faces."""
    monkeypatch.setattr(faces, "find", lambda frame, *_: shown if frame.shape == FRAME.shape else closely or [])
    return tracker.see(FRAME)


def test_the_face_that_is_pointed_at_is_followed_and_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = BoxTracker(20.0, (410.0, 110.0, 490.0, 190.0))
    assert look(tracker, monkeypatch, [LARGE, SMALL]) == (SMALL, [LARGE])
    assert look(tracker, monkeypatch, [LARGE]) == (None, [LARGE])
    assert look(tracker, monkeypatch, [LARGE, MOVED]) == (MOVED, [LARGE])
    assert look(tracker, monkeypatch, [LARGE]) == (None, [LARGE])
    assert look(tracker, monkeypatch, [LARGE, FAR]) == (FAR, [LARGE])  # from where it was seen last, not from the box


def test_where_the_frame_shows_no_face_there_the_place_is_looked_at_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = BoxTracker(20.0, (400.0, 100.0, 500.0, 200.0))
    inside = Face((50.0, 50.0, 150.0, 150.0), 1.0)  # of the part that begins half a box before the box, at 350, 50
    assert look(tracker, monkeypatch, [LARGE], [inside]) == (SMALL, [LARGE])
