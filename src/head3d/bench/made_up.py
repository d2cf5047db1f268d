"""Clips that nobody filmed, in the layout of :mod:`head3d.data.store`: to time what does not look at the content."""

from pathlib import Path

import numpy as np
import torch

from head3d.data.store import COLUMNS, MASKED, ClipRecord, pixels_digest, write_records
from head3d.geometry import intrinsics, pose_from_euler, project
from head3d.geometry.head_model import landmark_points


def write_clips(root: Path, clips: int, size: int, length: int, fov_deg: float = 10.0, distance_m: float = 1.0) -> None:
    """Write a store of clips of noise, with a round head mask and the landmarks of a turning head.

    Args:
        root: the directory ``data`` to be.
        clips: how many, all of the split ``train``.
        size: of the square frames, pixels.
        length: frames in a clip.
        fov_deg: the camera's field of view.
        distance_m: of the head.
    """
    draw = np.random.default_rng(0)
    (root / "clips/shard-0").mkdir(parents=True)
    (root / "masks").mkdir()
    y, x = np.mgrid[:size, :size] / size - 0.5
    head = ((x / 0.3) ** 2 + (y / 0.38) ** 2 < 1).astype(np.uint8) * 255
    numbers, model = landmark_points()
    poses = pose_from_euler(torch.linspace(-20, 20, length))
    points = torch.full((length, 68, 2), size / 2)
    seen = poses.apply((model + torch.tensor((0.0, 0.0, distance_m))).expand(length, -1, -1), distance_m)
    points[:, numbers] = project(seen, intrinsics(size, size, fov_deg))
    np.save(root / "clips/shard-0/frames.npy", draw.integers(0, 256, (clips, length, size, size, 3), np.uint8))
    np.save(root / "masks/shard-0.npy", np.broadcast_to(head, (clips, length, size, size)))
    np.save(root / "clips/shard-0/landmarks.npy", np.broadcast_to(points.numpy(), (clips, *points.shape)))
    values: dict = dict.fromkeys(COLUMNS, 0.0) | {
        "shard": 0, "source": "made-up", "video": "v", "person": "p", "start_frame": 0, "fps": 25.0, "status": "ok",
        "split": "train", "pixels_sha256": "0" * 64, "labels_sha256": "0" * 64,
    }  # fmt: skip
    rows = [ClipRecord(**{**values, "clip_id": f"c{i:05d}", "row": i}) for i in range(clips)]
    write_records(root / "manifest.csv", rows)
    (root / "masks/shard-0").with_suffix(MASKED).write_text(pixels_digest(rows))
