"""What can be seen of a face in each frame of a video: whether it is found, 68 landmarks, who it is, where it looks.

Every measure of motion and identity is computed from this (docs/metrics.md); pixels are looked at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from head3d.data.boxes import smooth_landmarks
from head3d.data.follower import Follower
from head3d.geometry import Pose, intrinsics
from head3d.geometry.pnp import solve_pnp
from head3d.models.embedding import DIMENSIONS, aligned, embed

FACES_AT_ONCE = 16  # embedded together
# Poses are fitted in a view of this size in which the face of the whole video has this size (larger side of its
# landmarks' box): what a frame's size and the place of the face in it are then changes no pose.
VIEW, FACE = 128, 64
FOV_DEG, DISTANCE_M = 10.0, 1.0  # the camera of Eq. 2


@dataclass(frozen=True)
class Observed:
    """A video of T frames as the measures see it; what was not found is NaN.

    Attributes:
        landmarks: (T, 68, 2), pixels (x, y) of the frame.
        identity: (T, D), unit vectors.
        pose: of the head, about its centre, in the view of :func:`view_of`.
        points: (T, 68, 2), the landmarks in that view, smoothed over three frames.
    """

    landmarks: np.ndarray
    identity: np.ndarray
    pose: Pose
    points: np.ndarray

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def found(self) -> np.ndarray:
        """In which frames (T,) a face was found."""
        return ~np.isnan(self.landmarks[:, 0, 0])


def observe(frames: Iterable[np.ndarray], device: str | torch.device = "cpu") -> Observed:
    """Look at every frame of a video, uint8 (H, W, 3) RGB, in order; the largest face of the first is followed."""
    observer = Observer(device)
    for frame in frames:
        observer.see(frame)
    return observer.observed()


class Observer:
    """What :func:`observe` does, a frame at a time; it keeps some hundred numbers of each frame and no picture."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._device, self._follower = device, Follower()
        self._points: list[np.ndarray] = []
        self._identity: list[np.ndarray] = []
        self._faces: list[tuple[int, np.ndarray]] = []  # number of the frame, aligned face, until a batch is full

    def see(self, frame: np.ndarray) -> None:
        """Look at the next frame, uint8 (H, W, 3)."""
        found = self._follower.see(frame)
        self._identity.append(np.full(DIMENSIONS, np.nan, np.float32))
        if found is not None:
            self._faces.append((len(self._points), aligned(frame, found)))
        self._points.append(np.full((68, 2), np.nan, np.float32) if found is None else found)
        if len(self._faces) == FACES_AT_ONCE:
            self._embed()

    def observed(self) -> Observed:
        """All that was seen."""
        self._embed()
        landmarks = np.stack(self._points) if self._points else np.empty((0, 68, 2), np.float32)
        identity = np.stack(self._identity) if self._points else np.empty((0, DIMENSIONS), np.float32)
        return located(landmarks, identity)

    def _embed(self) -> None:
        if self._faces:
            vectors = embed(np.stack([face for _, face in self._faces]), self._device).numpy()
            for (number, _), vector in zip(self._faces, vectors, strict=True):
                self._identity[number] = vector
            self._faces.clear()


def located(landmarks: np.ndarray, identity: np.ndarray) -> Observed:
    """The same with poses, from the landmarks of all frames."""
    # Smoothed as those that stage 1 learns from: of two videos with the very same motion, one a little blurred or seen
    # a few pixels beside, unsmoothed landmarks differ by half of what a still video misses.
    points = view_of(smooth_landmarks(landmarks))
    pose, _ = solve_pnp(torch.from_numpy(points), camera(), DISTANCE_M)
    return Observed(landmarks, identity, pose, points)


def camera() -> torch.Tensor:
    """Camera matrix of the view (3, 3)."""
    return intrinsics(VIEW, VIEW, FOV_DEG)


def view_of(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (T, 68, 2) moved and scaled by one shift and one factor for the whole video, so that the median face
    stands in the middle of the view and is ``FACE`` pixels large."""
    found = landmarks[~np.isnan(landmarks[:, 0, 0])]
    if not len(found):
        return landmarks.astype(np.float32)
    low, high = found.min(1), found.max(1)
    scale = FACE / np.median((high - low).max(1))
    middle = np.median((low + high) / 2, axis=0)
    return ((landmarks - middle) * scale + (VIEW - 1) / 2).astype(np.float32)
