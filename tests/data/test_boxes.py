"""Boxes: what is cut out, where points land, and which clips are refused."""

import numpy as np
import pytest

from head3d.data import boxes, faces
from head3d.data.boxes import FrameDetection, Rejected, Square
from head3d.data.faces import Face


def blob(height: int, width: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    value = 255 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * radius**2))
    return np.repeat(value[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("square", [Square(30.25, 10.5, 100.0), Square(-20.0, -20.5, 200.0), Square(60.0, 20.0, 40.0)])
def test_points_move_with_the_pixels(square: Square) -> None:
    frame = blob(150, 180, x=80.3, y=41.7, radius=4)
    cut = square.cut(frame, 64)[..., 0].astype(float)
    assert cut.shape == (64, 64)
    cut -= np.median(cut)
    rows, columns = np.mgrid[:64, :64]
    found = np.array([(cut * columns).sum(), (cut * rows).sum()]) / cut.sum()
    assert found == pytest.approx(square.map(np.array([80.3, 41.7]), 64), abs=0.1)


def test_identity_cut_is_exact() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    assert np.array_equal(Square(10, 5, 32).cut(frame, 32), frame[5:37, 10:42])
    padded = Square(-4, 0, 48).cut(frame, 48)
    assert np.array_equal(padded[:, 4:], frame[:, :44])
    assert np.array_equal(padded[:, :4], np.repeat(frame[:, :1], 4, axis=1))


def face_points(x: float, y: float, size: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (68, 2)) * size
    points[:4] = np.array([[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]]) * size
    return points + np.array([x, y])


def looks(*faces: tuple[float, float, float] | None, others: tuple[Face, ...] = ()) -> list[FrameDetection]:
    found = []
    for index, face in enumerate(faces):
        if face is None:
            found.append(FrameDetection(5 * index, None, None, ()))
        else:
            points = face_points(*face)
            found.append(FrameDetection(5 * index, boxes.detector_box(points), points, others))
    return found


def test_square_holds_the_whole_head_with_its_margin() -> None:
    square = boxes.square_box(looks((300, 260, 100), (320, 265, 100)), 720, 1280, margin=0.3)
    heads = np.array([boxes.head_box(face_points(x, y, 100)) for x, y in ((300, 260), (320, 265))])
    assert square.x0 + 30 <= heads[:, 0].min()
    assert square.y0 + 30 - 1e-6 <= heads[:, 1].min()
    assert square.x0 + square.side - 30 >= heads[:, 2].max()
    assert square.y0 + square.side - 30 + 1e-6 >= heads[:, 3].max()
    assert 0.65 < (heads[0, 3] - heads[0, 1]) / square.side < 0.8


def test_square_is_shifted_into_the_frame() -> None:
    square = boxes.square_box(looks((30, 60, 100)), 400, 400, margin=0.3)
    assert (square.x0, square.y0) == (0.0, 0.0)
    large = boxes.square_box(looks((200, 150, 170)), 300, 400, margin=0.3)  # rather less margin than padding
    assert large.side == 300.0
    assert large.y0 == 0.0
    huge = boxes.square_box(looks((200, 150, 280)), 300, 400, margin=0.3)  # rather padding than a cut head
    assert huge.side > 400
    assert huge.y0 == pytest.approx((300 - huge.side) / 2)


def test_steady_faces_pass_and_others_are_named() -> None:
    still = (100.0, 100.0, 50.0)
    boxes.check_steady(looks(still, None, still, still, still), 0.25)
    for reason, given in {
        "no face": looks(None, None, None),
        "lost": looks(still, None, None, None, None, still, still, still, still, still, still, still),
        "moves too far": looks(still, (140.0, 100.0, 50.0)),
    }.items():
        with pytest.raises(Rejected, match=reason):
            boxes.check_steady(given, 0.25)
    with pytest.raises(Rejected, match="lost"):
        boxes.check_steady(looks(still, None, None, still), 0.25)


def test_rivals_inside_the_box_only() -> None:
    still, square = (100.0, 100.0, 50.0), Square(20, 20, 200)
    second = Face((160, 80, 205, 125), 1.0)
    with pytest.raises(Rejected, match="two people"):
        boxes.check_rivals(looks(*[still] * 5, others=(second,)), square)
    small, outside, same = Face((160, 80, 180, 100), 1.0), Face((300, 80, 350, 130), 1.0), Face((80, 75, 130, 125), 1.0)
    boxes.check_rivals(looks(*[still] * 5, others=(small, outside, same)), square)
    alone, alarmed = looks(still), looks(still, others=(second,))
    boxes.check_rivals([*alone * 1998, *alarmed * 2], square)  # an hour of video, in which the detector erred twice
    with pytest.raises(Rejected, match="two people"):
        boxes.check_rivals([*alone * 1900, *alarmed * 100], square)


def test_landmarks_are_trusted_between_looks_that_found_the_face() -> None:
    still = (100.0, 100.0, 50.0)
    given = looks(still, None, still, still)  # at frames 0, 5, 10, 15
    good = boxes.reliable_frames(given, 16)
    assert good.tolist() == [True] + [False] * 9 + [True] * 6
    assert boxes.detection_indices(16, 5) == [0, 5, 10, 15]
    assert boxes.detection_indices(18, 5) == [0, 5, 10, 15, 17]
    moving = boxes.boxes_between(looks(still, (110.0, 100.0, 50.0)), 6)
    assert np.allclose(np.diff(moving[:, 0]), 2.0)


def test_values_go_evenly_between_looks() -> None:
    values = np.array([[[0.0, 10.0]], [[5.0, 10.0]], [[5.0, 4.0]]])
    found = boxes.between(np.array([2, 7, 10]), values, np.array([0, 2, 3, 9, 12]))
    assert np.allclose(found, [[[0, 10]], [[0, 10]], [[1, 10]], [[5, 6]], [[5, 4]]])


def test_steadied_keeps_lines_and_gaps() -> None:
    line = np.linspace(0, 10, 11, dtype=np.float32)[:, None, None] * np.ones((1, 68, 2), np.float32)
    assert np.allclose(boxes.smooth_landmarks(line)[1:-1], line[1:-1])
    line[4] = np.nan
    out = boxes.smooth_landmarks(line)
    assert np.isnan(out[4]).all()
    assert np.isfinite(np.delete(out, 4, axis=0)).all()


def test_cuts_are_seen_and_motion_is_not() -> None:
    a, b = blob(120, 160, 60, 60, 30), blob(120, 160, 64, 60, 30)
    other = 255 - a
    assert boxes.cut_strength([a, b, a]).max() < 0.05
    assert boxes.cut_strength([a, a, other]).argmax() == 1
    assert boxes.cut_strength([a, a, other]).max() > 0.3
    assert len(boxes.cut_strength([a])) == 0


def test_a_tremble_is_averaged_away() -> None:
    points = np.zeros((5, 68, 2), np.float32)
    points[2], points[4, :, 0] = 4.0, 8.0
    steady = boxes.smooth_landmarks(points)
    assert steady[:, 0, 0].tolist() == [0, 1, 2, 3, 6]
    assert steady[:, 0, 1].tolist() == [0, 1, 2, 1, 0]


def test_a_face_that_was_missed_is_followed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a larger one that has come in between."""
    ours, larger = faces.Face((0, 0, 50, 50), 1.0), faces.Face((200, 0, 300, 100), 1.0)
    found = iter([[ours], [], [], [larger, ours]])  # where a face is followed, a search in vain is done twice
    monkeypatch.setattr(faces, "find", lambda *_: next(found))
    tracker, frame = faces.FaceTracker(32), np.zeros((200, 300, 3), np.uint8)
    assert [tracker.see(frame) for _ in range(3)] == [(ours, []), (None, []), (ours, [larger])]
