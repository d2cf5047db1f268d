"""TensorFlow Lite files: the real network's, a spelled-out PReLU, and files that are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from head3d.assets import cache as assets
from head3d.errors import UserError
from head3d.models import tflite
from head3d.models.tflite import ABS, ADD, MUL, PRELU, RELU, SUB, Step, TfliteNet


@pytest.fixture(scope="module")
def network() -> TfliteNet:
    return TfliteNet(assets.fetch("face-identity")).eval()


@torch.inference_mode()
def test_the_real_file_runs_on_any_batch(network: TfliteNet) -> None:
    images = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    together = network(images)
    assert together.shape == (3, 192)
    alone = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 0.01


def test_every_prelu_of_the_real_file_is_one_step(network: TfliteNet) -> None:
    kinds = [step.kind for step in network.steps]
    assert PRELU in kinds
    assert ABS not in kinds and SUB not in kinds


def test_a_spelled_prelu_is_joined_and_means_the_same() -> None:
    """RELU(x) + k (x - |x|) with k = slope / 2; the product's factors in either order."""
    for factors in ((4, 9), (9, 4)):
        spelled = [
            Step(RELU, (1,), 2), Step(ABS, (1,), 3), Step(SUB, (1, 3), 4), Step(MUL, factors, 5), Step(ADD, (2, 5), 6),
        ]  # fmt: skip
        assert tflite.joined(spelled) == [Step(PRELU, (1, 9), 6)]
    x, k = torch.linspace(-2, 2, 9), 0.1
    assert torch.allclose(F.prelu(x, torch.tensor([2 * k])), x.relu() + k * (x - x.abs()))
    # What only looks alike stays as it is.
    other = [Step(RELU, (1,), 2), Step(ABS, (7,), 3), Step(SUB, (1, 3), 4), Step(MUL, (4, 9), 5), Step(ADD, (2, 5), 6)]
    assert tflite.joined(other) == other


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "wanted"),
    [(112, 3, 2, (0, 1)), (7, 3, 1, (1, 1)), (5, 3, 2, (1, 1)), (4, 1, 2, (0, 0))],
)
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int, wanted: tuple[int, int]) -> None:
    before, after = tflite._same(size, kernel, stride)
    assert (before, after) == wanted
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)


def test_weights_are_put_in_torchs_order() -> None:
    kernel = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)  # O, H, W, I
    assert tflite._channels_first(kernel)[1, 4, 2, 3] == kernel[1, 2, 3, 4]
    assert tflite._channels_first(torch.ones(7)).shape == (7, 1, 1)


def test_files_that_are_none_or_broken_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"\0" * 64)
    with pytest.raises(UserError, match="not a TensorFlow Lite file"):
        TfliteNet(path)
    whole = assets.fetch("face-identity").read_bytes()
    path.write_bytes(whole[:5000])
    with pytest.raises(UserError, match="cannot be run here"):
        TfliteNet(path)


def test_an_unknown_operator_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflite, "OPERATORS", tflite.OPERATORS - {tflite.DEPTHWISE})
    with pytest.raises(UserError, match="operator 4"):
        TfliteNet(assets.fetch("face-identity"))


def test_arrays_are_copies() -> None:
    data = np.array([8, 1, 2], "<i4").tobytes()
    assert tflite._int(data, 4) == 1 and tflite._short(data, 0) == 8
