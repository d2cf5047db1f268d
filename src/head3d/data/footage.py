"""A user's video of any length, read in constant memory: where its one face is, and its steady crops.

:func:`survey` goes through a video once with the face detector; then :meth:`Footage.crops` gives the crops frame by
frame. An hour at 25 frames a second keeps about 15 MB: the landmarks of every fifth frame.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from head3d.data import boxes, faces, video
from head3d.data.boxes import Rejected, Square
from head3d.data.crop import working_size
from head3d.errors import UserError

if TYPE_CHECKING:
    from head3d.params import Params

Watch = Callable[[str, int, int], None]  # what is done, how many frames of it, of how many
MOST_DRIFT_S = 0.05  # sound that is later or earlier than this is noticed
_NEAR = 1.0  # how far from where it was lost a chosen face is looked for again, in sizes of its box


@dataclass(frozen=True)
class Footage:
    """A surveyed video.

    Attributes:
        path: of the file.
        info: its size as it is read, its rate and length.
        fps: frames a second of what is given.
        resample: rate to resample to; None gives every stored frame once.
        n_frames: how many frames are given.
        square: the steady box around the head, in pixels of ``info``'s size.
        seen: (n_frames,) bool, where the detector saw the face; landmarks and references are taken there only.
        looks: (K,) indices of the frames in which the face was looked for and found, in order; K at least 1.
        points: (K, 68, 2) its landmarks in them, in pixels of ``info``'s size.
    """

    path: Path
    info: video.VideoInfo
    fps: float
    resample: float | None
    n_frames: int
    square: Square
    seen: np.ndarray
    looks: np.ndarray
    points: np.ndarray

    def _stream(self, info: video.VideoInfo | None = None, start: int = 0) -> Generator[np.ndarray, None, None]:
        return video.stream(self.path, info or self.info, fps=self.resample, start=start)

    def crops(self, size: int) -> Generator[np.ndarray, None, None]:
        """All crops in order, uint8 (size, size, 3)."""
        for frame in itertools.islice(self._stream(), self.n_frames):
            yield self.square.cut(frame, size)

    def crops_at(self, indices: Iterable[int], size: int) -> np.ndarray:
        """Crops of some frames in the order asked for, uint8 (T, size, size, 3); the video is read once."""
        wanted = list(indices)
        unread = set(wanted)
        found: dict[int, np.ndarray] = {}
        reader = self._stream()
        for index, frame in enumerate(reader):
            if index in unread:
                found[index] = self.square.cut(frame, size)
                if len(found) == len(unread):
                    break
        reader.close()
        missing = sorted(unread - found.keys())
        if missing:
            raise UserError(f"{self.path}: frame {missing[0]} cannot be read a second time", fix="check the file")
        return np.stack([found[index] for index in wanted])

    def landmarks(self, indices: Sequence[int], size: int) -> np.ndarray:
        """Landmarks in the crops of some frames, float32 (T, 68, 2), as exact as a head moves evenly between two looks.

        Args:
            indices: of the frames.
            size: side of the crops, pixels; the landmarks are in pixels of them.

        Returns:
            NaN where the detector did not see the face.
        """
        at = np.asarray(indices)
        first = max(0, np.searchsorted(self.looks, at.min(), side="right") - 1)
        near = slice(first, np.searchsorted(self.looks, at.max()) + 1)  # an hour has thousands of looks
        points = self.square.map(boxes.between(self.looks[near], self.points[near], at), size)
        return np.where(self.seen[at, None, None], points, np.nan)

    def whole(self, index: int) -> tuple[np.ndarray, Square]:
        """One frame at the video's own size, uint8 (H, W, 3), and the box in it."""
        full = video.probe(self.path)
        reader = self._stream(full, start=index)
        frame = next(reader, None)
        reader.close()
        if frame is None:
            raise UserError(f"{self.path}: frame {index} cannot be read a second time", fix="check the file")
        grow = full.width / self.info.width
        return frame, Square(*(grow * value for value in (self.square.x0, self.square.y0, self.square.side)))


class ChosenTracker(faces.FaceTracker):
    """Follows the K-th face from the left of the first frame in which K faces are seen, and no other one.

    Args:
        min_face: smallest size of a face, pixels.
        number: K, counted from 1.
    """

    def __init__(self, min_face: float, number: int) -> None:
        super().__init__(min_face)
        self.number, self.most = number, 0
        self.wanted = max(number, 2)  # one face alone may have a smaller one to its left

    def see(self, frame: np.ndarray) -> tuple[faces.Face | None, list[faces.Face]]:
        if self.last is None:
            first, others = super().see(frame)
            row = sorted([first, *others] if first else others, key=lambda face: face.box[0])
            self.most = max(self.most, len(row))
            self.last = row[self.number - 1] if self.number <= len(row) else None
            return self.last, [face for face in row if face is not self.last]
        before = self.last
        face, others = super().see(frame)
        if face is not None and not _near(face, before):
            self.last = before  # somebody else
            return None, [face, *others]
        return face, others


def _near(face: faces.Face, before: faces.Face) -> bool:
    size = max(face.size, before.size)
    return all(
        abs(face.box[k] + face.box[k + 2] - before.box[k] - before.box[k + 2]) / 2 <= _NEAR * size for k in (0, 1)
    )


def survey(
    path: str | os.PathLike,
    params: Params,
    *,
    face: int | None = None,
    name: str = "video",
    watch: Watch | None = None,
) -> Footage:
    """Find the one face of a video.

    Args:
        path: the video.
        params: of the pipeline: ``data.crop``, ``data.fps``.
        face: K follows the K-th face from the left of the first frame that shows as many; None the largest.
        name: what the progress bar calls the video.
        watch: called after every frame; may raise to stop.

    Raises:
        UserError: no face in it, fewer faces than ``face``, or a second face beside the followed one.
    """
    path = Path(path)
    info, _ = working_size(video.probe(path))
    crop, resample = params.data.crop, params.data.fps
    if resample is None and video.drift(path, info.fps) > MOST_DRIFT_S:
        # frames that do not come at an even rate would run away from the sound
        info = replace(info, fps=min(info.fps, 60.0))
        resample = info.fps
    tracker = faces.FaceTracker(crop.min_face) if face is None else ChosenTracker(crop.min_face, face)
    detections, n_frames, last = [], 0, None
    total = round(info.duration * resample) if resample else info.n_frames
    with tqdm(total=total or None, desc=f"{name}: finding the face", unit="frame", disable=None) as bar:
        for last in video.stream(path, info, fps=resample):
            if n_frames % crop.detect_every == 0:
                detections.append(boxes.detect_in_frame(n_frames, last, tracker))
            n_frames += 1
            bar.update()
            if watch is not None:
                watch(f"{name}: finding the face", n_frames, total or n_frames)
    if last is not None and detections[-1].index != n_frames - 1:
        detections.append(boxes.detect_in_frame(n_frames - 1, last, tracker))
    if not any(one.box is not None for one in detections):
        if isinstance(tracker, ChosenTracker) and tracker.most:
            raise UserError(f"{path}: no face {face}", allowed=f"1 to {tracker.most}, counted from the left")
        raise UserError(f"{path}: no face was found in it", allowed=f"a face of at least {crop.min_face} pixels")
    square = boxes.square_box(detections, info.height, info.width, crop.margin)
    try:
        boxes.check_rivals(detections, square)
    except Rejected as reason:
        fix = "choose another one with --face or --driving-face, or cut the video to one person"
        raise UserError(f"{path}: {reason}", allowed="one person", fix=fix) from reason
    seen = boxes.reliable_frames(detections, n_frames)
    found = [one for one in detections if one.points is not None]
    looks, points = np.array([one.index for one in found]), np.array([one.points for one in found])
    return Footage(path, info, resample or info.fps, resample, n_frames, square, seen, looks, points)
