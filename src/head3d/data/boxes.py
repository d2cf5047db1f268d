"""One steady square box around a head: from looks at a face to the pixels that are cut out.

A *look* is one run of the face detector. The union of the heads of all looks, with a margin, is made square. The square
is shifted into the frame where it sticks out; only a head that is larger than the frame is padded, by repeating the
frame's edge.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from head3d.data import faces

# The head around the 68 landmarks (jaw to brows), measured against face parsing on real clips, as fractions of the
# larger side of the landmarks' box: hair above the brows and around, and a little below the chin.
_HEAD = {"left": 0.15, "top": 0.62, "right": 0.15, "bottom": 0.05}
_LEAST_FOUND = 0.6  # share of looks at a clip that must show the face
_LONGEST_GAP = 3  # looks in a row without the face
_RIVALS = 0.01  # share of the looks with a rival from which there is one
_RIVAL = 0.6  # size, relative to the followed face, from which another face inside the box is a rival


@dataclass(frozen=True)
class FrameDetection:
    """What one detection showed: index of the frame, the followed face's box and landmarks, and other faces."""

    index: int
    box: np.ndarray | None
    points: np.ndarray | None
    others: tuple[faces.Face, ...]


@dataclass(frozen=True)
class Square:
    """The box of a clip: ``(x0, y0)`` and its side, in pixels of the source frame; the same for all its frames."""

    x0: float
    y0: float
    side: float

    def cut(self, frame: np.ndarray, size: int) -> np.ndarray:
        """The square out of a uint8 ``(H, W, 3)`` frame, resized to ``(size, size, 3)``; edges repeat outside."""
        height, width = frame.shape[:2]
        x1, y1 = self.x0 + self.side, self.y0 + self.side
        pad_x = (max(0, -int(np.floor(self.x0))), max(0, int(np.ceil(x1)) - width))
        pad_y = (max(0, -int(np.floor(self.y0))), max(0, int(np.ceil(y1)) - height))
        if any(pad_x + pad_y):
            frame = np.pad(frame, (pad_y, pad_x, (0, 0)), mode="edge")
        box = (self.x0 + pad_x[0], self.y0 + pad_y[0], x1 + pad_x[0], y1 + pad_y[0])
        return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC, box=box))

    def map(self, points: np.ndarray, size: int) -> np.ndarray:
        """Source pixels ``(..., 2)`` to pixels of the resized cut; pixel centres are integers in both."""
        corner = np.array([self.x0, self.y0], np.float64)
        return ((points + 0.5 - corner) * (size / self.side) - 0.5).astype(np.float32)


class Rejected(Exception):
    """A clip that cannot be used; the message is its reason in the manifest."""


def detect_in_frame(index: int, frame: np.ndarray, tracker: faces.FaceTracker) -> FrameDetection:
    """Run the detector once, and the landmarks if the face is there."""
    face, others = tracker.see(frame)
    if face is None:
        return FrameDetection(index, None, None, tuple(others))
    return FrameDetection(index, np.array(face.box), faces.landmarks(frame, face.box), tuple(others))


def detection_indices(n_frames: int, every: int) -> list[int]:
    """Indices of the frames at which the detector looks: every ``every``-th and the last."""
    return sorted({*range(0, n_frames, every), n_frames - 1})


def head_box(points: np.ndarray) -> np.ndarray:
    """``(x0, y0, x1, y1)`` of the whole head, hair to chin, from 68 landmarks ``(68, 2)``."""
    low, high = points.min(0), points.max(0)
    size = float(max(high - low))
    return np.array(
        [
            low[0] - _HEAD["left"] * size,
            low[1] - _HEAD["top"] * size,
            high[0] + _HEAD["right"] * size,
            high[1] + _HEAD["bottom"] * size,
        ]
    )


def square_box(detections: Sequence[FrameDetection], height: int, width: int, margin: float) -> Square:
    """The square that holds the head of all looks with its margin, inside the frame as far as it fits."""
    boxes = np.array([head_box(one.points) for one in detections if one.points is not None])
    x0, y0 = boxes[:, :2].min(0)
    x1, y1 = boxes[:, 2:].max(0)
    face = float(np.median([np.ptp(one.points, axis=0).max() for one in detections if one.points is not None]))
    head = max(x1 - x0, y1 - y0)
    # rather a smaller margin than made-up pixels; rather made-up pixels than a cut head
    side = min(head + 2 * margin * face, max(head, min(height, width)))
    return Square(_inside((x0 + x1 - side) / 2, side, width), _inside((y0 + y1 - side) / 2, side, height), side)


def _inside(start: float, side: float, length: int) -> float:
    """Shift an interval into [0, length], or centre [0, length] in it where it is longer."""
    if side > length:
        return (length - side) / 2
    return float(np.clip(start, 0.0, length - side))


def check_steady(detections: Sequence[FrameDetection], min_iou: float) -> None:
    """Raise :class:`Rejected` unless one face is followed from beginning to end."""
    found = [one.box is not None for one in detections]
    if not any(found):
        raise Rejected("no face")
    gaps = [len(list(group)) for there, group in itertools.groupby(found) if not there]
    if sum(found) < _LEAST_FOUND * len(found) or max(gaps, default=0) > _LONGEST_GAP:
        raise Rejected("no steady face (lost)")
    boxes = [tuple(one.box) for one in detections if one.box is not None]
    if min(faces.iou(boxes[0], box) for box in boxes) < min_iou:
        raise Rejected("no steady face (moves too far)")


def check_rivals(detections: Sequence[FrameDetection], square: Square) -> None:
    """Raise :class:`Rejected` if another face of similar size stands inside the square."""
    rivals = 0
    for one in detections:
        if one.box is None:
            continue
        size = one.box[2] - one.box[0]
        for other in one.others:
            x, y = (other.box[0] + other.box[2]) / 2, (other.box[1] + other.box[3]) / 2
            inside = 0 <= x - square.x0 <= square.side and 0 <= y - square.y0 <= square.side
            overlaps = faces.iou(other.box, tuple(one.box)) > 0.3  # a second answer for the same face
            rivals += inside and not overlaps and other.size > _RIVAL * size
    # One alone may be a false alarm of the detector, and so may a few of thousands in a long video.
    if rivals >= max(2, _RIVALS * len(detections)) or (rivals and len(detections) < 4):
        raise Rejected("two people in the box")


def boxes_between(detections: Sequence[FrameDetection], n_frames: int) -> np.ndarray:
    """Face boxes for the landmarks of all frames ``(n_frames, 4)``, between the looks at which the face was found.

    They follow the looks' landmarks: the detector's own boxes jump by its pyramid's steps of 20 %, and the landmarks
    would jump with them.
    """
    known = [one for one in detections if one.points is not None]
    boxes = np.stack([detector_box(one.points) for one in known if one.points is not None])
    index = np.array([one.index for one in known])
    return between(index, boxes, np.arange(n_frames))


def between(looks: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values ``(T, ...)`` in the frames ``wanted`` ``(T,)``, from those ``(K, ...)`` in the frames ``looks`` ``(K,)``.

    They go evenly from one look to the next, and stay before the first and after the last.
    """
    columns = values.reshape(len(looks), -1).T
    found = np.stack([np.interp(wanted, looks, column) for column in columns], axis=1)
    return found.reshape(len(wanted), *values.shape[1:])


def detector_box(points: np.ndarray) -> np.ndarray:
    """The box that dlib's detector gives on average for a face with these landmarks ``(68, 2)``."""
    low, high = points.min(0), points.max(0)
    size = float(max(high - low))
    x, y = (low + high) / 2 + np.array([0.01, -0.08]) * size
    half = 0.515 * size
    return np.array([x - half, y - half, x + half, y + half])


def reliable_frames(detections: Sequence[FrameDetection], n_frames: int) -> np.ndarray:
    """Which frames ``(n_frames,)`` have landmarks that can be trusted: not those beside a look without the face."""
    good = np.ones(n_frames, bool)
    for before, one, after in zip([None, *detections[:-1]], detections, [*detections[1:], None], strict=True):
        if one.box is None:
            first = before.index + 1 if before else 0
            last = after.index if after else n_frames
            good[first:last] = False
    return good


def cut_strength(frames: Iterable[np.ndarray]) -> np.ndarray:
    """How abruptly each frame follows the one before, in [0, 1]: mean absolute difference of 16x16 thumbnails."""
    small = []
    for frame in frames:
        step = max(1, min(frame.shape[:2]) // 64)  # a coarse grid is enough, and much faster on large frames
        thumbnail = Image.fromarray(np.ascontiguousarray(frame[::step, ::step])).resize((16, 16), Image.Resampling.BOX)
        small.append(np.asarray(thumbnail, np.float32) / 255)
    return np.array([np.abs(b - a).mean() for a, b in itertools.pairwise(small)])


def smooth_landmarks(points: np.ndarray) -> np.ndarray:
    """Landmarks ``(T, 68, 2)`` averaged with weights 1/4, 1/2, 1/4 over neighbouring frames; NaN stays where it was.

    What a fit trembles from one frame to the next is larger than what a head speeds up in that time.
    """
    padded = np.concatenate([points[:1], points, points[-1:]])
    before, after = padded[:-2], padded[2:]
    mean = np.where(np.isnan(before) | np.isnan(after), points, (before + 2 * points + after) / 4)
    return mean.astype(points.dtype)
