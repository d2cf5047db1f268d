"""One made-up test clip that every test of the evaluation can do in its head."""

import numpy as np
import pytest

from head3d.data.store import COLUMNS, ClipRecord, ClipStore, write_records

SIZE, LENGTH = 64, 8


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    """A clip of grey frames, ever brighter: 50, 60, ... 120 of 255."""
    root = tmp_path_factory.mktemp("data")
    (root / "clips/shard-0").mkdir(parents=True)
    (root / "masks").mkdir()
    frames = np.zeros((1, LENGTH, SIZE, SIZE, 3), np.uint8)
    frames[0] += (np.arange(LENGTH) * 10 + 50).astype(np.uint8)[:, None, None, None]
    y, x = np.mgrid[:SIZE, :SIZE]
    np.save(root / "clips/shard-0/frames.npy", frames)
    np.save(root / "clips/shard-0/landmarks.npy", np.full((1, LENGTH, 68, 2), np.nan, np.float32))
    np.save(
        root / "masks/shard-0.npy",
        np.broadcast_to(((x - 32) ** 2 + (y - 32) ** 2 < 400) * np.uint8(255), (1, LENGTH, SIZE, SIZE)),
    )
    known = {"clip_id": "c", "shard": 0, "row": 0, "source": "mini", "video": "v", "person": "p", "start_frame": 0,
             "fps": 25.0, "x0": 0.0, "y0": 0.0, "x1": 1.0, "y1": 1.0, "status": "ok", "split": "mini-seen"}  # fmt: skip
    write_records(root / "manifest.csv", [ClipRecord(**{k: known.get(k, "0" * 64) for k in COLUMNS})])
    return ClipStore(root)
