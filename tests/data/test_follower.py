"""Which face is followed where the detector misses one; the detector is made up, as its misses cannot be ordered."""

import numpy as np
import pytest

from head3d.data import faces
from head3d.data.faces import Face
from head3d.data.follower import PATIENCE, Follower

FRAME = np.zeros((300, 600, 3), np.uint8)
LARGE, SMALL = Face((20.0, 50.0, 220.0, 250.0), 1.0), Face((400.0, 100.0, 500.0, 200.0), 1.0)


def followed(monkeypatch: pytest.MonkeyPatch, frames: list[list[Face]]) -> str:
    """A letter a frame: L and S for the two faces, - for none."""
    in_view = np.random.default_rng(0).uniform(100, 300, (68, 2)).astype(np.float32)
    monkeypatch.setattr(faces, "landmarks", lambda *_: in_view)
    follower, letters = Follower(), ""
    for shown in frames:
        monkeypatch.setattr(faces, "find", lambda *_, shown=shown: shown)
        marks = follower.see(FRAME)
        letters += "-" if marks is None else "L" if marks[:, 0].mean() < 300 else "S"
    return letters


def test_a_face_that_is_missed_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [LARGE, SMALL]
    assert followed(monkeypatch, [both, [SMALL], both, [], [SMALL], both]) == "L-L--L"


def test_after_a_second_the_largest_face_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = [[SMALL]] * PATIENCE
    assert followed(monkeypatch, [[LARGE], *lost, [SMALL], [LARGE, SMALL]]) == "L" + "-" * PATIENCE + "SS"
    assert followed(monkeypatch, [[LARGE], *lost[1:], [LARGE], *lost, [LARGE, SMALL]]) == (
        "L" + "-" * (PATIENCE - 1) + "L" + "-" * PATIENCE + "L"
    )
