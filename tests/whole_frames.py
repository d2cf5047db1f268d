"""Videos without a face, taken for surveyed ones: the whole frame is the crop."""

from pathlib import Path

import numpy as np

from head3d.data.boxes import Square
from head3d.data.footage import Footage
from head3d.data.video import VideoInfo


def whole_frames(path: Path, info: VideoInfo) -> Footage:
    """A video whose crops are its frames of 64 pixels, with a face in all of them whose landmarks nobody knows."""
    nowhere = np.full((1, 68, 2), np.nan)
    seen = np.ones(info.n_frames, bool)
    return Footage(path, info, info.fps, None, info.n_frames, Square(0, 0, 64), seen, np.array([0]), nowhere)
