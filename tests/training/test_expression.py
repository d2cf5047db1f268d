"""Pairs of frames of one face, and what landmarks say of the motion between them, against closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from head3d.geometry.head_model import MOVING
from head3d.training.batches import Clips
from head3d.training.expression import KNEE, Moved, expression_losses, moved_faces
from head3d.training.seeds import step_generator

SIZE, MOUTH = 64, 57  # the middle of the lower lip


class Told(nn.Module):
    """A matcher whose three levels say one motion everywhere."""

    def __init__(self, motion: tuple[float, float]) -> None:
        super().__init__()
        self.motion = torch.tensor(motion)[None, :, None, None]

    def forward(self, source: Tensor, target: Tensor) -> list[Tensor]:
        return [self.motion.expand(len(source), 2, SIZE, SIZE)] * 3


def face(turned: float = 0.0, opened: float = 0.0) -> np.ndarray:
    """Landmarks on a grid, turned about the image's centre; the lower lip is lower by ``opened`` before that."""
    points = np.stack(np.meshgrid(np.linspace(-18, 18, 17), np.linspace(-12, 12, 4)), axis=-1).reshape(68, 2)
    points[MOUTH] = 0, 16 + opened
    return points @ np.array([[np.cos(turned), np.sin(turned)], [-np.sin(turned), np.cos(turned)]]) + 32


def clip(landmarks: list[np.ndarray]) -> Clips:
    """Black frames with a soft white dot on the lower lip."""
    y, x = np.mgrid[:SIZE, :SIZE]
    dots = [np.exp(-((x - p[MOUTH, 0]) ** 2 + (y - p[MOUTH, 1]) ** 2) / 8) * 255 for p in landmarks]
    frames = np.repeat(np.stack(dots)[..., None], 3, axis=-1).astype(np.uint8)
    return Clips([frames], [frames[..., 0]], None, 10.0, 1.0)


def test_the_lip_lies_where_its_motion_leads() -> None:
    landmarks = [face(), face(turned=0.2, opened=6.0)]
    lip = MOVING.index(MOUTH)
    for seed in range(3):
        moved = moved_faces(clip(landmarks), [np.stack(landmarks)], [0], [[0, 1]], 0.0, step_generator(seed, 0))
        assert torch.allclose(moved.places[0, lip], torch.from_numpy(landmarks[1][MOUTH]).float())
        dot = moved.source[0, 0]
        rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        seen = torch.stack([(dot * at).sum() / dot.sum() for at in (columns, rows)])
        assert torch.allclose(seen, (moved.places + moved.motion)[0, lip], atol=0.2)
        # The turn is taken out, the lip's own way is left: six pixels, and the made-up error of the pose.
        assert 2 < float(moved.motion[0, lip].norm()) < 10
        assert float(moved.motion[0].norm(dim=-1).median()) < 4
        assert torch.equal(moved.target[0, 0], torch.from_numpy(clip(landmarks).frames[0][1, ..., 0]) / 255)


def test_error_of_landmarks() -> None:
    zeros, places = torch.zeros(2, 3, SIZE, SIZE), torch.full((2, 5, 2), 20.0)
    motion = torch.tensor((1.5, -0.5)).expand(2, 5, 2)
    moved = Moved(zeros, zeros, places, motion)
    right = expression_losses(Told((1.5, -0.5)), moved, (0.25, 0.5, 1.0))  # type: ignore[arg-type]
    assert float(right["loss"]) == pytest.approx(0, abs=1e-3)
    off = expression_losses(Told((4.5, 3.5)), moved, (0.25, 0.5, 1.0))  # type: ignore[arg-type]
    assert float(off["landmark_error"]) == pytest.approx(5, abs=1e-3)
    knee = KNEE * SIZE
    assert float(off["loss"]) == pytest.approx(1.75 * knee * (5 - knee / 2), abs=1e-2)  # Huber's loss beyond its knee


def test_frames_without_a_face_teach_nothing() -> None:
    landmarks = [face(), np.full((68, 2), np.nan)]
    moved = moved_faces(
        clip([face(), face()]), [np.stack(landmarks)], [0, 0], [[0, 1], [0, 0]], 0.0, step_generator(0, 0)
    )
    assert moved.motion[0].isnan().all()
    assert moved.motion[1].isfinite().all()
    told = Told((3.0, 4.0))
    both, one = (expression_losses(told, part, (1.0, 1.0, 1.0)) for part in (moved, moved.rows(slice(1, 2))))  # type: ignore[arg-type]
    assert float(both["loss"]) == pytest.approx(float(one["loss"]), rel=1e-5)
    none = expression_losses(told, moved.rows(slice(0, 1)), (1.0, 1.0, 1.0))  # type: ignore[arg-type]
    assert float(none["loss"]) == 0
