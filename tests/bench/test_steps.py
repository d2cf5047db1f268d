"""What a step takes is counted from shapes: as closed forms say, and as the step itself computes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from head3d.bench import steps
from head3d.bench.made_up import write_clips
from head3d.bench.steps import Memory, Shapes, measure
from head3d.data.store import ClipStore
from head3d.geometry import Pose, euler_from_pose
from head3d.params import Params
from head3d.training.batches import load_clips

ROOT = Path(__file__).resolve().parents[2]


def test_memory_is_what_lives_at_once() -> None:
    with Memory() as memory:
        kept = torch.zeros(1000)
        for _ in range(3):
            gone = torch.ones(500)
            gone.view(5, 100)  # the same storage
            del gone
        assert kept.shape == (1000,)
    assert memory.most == 4 * 1500 and memory.now == 4 * 1000


def test_skipped_convolutions_have_shapes_and_arithmetic() -> None:
    image, weight = torch.rand(2, 3, 16, 16, requires_grad=True), torch.rand(5, 3, 3, 3, requires_grad=True)
    with FlopCounterMode(display=False) as counter, Shapes():
        out = F.conv2d(image, weight, stride=2, padding=1)
        out.sum().backward()
    assert out.shape == (2, 5, 8, 8)
    assert image.grad is not None and image.grad.shape == image.shape
    forward = 2 * (2 * 8 * 8) * 5 * 3 * 3 * 3
    assert counter.get_total_flops() == 3 * forward  # backward: once for the image, once for the weight


def test_made_up_heads_turn(tmp_path: Path, tiny: Params) -> None:
    length = tiny.data.clip_length
    write_clips(tmp_path, clips=2, size=64, length=length)
    clips = load_clips(ClipStore(tmp_path), "train", tiny, poses=True)
    yaw, pitch, _ = euler_from_pose(Pose(clips.rotation[1], clips.translation[1]))
    assert torch.allclose(yaw, torch.linspace(-20, 20, length), atol=0.1) and pitch.abs().max() < 0.1


def test_rows_are_of_the_scale_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done = SimpleNamespace(returncode=0, stdout='{"gflop": 3.0, "memory_mb": 2.0, "seconds": null}\n')
    monkeypatch.setattr("head3d.bench.steps.subprocess.run", lambda *_, **__: done)
    monkeypatch.chdir(ROOT)
    (row,) = steps.rows("paper256", ("fusion",), (64,), (1,), 0)
    assert (row.part, row.scale, row.what, row.value) == ("steps", "paper256", "train fusion, 64x64", 3.0)


@pytest.mark.parametrize("scale", ["demo", "paper", "paper256", "smoke"])
def test_a_few_steps_of_any_scale_are_allowed(scale: str) -> None:
    assert steps.params_of(scale, ROOT, size=128, batch=1, steps=1).geometry.epochs == 1


@pytest.mark.slow
def test_a_training_is_counted_and_timed(in_tmp: Path) -> None:
    found = []
    for batch in (1, 2):
        (in_tmp / str(batch)).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(in_tmp / str(batch))
            found.append(measure("smoke", ROOT, "canonical", 64, batch, steps=1))
    one, two = found
    assert one["seconds"] and one["gflop"] and two["gflop"] and one["memory_mb"] and two["memory_mb"]
    assert two["gflop"] == pytest.approx(2 * one["gflop"])
    assert one["memory_mb"] < two["memory_mb"] < 2 * one["memory_mb"]
