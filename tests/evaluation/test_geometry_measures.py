"""What is said of poses and heads on cases with known answers."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from head3d.evaluation import geometry
from head3d.geometry import Pose, pose_from_euler
from head3d.references import draw_seed
from head3d.training.batches import Batch


def poses(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Pose:
    return pose_from_euler(yaw, pitch, roll, translation=torch.zeros(len(yaw), 3))


def test_each_angle_is_told_by_itself() -> None:
    yaw, pitch, roll = torch.linspace(-30, 30, 9), torch.linspace(5, -9, 9), torch.tensor([0.0, 3, -3] * 3)
    truth = poses(yaw, pitch, roll)
    same = geometry.pose_agreement(truth, truth)
    assert [same[f"{name}_correlation"] for name in geometry.ANGLES] == [1, 1, 1]
    assert [same[f"{name}_mae_deg"] for name in geometry.ANGLES] == [0, 0, 0]
    assert same["yaw_spread_deg"] == pytest.approx(float(yaw.std()), abs=2e-3)
    other = geometry.pose_agreement(poses(yaw + 5, -pitch, roll), truth)
    assert (other["yaw_correlation"], other["yaw_mae_deg"]) == (1, 5)
    assert other["pitch_correlation"] == -1
    assert other["pitch_mae_deg"] == pytest.approx(2 * float(pitch.abs().mean()), abs=1e-3)
    assert (other["roll_correlation"], other["roll_mae_deg"]) == (1, 0)


def test_frames_whose_landmarks_are_not_trusted_count_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two clips: one frame without landmarks, one whose landmarks fit no head."""
    size, lengths = 64, (6, 8)
    truths = [poses(torch.linspace(-20, 20, n), torch.linspace(-5, 9, n), torch.linspace(4, -8, n)) for n in lengths]
    errors = torch.zeros(sum(lengths))
    errors[6 + 3] = 1 + geometry.MAX_PNP_ERROR * size

    def load(chosen: list[int], picks: list[list[int]]) -> Batch:
        (clip,), (frames,) = chosen, picks
        rotation = truths[clip].rotation.clone()
        if clip == 1:
            rotation[5] = torch.nan
        images = torch.full((1, len(frames), 3, size, size), 0.5)
        images[:, len(frames) // 2 :] = 0.75  # the half that drives
        return Batch(images, torch.ones(1, len(frames), 1, size, size), rotation[None], torch.zeros(1, len(frames), 3))

    clips = SimpleNamespace(frames=[np.zeros(n) for n in lengths], pnp_error=errors, load=load)
    clips = type("Clips", (SimpleNamespace,), {"__len__": lambda self: 2})(**vars(clips))
    monkeypatch.setattr(geometry, "load_clips", lambda *_, **__: clips)
    monkeypatch.setattr(geometry, "recurrent_canonical", lambda *_: (Head(0.7), Head(0.6)))
    monkeypatch.setattr(geometry, "replace", lambda head, depth: head)
    monkeypatch.setattr(geometry, "head_error", lambda rendered, truth: (rendered - truth.mean()).square())
    monkeypatch.setattr(geometry, "write_json", None)

    def predict(heads: Tensor) -> Any:  # wrong by 90 degrees where landmarks are not to be trusted
        if len(heads) not in lengths:
            return None
        pose = truths[lengths.index(len(heads))]
        if len(heads) == 8:
            wrong = poses(*(torch.full((8,), 90.0), torch.zeros(8), torch.zeros(8)))
            odd = torch.tensor([n in (3, 5) for n in range(8)])[:, None, None]
            pose = Pose(torch.where(odd, wrong.rotation, pose.rotation), pose.translation)
        return SimpleNamespace(pose=pose)

    rendered: list[Pose] = []
    net = SimpleNamespace(
        predict=predict,
        canonical_depth=lambda image: None,
        render=lambda head, poses: [rendered.append(poses), head.value][1],
    )
    model: Any = SimpleNamespace(geometry=net, canonical_net=True, compute=SimpleNamespace(device=torch.device("cpu")))
    params: Any = SimpleNamespace(
        model=SimpleNamespace(references=2),
        data=SimpleNamespace(image_size=size),
        evaluate=SimpleNamespace(draws=2),
        seed=0,
    )
    records: list[Any] = [SimpleNamespace(pixels_sha256=letter * 64) for letter in "ab"]
    store: Any = SimpleNamespace(records=lambda test_set: records)
    seeds: list[tuple[int, int]] = []
    monkeypatch.setattr(
        geometry, "draw_references", lambda length, n, seed: [seeds.append((length, seed)), range(n)][1]
    )
    found = geometry.measure(model, params, store, "made-up")
    # As in Table 1: references are of the first half, what is rendered is held to the second.
    assert seeds == [
        (n // 2, draw_seed(params, one, draw)) for n, one in zip(lengths, records, strict=True) for draw in (0, 1)
    ]
    assert torch.equal(rendered[0].rotation, truths[0].rotation[3:])
    assert (found["n_clips"], found["n_frames"], found["n_pose_frames"]) == (2, 14, 12)
    assert [found[f"{name}_correlation"] for name in geometry.ANGLES] == [1, 1, 1]
    assert max(found[f"{name}_mae_deg"] for name in geometry.ANGLES) < 1e-3
    assert found["head_mse_mean_reference"] == pytest.approx(0.25**2, abs=1e-6)
    assert found["head_mse_stage1"] == pytest.approx(0.15**2, abs=1e-6)
    assert found["ratio_stage2"] == pytest.approx(0.05**2 / 0.25**2, abs=1e-4)


class Head:
    """A canonical head that renders as one grey value."""

    def __init__(self, value: float) -> None:
        self.value, self.image = torch.tensor(value), None

    def repeat(self, count: int) -> "Head":
        return self
