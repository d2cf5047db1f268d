"""68 landmarks of one face, frame after frame, fitted well however small it is."""

import numpy as np

from head3d.data import faces
from head3d.data.boxes import Square, detector_box

MIN_FACE = 20.0  # pixels; smaller ones tell nothing
FIT = 200  # pixels of a face in the picture that its landmarks are fitted in
MOST_FITS = 4  # until the box fits the face; a followed face mostly needs one
KEEP = 0.9  # a fit is kept if the box that it started from and the one of its landmarks overlap by more than this (IoU)
PATIENCE = 25  # frames in a row without the followed face, after which the largest one is followed
SAME = 0.5  # overlap with the detector's box from which the face is the one of the frame before


class Follower:
    """Landmarks of one face, frame after frame.

    The detector says whether the face is there, the landmarks of earlier frames where: its boxes jump by the steps of
    its pyramid, and landmarks that start from them jump with them. A fit always sees the face at one size.

    Where the detector misses the face, another one in the frame is not taken for it: the tracker would, and stay there.
    """

    def __init__(self) -> None:
        self._tracker = faces.FaceTracker(MIN_FACE)
        self._seen: faces.Face | None = None  # the followed face, where the detector last found it
        self._lost = 0  # frames since then
        self._last: tuple[float, ...] | None = None

    def see(self, frame: np.ndarray) -> np.ndarray | None:
        """Landmarks (68, 2) in pixels of a uint8 (H, W, 3) frame, or None where no face is found."""
        if self._lost >= PATIENCE:
            self._seen = None
            self._tracker.restart()
        face, _ = self._tracker.see(frame)
        if face is None or (self._seen is not None and faces.iou(face.box, self._seen.box) == 0):
            self._tracker.last = self._seen
            self._last, self._lost = None, self._lost + 1
            return None
        self._seen, self._lost = face, 0
        followed = self._last is not None and faces.iou(self._last, face.box) > SAME
        box, found = (self._last if followed else face.box), np.empty(0)
        assert box is not None
        for _ in range(MOST_FITS):
            found = fitted(frame, box)
            fresh = tuple(detector_box(found).tolist())
            # Kept while it fits: a box that followed each fit would carry that fit's error into the next one, and the
            # face of a still video would tremble.
            if faces.iou(fresh, box) > KEEP:
                break
            box = fresh
        self._last = box
        return found


def fitted(frame: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
    """Landmarks (68, 2) of the face in a box (x0, y0, x1, y1), fitted where the box is ``FIT`` pixels large."""
    side = 2 * (box[2] - box[0])
    square = Square((box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2, side)
    view = square.cut(frame, 2 * FIT)
    found = faces.landmarks(view, (FIT / 2, FIT / 2, FIT * 1.5, FIT * 1.5))
    return ((found + 0.5) * (side / (2 * FIT)) - 0.5 + (square.x0, square.y0)).astype(np.float32)
