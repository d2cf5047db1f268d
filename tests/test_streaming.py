"""Choosing references, pasting, and comparing, on cases with known answers."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from head3d import streaming
from head3d.data.boxes import Square
from head3d.errors import UserError
from head3d.geometry import Pose, pose_from_euler
from head3d.sections.choices import Choice


def test_most_diverse_takes_the_middle_and_then_the_extremes() -> None:
    yaw = torch.tensor([0.0, 1.0, -1.0, 30.0, 29.0, -35.0, 2.0])
    zero = torch.zeros(7)
    rotations = pose_from_euler(yaw, zero, zero, translation=torch.zeros(7, 3)).rotation
    assert set(streaming.most_diverse(rotations, 3)[1:]) == {3, 5}
    assert sorted(streaming.most_diverse(rotations, 7)) == list(range(7))


@pytest.mark.parametrize("choice", ["random", "diverse"])
def test_references_are_frames_with_a_face(choice: Choice) -> None:
    def pose(frames: torch.Tensor, masks: torch.Tensor) -> Pose:
        assert masks[:, 0, 0].tolist() == list(range(1, 2 * len(frames), 2)), "each frame's own landmarks"
        zero = torch.zeros(len(frames))
        return pose_from_euler(torch.arange(len(frames)).float(), zero, zero)

    model: Any = SimpleNamespace(image_size=8, pose=pose, driving_masks=lambda frames, landmarks: landmarks)
    footage: Any = SimpleNamespace(
        seen=np.arange(40) % 2 == 1,
        n_frames=40,
        path="a.mp4",
        crops_at=lambda indices, size: np.zeros((len(indices), size, size, 3), np.uint8),
        landmarks=lambda indices, size: torch.tensor(indices)[:, None, None].expand(-1, 68, 2),
    )
    picks = streaming.reference_frames(model, footage, 10, choice, seed=3)
    assert len(set(picks)) == 10 and all(footage.seen[pick] for pick in picks)
    with pytest.raises(UserError, match=r"21 reference frames are wanted; allowed: at most 20, the frames of a\.mp4"):
        streaming.reference_frames(model, footage, 21, choice, seed=3)


def test_paste_fills_the_middle_and_fades_at_the_seam() -> None:
    frame = np.full((60, 80, 3), 50, np.uint8)
    whole = streaming.Paste(frame, Square(20.0, 10.0, 40.0), 32)(np.full((32, 32, 3), 250, np.uint8))
    assert whole.shape == frame.shape
    assert (whole[14:46, 24:56] == 250).all()
    assert (whole[:10] == 50).all()
    assert (whole[:, :20] == 50).all()
    assert (whole[50:] == 50).all()
    edge = whole[30, 20:25, 0].astype(int)
    assert (np.diff(edge) >= 0).all()
    assert 50 <= edge[0] < 80


def test_paste_has_no_seam_at_the_frames_own_edge() -> None:
    """A square that reaches out of the frame shows the part of the result that is inside."""
    ramp = np.repeat(np.arange(0, 200, 5, dtype=np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)
    whole = streaming.Paste(np.zeros((40, 30, 3), np.uint8), Square(-5.0, 0.0, 40.0), 40)(ramp)
    assert np.abs(whole[20, :, 0].astype(int) - np.arange(25, 175, 5)).max() <= 1


def test_side_by_side_fits_heights() -> None:
    row = streaming.side_by_side(np.zeros((60, 80, 3), np.uint8), np.full((30, 30, 3), 9, np.uint8))
    assert row.shape == (60, 140, 3)
    assert (row[:, 80:] == 9).all()


def nowhere(indices: Sequence[int], size: int) -> np.ndarray:
    return np.full((len(indices), 68, 2), np.nan)


def test_a_head_that_no_detector_sees_must_be_about_as_large_as_usual() -> None:
    """What the parser finds without a face is mostly a speck of a wall: then the last output is held."""
    shares = [0.2, 0.1, 0.3, 0.3, 0.04, 0.06, 0.004]  # usual is the mean of those with a face, not the last
    seen = [True, True, True, False, False, False, True]
    crops = [np.full((64, 64, 3), number, np.uint8) for number in range(len(shares))]

    def masks(frames: torch.Tensor, landmarks: np.ndarray) -> torch.Tensor:
        each = [shares[round(float(frame.mean()) * 255)] for frame in frames]
        return torch.tensor(each)[:, None, None, None].expand(-1, 1, 64, 64)

    model: Any = SimpleNamespace(
        image_size=64,
        compute=SimpleNamespace(device=torch.device("cpu")),
        driving_masks=masks,
        pose=lambda frames, masks: "pose",
        choose_reference=lambda subject, pose, motion: subject,
        animate=lambda subject, frames, masks, motion, first: SimpleNamespace(frames=frames),
    )
    footage: Any = SimpleNamespace(seen=np.array(seen), crops=lambda size: iter(crops), landmarks=nowhere)
    subject: Any = "subject"
    drive = streaming.Drive(model, subject, footage, "absolute", batch=3)
    assert [int(shown.mean()) for _, shown in drive] == [0, 1, 2, 3, 3, 5, 5]
    assert drive.lost == [4, 6]  # a fifth of the usual size; next to nothing, face or not


def test_relative_motion_starts_at_a_frame_with_a_face() -> None:
    """A driver who begins turned away shows a head, but nothing that a face could be laid on."""
    crops = [np.full((64, 64, 3), 10 * number, np.uint8) for number in range(6)]
    started: list[float] = []

    def masks(frames: torch.Tensor, landmarks: np.ndarray) -> torch.Tensor:
        assert (landmarks[:, 0, 0] * 10).tolist() == (frames[:, 0, 0, 0] * 255).round().tolist()
        return torch.full((len(frames), 1, 64, 64), 0.3)  # a head is in every frame

    def start(subject: object, frame: torch.Tensor, pose: object) -> str:
        started.append(round(float(frame.mean()) * 255))
        return "start"

    model: Any = SimpleNamespace(
        image_size=64,
        compute=SimpleNamespace(device=torch.device("cpu")),
        driving_masks=masks,
        pose=lambda frames, masks: "pose",
        choose_reference=lambda subject, pose, motion: subject,
        start=start,
        animate=lambda subject, frames, masks, motion, first: SimpleNamespace(frames=frames),
    )
    footage: Any = SimpleNamespace(
        seen=np.array([False, False, False, True, True, True]),
        crops=lambda size: iter(crops),
        landmarks=places,
        crops_at=lambda indices, size: np.stack([crops[index] for index in indices]),
    )
    subject: Any = "subject"
    drive = streaming.Drive(model, subject, footage, "relative", batch=4)
    assert started == [30]
    made = list(drive)
    assert [int(shown.mean()) for _, shown in made] == [0, 10, 20, 30, 40, 50]  # heads without a face move, too
    assert drive.lost == []
    footage.seen[:] = True
    streaming.Drive(model, subject, footage, "relative", batch=4)
    assert started == [30, 0]
    # The parser finds no head in the first two frames that have a face for the detector.
    footage.seen[:2] = False
    model.driving_masks = lambda frames, landmarks: 0.3 * (frames.mean(dim=1, keepdim=True) * 255 > 35)
    streaming.Drive(model, subject, footage, "relative", batch=4)
    assert started == [30, 0, 40]
    footage.path, model.driving_masks = "b.mp4", lambda frames, landmarks: torch.zeros(len(frames), 1, 64, 64)
    with pytest.raises(UserError, match=r"b\.mp4: faces are seen in it, but no head"):
        streaming.Drive(model, subject, footage, "relative", batch=4)


def places(indices: Sequence[int], size: int) -> np.ndarray:
    """Landmarks that say which frames they are of."""
    return np.asarray(indices)[:, None, None] * np.ones((1, 68, 2))


def test_each_batch_has_its_own_masks_and_landmarks_and_the_start_of_the_whole_video() -> None:
    levels = [50, 60, 0, 80, 90, 100]  # no head in the third
    crops = [np.full((64, 64, 3), value, np.uint8) for value in levels]
    starts: list[object] = []

    def masks(frames: torch.Tensor, landmarks: np.ndarray) -> torch.Tensor:
        of = landmarks[:, 0, 0].astype(int)
        assert [levels[index] for index in of] == (frames[:, 0, 0, 0] * 255).round().int().tolist()
        return frames[:, :1]

    def animate(subject: object, frames: torch.Tensor, masks: torch.Tensor, motion: str, first: object) -> Any:
        starts.append(first)
        return SimpleNamespace(frames=masks.expand(-1, 3, -1, -1))

    model: Any = SimpleNamespace(
        image_size=64,
        compute=SimpleNamespace(device=torch.device("cpu")),
        driving_masks=masks,
        pose=lambda frames, masks: "pose",
        choose_reference=lambda subject, pose, motion: subject,
        start=lambda subject, frame, pose: "start",
        animate=animate,
    )
    footage: Any = SimpleNamespace(seen=np.ones(6, bool), crops=lambda size: iter(crops), landmarks=places)
    subject: Any = "subject"
    drive = streaming.Drive(model, subject, footage, "relative", batch=4)
    assert [int(shown.mean()) for _, shown in drive] == [50, 60, 60, 80, 90, 100]
    assert starts == ["start", "start"]
