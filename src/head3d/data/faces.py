"""Finding and following one face, and its 68 landmarks (dlib's HOG detector and shape predictor).

Boxes are ``(x0, y0, x1, y1)`` in pixels of the source frame; landmarks are ``(x, y)`` with pixel centres at integers.
"""

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from head3d.assets.cache import fetch

# The HOG detector sees faces of 80 pixels and more. Searching at about this many pixels a frame finds faces from a
# sixth of the frame's height on in 10 to 20 ms, whatever the size of the video.
_SEARCH_AREA = 640 * 360
_SEARCH_AREA_SMALL = 400 * 300  # smaller frames are enlarged to this
_RESCUE = 2.0  # a search that finds nothing is repeated this much larger
_FOLLOW_SIZE = 120  # pixels of a followed face in the resized frame: large enough to find it again when it shrinks
_STARTS = ((0.0, -0.04, 0.0), (0.035, 0.02, 0.05), (-0.035, 0.02, -0.05))  # shift x, y, growth; by the box's size
_SURE = 0.0  # detector score that counts anywhere; _FOLLOWED counts where the face just was
_FOLLOWED = -0.5


@dataclass(frozen=True)
class Face:
    """One detection: its box and the detector's score."""

    box: tuple[float, float, float, float]
    score: float

    @property
    def size(self) -> float:
        return self.box[2] - self.box[0]


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


_own = threading.local()


def _detector() -> Any:
    """This thread's detector: dlib's keeps what it works on in itself, and lets other threads run meanwhile."""
    if not hasattr(_own, "detector"):
        import dlib

        _own.detector = dlib.get_frontal_face_detector()  # pyright: ignore[reportAttributeAccessIssue]
    return _own.detector


@lru_cache(maxsize=1)
def _predictor() -> Any:
    import dlib

    return dlib.shape_predictor(str(fetch("landmarks-68")))  # pyright: ignore[reportAttributeAccessIssue]


def search_scale(height: int, width: int) -> float:
    """Factor by which a frame is resized before the detector looks at it."""
    area = height * width
    if area > _SEARCH_AREA:
        return (_SEARCH_AREA / area) ** 0.5
    if area < _SEARCH_AREA_SMALL:
        return (_SEARCH_AREA_SMALL / area) ** 0.5
    return 1.0


def find(frame: np.ndarray, scale: float, threshold: float = _SURE) -> list[Face]:
    """All faces in a uint8 ``(H, W, 3)`` frame that is resized by ``scale`` first; largest first."""
    height, width = frame.shape[:2]
    if scale != 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        frame = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
    boxes, scores, _ = _detector().run(np.ascontiguousarray(frame), 0, threshold)
    s = width / frame.shape[1], height / frame.shape[0]
    faces = [
        Face((b.left() * s[0], b.top() * s[1], (b.right() + 1) * s[0], (b.bottom() + 1) * s[1]), score)
        for b, score in zip(boxes, scores, strict=True)
    ]
    return sorted(faces, key=lambda face: -face.size)


def detect(frame: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Boxes of the faces in a frame, largest first; searched again at twice the size if there are none."""
    scale = search_scale(*frame.shape[:2])
    return [face.box for face in find(frame, scale) or find(frame, scale * _RESCUE)]


class FaceTracker:
    """Follows one face through the frames that it is shown, in order.

    ``see`` gives the followed face, or ``None``, and all other faces of the frame. The first face is the largest one
    of at least ``min_face`` pixels; afterwards the one that overlaps most with where it last was.
    """

    wanted = 1  # faces, for fewer of which a frame is searched once more

    def __init__(self, min_face: float) -> None:
        self.min_face = min_face
        self.last: Face | None = None
        self._enlarge = 1.0  # set to _RESCUE once a video's face was too small for the first search

    def see(self, frame: np.ndarray) -> tuple[Face | None, list[Face]]:
        wide = search_scale(*frame.shape[:2]) * self._enlarge
        if self.last is None:
            faces = self._search(frame, wide)
        else:
            faces = find(frame, min(wide, _FOLLOW_SIZE / self.last.size), _FOLLOWED) or find(frame, wide, _FOLLOWED)
        sure = [face for face in faces if face.score >= _SURE and face.size >= self.min_face]
        face = sure[0] if sure else None
        if self.last is not None:
            last = self.last.box
            near = [other for other in faces if iou(other.box, last) > 0.3]
            face = max(near, key=lambda other: iou(other.box, last), default=face)
        self.last = face or self.last
        return face, [other for other in sure if other is not face]

    def _search(self, frame: np.ndarray, wide: float) -> list[Face]:
        """All faces of a frame resized by ``wide``, or if they are fewer than wanted and there are more, enlarged."""
        faces = find(frame, wide)
        if len(faces) < self.wanted and self._enlarge == 1.0:
            more = find(frame, wide * _RESCUE)
            if len(more) > len(faces):
                self._enlarge = _RESCUE
                return more
        return faces

    def restart(self) -> None:
        """Forget where the face was, for a new clip of the same video."""
        self.last = None


def landmarks(frame: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """68 landmarks of the face in a box, float32 ``(68, 2)``, on the frame at its full resolution.

    They are the mean of three fits from slightly different boxes: a single fit depends on its start, and the mean
    trembles a third less from frame to frame.
    """
    import dlib

    frame = np.ascontiguousarray(frame)
    size, fits = box[2] - box[0], []
    for x, y, grow in _STARTS:
        x, y, grow = x * size, y * size, grow * size
        start = (box[0] + x - grow, box[1] + y - grow, box[2] + x + grow, box[3] + y + grow)
        rectangle = dlib.rectangle(*(round(value) for value in start))  # pyright: ignore[reportAttributeAccessIssue]
        fits.append([(point.x, point.y) for point in _predictor()(frame, rectangle).parts()])
    return np.mean(fits, axis=0).astype(np.float32)
