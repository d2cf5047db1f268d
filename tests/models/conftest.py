"""Real frames for the parsers."""

import numpy as np
import pytest

from head3d.assets import cache as assets
from head3d.data import boxes, video
from head3d.data.faces import FaceTracker


@pytest.fixture(scope="session")
def people() -> np.ndarray:
    """Three real frames of three people, 128 x 128."""
    found = []
    for name, index in (("single", 30), ("franck", 20), ("wolfgang", 300)):
        frame = next(iter(video.read_frames(assets.fetch(f"video-{name}"), start=index, count=1)))
        look = boxes.detect_in_frame(0, frame, FaceTracker(32))
        found.append(boxes.square_box([look], *frame.shape[:2], margin=0.3).cut(frame, 128))
    return np.stack(found)
