"""How faces move: pairs of frames of one clip, and how far landmarks say that brows, eyes and mouth have gone.

Motions that are made up bend a face, but never open its mouth or close its eyes. Here real frames do, and 68 landmarks
tell the matcher what has become of what. The first frame is turned, scaled and shifted onto the second by a similarity,
much as the head carries the reference in stage 3: what is left is the expression, and the turn out of the image plane.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from head3d.geometry import fit_similarity, pixel_grid, warp
from head3d.geometry.head_model import MOVING
from head3d.models.matching import Matcher
from head3d.ranks import current
from head3d.training.batches import Clips, jitter_colors

STIFF = (*range(27, 36), 36, 39, 42, 45)  # landmarks that a similarity is fitted to: nose and corners of the eyes
# Standard deviations of the fit's made-up error, as stage 3 has errors of the pose; shifts in shares of the side.
SHIFT, TURN = 1 / 128, 0.01
KNEE = 2 / 128  # of the side: a landmark's error costs its square up to here, then in proportion: dlib can be far off


@dataclass(frozen=True)
class Moved:
    """Pairs of frames of one face.

    Attributes:
        source: the first frames, on the second ones as far as a similarity goes (B, 3, H, W).
        target: the second frames, in other colours (B, 3, H, W).
        places: landmarks of brows, eyes and mouth in ``target`` (B, K, 2), pixels.
        motion: from there to where they are in ``source`` (B, K, 2), pixels; NaN where no face was found.
    """

    source: Tensor
    target: Tensor
    places: Tensor
    motion: Tensor

    def rows(self, which: slice) -> "Moved":
        """Some of the pairs."""
        return Moved(*(x[which] for x in (self.source, self.target, self.places, self.motion)))

    def to(self, device: torch.device) -> "Moved":
        """The same on a device."""
        return Moved(*(x.to(device) for x in (self.source, self.target, self.places, self.motion)))


def moved_faces(
    clips: Clips,
    landmarks: Sequence[np.ndarray],
    clip_indices: list[int],
    frame_indices: list[list[int]],
    jitter: float,
    rng: torch.Generator,
) -> Moved:
    """Pairs out of training clips.

    Args:
        clips: the clips.
        landmarks: of each clip (T, 68, 2), pixels; NaN where no face was found.
        clip_indices: clip of each pair.
        frame_indices: its two frames.
        jitter: of the second frame's colours, as in stage 3.
        rng: randomness, for all pairs of the step.

    Returns:
        As many pairs as ``clip_indices``.
    """
    frames = clips.load(clip_indices, frame_indices).frames
    size = frames.shape[-1]
    grid = pixel_grid(size, size, frames).reshape(-1, 2)
    error = torch.randn(len(clip_indices), 2, 3, generator=rng) * torch.tensor((TURN, TURN, SHIFT * size))
    flows, places, motions = [], [], []
    for clip, pick, off in zip(clip_indices, frame_indices, error, strict=True):
        first, second = (np.asarray(landmarks[clip][frame], np.float64) for frame in pick)
        known = np.isfinite(first + second).all()
        back = torch.eye(2, 3)  # from the second frame's places to the first one's
        if known:
            back = torch.from_numpy(fit_similarity(second[STIFF, :], first[STIFF, :])).float() + off
        flows.append((grid @ back[:, :2].T + back[:, 2] - grid).T.reshape(2, size, size))
        place, at_first = (torch.from_numpy(points[MOVING, :]).float() for points in (second, first))
        there = torch.linalg.solve(back[:, :2], (at_first - back[:, 2]).T).T  # in the first frame once it is moved
        places.append(place)
        motions.append(there - place)
    target = jitter_colors(frames[:, 1:], jitter, rng)[:, 0]
    return Moved(warp(frames[:, 0], torch.stack(flows)), target, torch.stack(places), torch.stack(motions))


def expression_losses(matcher: Matcher, moved: Moved, weights: Sequence[float]) -> dict[str, Tensor]:
    """Errors of the flows at landmarks, pixels of the image.

    Args:
        matcher: Phi's matcher.
        moved: pairs of frames.
        weights: of the levels' errors, coarsest first.

    Returns:
        ``loss``, Huber's of the distances, and ``landmark_error``, the mean distance at the finest level, pixels. Both
        are 0 where no pair has landmarks.
    """
    size = moved.source.shape[-1]
    known = moved.motion.isfinite().all(dim=-1)
    places, motion = moved.places.nan_to_num(), moved.motion.nan_to_num()
    total = current().share_of_count(known.sum())
    loss, distance = motion.new_zeros(()), motion.new_zeros(())
    for weight, flow in zip(weights, matcher(moved.source, moved.target), strict=True):
        at = F.grid_sample(flow, (places * (2 / (size - 1)) - 1)[:, None], "bilinear", "border", align_corners=True)
        at = at[:, :, 0].transpose(1, 2)
        # A root that has a slope where nothing is off.
        distance = ((at - motion).square().sum(dim=-1) + 1e-8).sqrt()
        costs = F.huber_loss(distance, torch.zeros_like(distance), reduction="none", delta=KNEE * size)
        loss = loss + weight * (costs * known).sum() / total
    return {"loss": loss, "landmark_error": ((distance * known).sum() / total).detach()}
