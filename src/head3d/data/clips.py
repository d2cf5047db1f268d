"""Which frames of a video become clips, and of which split: pure functions of counts."""

import itertools
import math
import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Window:
    """Continuous frames from ``start`` on, of a split: ``train``, ``<source>-seen`` or ``<source>-unseen``."""

    start: int
    split: str


def windows(
    name: str,
    source: str,
    unseen: bool,
    n_frames: int,
    fps: float,
    *,
    length: int,
    most: int,
    seen_fraction: float,
    gap_s: float,
    seed: int,
) -> list[Window]:
    """Clips of one video, in order: at most ``most`` for training, a quarter as many for testing on people seen.

    The last ``seen_fraction`` of the frames (but at least one clip, where the video is long enough) is test, with
    ``gap_s`` seconds between it and the training part. Clips do not overlap and are spread evenly; which of the
    possible ones are taken follows from the seed and the video's name.
    """
    rng = np.random.default_rng([seed, zlib.crc32(f"{source}/{name}".encode(errors="surrogateescape"))])
    if unseen:
        return [Window(start, f"{source}-unseen") for start in _spread(0, n_frames, length, most, rng)]
    gap = math.ceil(gap_s * fps)
    test = 0
    if seen_fraction > 0 and n_frames >= length + gap + length:  # else too short for both: all is for training
        test = min(max(round(n_frames * seen_fraction), length), n_frames - gap - length)
    end = n_frames - test - (gap if test else 0)
    chosen = [Window(start, "train") for start in _spread(0, end, length, most, rng)]
    if test:
        quarter = max(1, most // 4)
        starts = _spread(n_frames - test, n_frames, length, quarter, rng)
        chosen += [Window(start, f"{source}-seen") for start in starts]
    return chosen


def _spread(begin: int, end: int, length: int, most: int, rng: np.random.Generator) -> list[int]:
    """Starts of at most ``most`` windows within [begin, end), one drawn from each of equal strata."""
    slots = max(0, (end - begin) // length)
    if slots == 0:
        return []
    taken = min(slots, most)
    edges = [round(index * slots / taken) for index in range(taken + 1)]
    return [begin + length * int(rng.integers(low, high)) for low, high in itertools.pairwise(edges)]
