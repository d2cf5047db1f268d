"""Following the face that metadata points at, where there may be others."""

import math

import numpy as np

from head3d.data import faces

_SAME = 0.3  # overlap with where a face was, from which it is the same
_ROOM = 0.5  # around the place that is looked at closely, in its sizes


class BoxTracker(faces.FaceTracker):
    """Follows the face whose middle is nearest to that of a given box ``x0, y0, x1, y1``, in pixels, and no other.

    The given box may be of another moment: a face counts if it is no further away than the box is large. Where the
    search of the whole frame does not find it, as it may be the smallest, the place itself is looked at closely.
    """

    def __init__(self, min_face: float, box: tuple[float, float, float, float]) -> None:
        super().__init__(min_face)
        self.box = box

    def see(self, frame: np.ndarray) -> tuple[faces.Face | None, list[faces.Face]]:
        before = self.last
        where = before.box if before else self.box
        first, others = super().see(frame)
        seen = [first, *others] if first else others

        def fits(face: faces.Face) -> bool:
            if before is not None:
                return faces.iou(face.box, where) > _SAME
            return _apart(face.box, where) <= max(where[2] - where[0], where[3] - where[1])

        near = [face for face in seen if fits(face)] or [face for face in self._closely(frame, where) if fits(face)]
        found = min(near, key=lambda face: _apart(face.box, where), default=None)
        self.last = found or before
        return found, [face for face in seen if face is not found]

    def _closely(self, frame: np.ndarray, where: tuple[float, float, float, float]) -> list[faces.Face]:
        """Faces in and around a box, found in that part of the frame alone."""
        height, width = frame.shape[:2]
        x0, y0, x1, y1 = where
        room = _ROOM * max(x1 - x0, y1 - y0)
        left, right = max(0, int(x0 - room)), min(width, math.ceil(x1 + room))
        top, bottom = max(0, int(y0 - room)), min(height, math.ceil(y1 + room))
        if right - left < self.min_face or bottom - top < self.min_face:
            return []
        part = frame[top:bottom, left:right]
        scale, found = faces.search_scale(*part.shape[:2]), []
        for face in faces.find(part, scale) or faces.find(part, 2 * scale):
            if face.size >= self.min_face:
                shifted = (face.box[0] + left, face.box[1] + top, face.box[2] + left, face.box[3] + top)
                found.append(faces.Face(shifted, face.score))
        return found


def _apart(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Distance of the middles of two boxes, pixels."""
    return math.hypot(*((a[k] + a[k + 2] - b[k] - b[k + 2]) / 2 for k in (0, 1)))
