"""From surveyed videos to output frames, in constant memory: references, driven frames, and how they are shown."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image

from head3d.data.boxes import Square
from head3d.data.footage import Footage
from head3d.errors import UserError
from head3d.images import to_frames, to_tensor
from head3d.parallel import MOST_WORKERS, in_order, workers

if TYPE_CHECKING:
    from head3d.api import Head3D, Subject
    from head3d.sections.choices import Choice, Motion

SAMPLE = 60  # frames, evenly over the subject video, of which the most diverse are chosen
LEAST_HEAD = 0.005  # share of the crop under which its head mask shows no head
FIRST_SHARE = 0.08  # of the crop that a head takes, until heads of this video have been measured
MOST_TRIES = 16  # frames with a face, evenly over a driving video, in which a head is looked for to begin with
LEAST_OF_USUAL = 0.25  # the same relative to the usual share, where the detector does not see a face either
FEATHER = 0.08  # width of a pasted square's seam, relative to its side


def reference_frames(model: Head3D, footage: Footage, count: int, choice: Choice, seed: int) -> list[int]:
    """Which frames of the subject video are the references; only those in which the detector sees the face.

    Args:
        model: for the poses that ``diverse`` compares.
        footage: of the subject.
        count: N.
        choice: ``random`` draws from the whole video with the seed. ``diverse`` takes, of an even sample, the frame
            nearest to the mean rotation and then always the one that is turned farthest from all taken so far.
        seed: of ``random``.

    Raises:
        UserError: fewer frames than ``count`` show the face.
    """
    seen = np.flatnonzero(footage.seen)
    if count > len(seen):
        allowed = f"at most {len(seen)}, the frames of {footage.path} that show the face"
        raise UserError(f"{count} reference frames are wanted", allowed=allowed, fix="give --references")
    if choice == "random":
        order = torch.randperm(footage.n_frames, generator=torch.Generator().manual_seed(seed)).tolist()
        return [index for index in order if footage.seen[index]][:count]
    sample = seen[np.unique(np.linspace(0, len(seen) - 1, max(SAMPLE, count)).round().astype(int))]
    crops = to_tensor(footage.crops_at(sample.tolist(), model.image_size))
    masks = model.driving_masks(crops, footage.landmarks(sample.tolist(), model.image_size))
    rotations = model.pose(crops, masks).rotation.cpu()
    return [int(sample[index]) for index in most_diverse(rotations, count)]


def most_diverse(rotations: torch.Tensor, count: int) -> list[int]:
    """Farthest-point choice among rotations (M, 3, 3), beginning with the one nearest to their mean."""
    # The trace of R^T R' grows as the angle between two rotations shrinks.
    alike = torch.einsum("bij,nij->bn", rotations, rotations)
    chosen = [int(torch.einsum("bij,ij->b", rotations, rotations.mean(dim=0)).argmax())]
    while len(chosen) < count:
        nearest = alike[chosen].max(dim=0).values
        nearest[chosen] = torch.inf
        chosen.append(int(nearest.argmin()))
    return chosen


def make_subject(model: Head3D, footage: Footage, count: int, choice: Choice, seed: int) -> tuple[Subject, list[int]]:
    """The subject with its canonical head, and the index in the video of each of its references; s_ref is the first."""
    picks = reference_frames(model, footage, count, choice, seed)
    crops = to_tensor(footage.crops_at(picks, model.image_size))
    return model.subject_of(crops, model.masks(crops, footage.landmarks(picks, model.image_size))), picks


class Batch(NamedTuple):
    """Some frames of a driving video.

    Attributes:
        crops: uint8 (S, S, 3) each.
        frames: the same as a tensor (B, 3, S, S) in [0, 1].
        masks: their head masks (B, 1, S, S).
    """

    crops: list[np.ndarray]
    frames: torch.Tensor
    masks: torch.Tensor


class Drive:
    """A subject driven by a video, ``batch`` frames at a time.

    Where no head is found the last output is held; before the first head, the output of the first frame with a face.

    Args:
        model: with a fusion network.
        subject: from :func:`make_subject`.
        footage: of the driving video.
        motion: relative or absolute.
        batch: driving frames at a time; it does not change the result.

    Attributes:
        subject: with s_ref chosen for this driving video.
        lost: indices of the frames in which no head was found so far.
    """

    def __init__(self, model: Head3D, subject: Subject, footage: Footage, motion: Motion, batch: int) -> None:
        self.model, self.footage, self.batch = model, footage, batch
        self.motion: Motion = motion
        self.lost: list[int] = []
        self._usual, self._counted = FIRST_SHARE, 0
        self._given, self._read = 0, 0  # frames that were read ahead, and those of them that were judged
        self._crops = footage.crops(model.image_size)
        self._first = self._parse(next(self._read_ahead()))
        good, driving, masks = self._judge(self._first), self._first.frames, self._first.masks
        self._first_good = good
        begins = bool(good[0]) and bool(footage.seen[0])  # with a face: s_ref and the motion's start need one
        if not begins:
            driving, masks = self._first_face()
        pose = model.pose(driving[:1], masks[:1])
        self.subject = model.choose_reference(subject, pose, motion)
        self._start = model.start(self.subject, driving[:1], pose) if motion == "relative" else None
        self._held = None if good[0] else self._animate(driving, masks)[0]

    def _first_face(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A frame early in the video in which both the detector sees a face and the parser a head, and its mask."""
        seen = np.flatnonzero(self.footage.seen)
        tries = seen[np.unique(np.linspace(0, len(seen) - 1, MOST_TRIES).round().astype(int))]
        for some in (tries[:1], tries[1:]):  # the first is mostly enough; for the others the whole video is read
            if len(some):
                size = self.model.image_size
                crops = to_tensor(self.footage.crops_at(some.tolist(), size))
                masks = self.model.driving_masks(crops, self.footage.landmarks(some.tolist(), size))
                good = np.flatnonzero((masks.mean(dim=(1, 2, 3)) >= LEAST_HEAD).numpy(force=True))
                if len(good):
                    return crops[good[0]][None], masks[good[0]][None]
        raise UserError(f"{self.footage.path}: faces are seen in it, but no head", fix="give a video of one head")

    def _animate(self, driving: torch.Tensor, masks: torch.Tensor) -> np.ndarray:
        made = self.model.animate(self.subject, driving, masks, motion=self.motion, first=self._start)
        return to_frames(made.frames)

    def _read_ahead(self) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
        """The crops of one batch after the other, and the landmarks in them."""
        while crops := list(itertools.islice(self._crops, self.batch)):
            indices = range(self._given, self._given + len(crops))
            self._given += len(crops)
            yield crops, self.footage.landmarks(indices, self.model.image_size)

    def _parse(self, read: tuple[list[np.ndarray], np.ndarray]) -> Batch:
        crops, landmarks = read
        frames = to_tensor(np.stack(crops))
        return Batch(crops, frames, self.model.driving_masks(frames, landmarks))

    def _judge(self, batch: Batch) -> np.ndarray:
        """Which frames of the next batch show a head; batches are judged in their order."""
        good = np.zeros(len(batch.crops), bool)
        for offset, share in enumerate(batch.masks.mean(dim=(1, 2, 3)).tolist()):
            seen = bool(self.footage.seen[self._read + offset])
            good[offset] = share >= LEAST_HEAD and (seen or share >= LEAST_OF_USUAL * self._usual)
            if good[offset] and seen:
                self._counted += 1
                self._usual += (share - self._usual) / min(self._counted, 100)
            if not good[offset]:
                self.lost.append(self._read + offset)
        self._read += len(batch.crops)
        return good

    def _drive(self, judged: tuple[Batch, np.ndarray]) -> tuple[list[np.ndarray], np.ndarray, Iterator[np.ndarray]]:
        """The crops of a batch, which of them show a head, and the outputs of those."""
        batch, good = judged
        shown = torch.from_numpy(good)
        return batch.crops, good, iter(self._animate(batch.frames[shown], batch.masks[shown]) if good.any() else [])

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each driving crop with its output, both uint8 (S, S, 3); once."""
        with workers(self.model.compute.device) as pool:
            later = (
                (batch, self._judge(batch)) for batch in in_order(pool, self._parse, self._read_ahead(), MOST_WORKERS)
            )
            batches = itertools.chain([(self._first, self._first_good)], later)
            for crops, good, made in in_order(pool, self._drive, batches, MOST_WORKERS):
                for crop, fine in zip(crops, good, strict=True):
                    if fine:
                        self._held = next(made)
                    assert self._held is not None
                    yield crop, self._held

    def lost_line(self) -> str | None:
        """What to say of frames without a head; None if there were none."""
        if not self.lost:
            return None
        runs: list[list[int]] = []
        for index in self.lost:
            if runs and index == runs[-1][1] + 1:
                runs[-1][1] = index
            else:
                runs.append([index, index])
        fps = self.footage.fps
        named = [f"{first / fps:.1f}-{(last + 1) / fps:.1f} s" for first, last in runs[:3]]
        more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
        return f"no head found in {len(self.lost)} of {self._read} frames ({', '.join(named)}{more}); held"


class Paste:
    """Puts results back into a whole frame.

    Args:
        frame: uint8 (H, W, 3), the subject's frame that the results stand in.
        square: the box in it.
        size: side of the results, pixels.
    """

    def __init__(self, frame: np.ndarray, square: Square, size: int) -> None:
        height, width = frame.shape[:2]
        self.frame = frame
        left, right = max(0, int(np.ceil(square.x0))), min(width, int(square.x0 + square.side))
        top, bottom = max(0, int(np.ceil(square.y0))), min(height, int(square.y0 + square.side))
        self._rows, self._columns = slice(top, bottom), slice(left, right)
        scale = size / square.side
        x0, x1, y0, y1 = (
            float(np.clip((value - corner) * scale, 0, size))
            for value, corner in ((left, square.x0), (right, square.x0), (top, square.y0), (bottom, square.y0))
        )
        self._box = (x0, y0, x1, y1)
        # Where the square ends at the frame's own edge there is no seam.
        across = _ramp(right - left, left > 0, right < width, FEATHER * square.side)
        down = _ramp(bottom - top, top > 0, bottom < height, FEATHER * square.side)
        self._weight = np.minimum(down[:, None], across[None, :])[..., None]

    def __call__(self, result: np.ndarray) -> np.ndarray:
        """The whole frame, uint8 (H, W, 3), with a result of (size, size, 3) in it."""
        target = (self._weight.shape[1], self._weight.shape[0])
        large = Image.fromarray(result).resize(target, Image.Resampling.BICUBIC, box=self._box)
        whole, under = self.frame.copy(), self.frame[self._rows, self._columns]
        mixed = under + self._weight * (np.asarray(large, np.float32) - under)
        whole[self._rows, self._columns] = mixed.round().astype(np.uint8)
        return whole


def _ramp(length: int, low: bool, high: bool, feather: float) -> np.ndarray:
    """Weights (length,) in [0, 1], rising smoothly from the ends that are seams."""
    place = np.arange(length) + 0.5
    far = np.full(length, np.inf)
    to_seam = np.minimum(place if low else far, length - place if high else far)
    part = np.clip(to_seam / max(feather, 1.0), 0, 1)
    return (part * part * (3 - 2 * part)).astype(np.float32)


def side_by_side(*pictures: np.ndarray) -> np.ndarray:
    """Pictures uint8 (H, W, 3) in a row, as high as the highest."""
    height = max(len(picture) for picture in pictures)
    fitted = []
    for picture in pictures:
        size = (round(picture.shape[1] * height / len(picture)), height)
        fitted.append(np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)))
    return np.concatenate(fitted, axis=1)
