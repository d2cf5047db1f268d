"""Methods made faster answer as they did."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fill import golden, official_states
from torch import Tensor, nn

from head3d.baselines import build
from head3d.baselines.blocks import Residual, Up
from head3d.baselines.inference import FOLDED, RowwiseConv, for_inference, has_few_outputs, settle
from head3d.models.fast import PhasedConv
from head3d.models.folding import fold_norms

FOMM = {
    "keypoints": 3, "detector_width": 8, "detector_most": 32, "detector_levels": 4, "width": 8, "most": 32,
    "residuals": 2, "motion_width": 8, "motion_most": 32, "motion_levels": 4,
}  # fmt: skip
SMALL = {
    "fomm": FOMM,
    "dagan": {**FOMM, "depth_layers": 18},
    "facev2v": {**FOMM, "depth": 4, "detector_lifted": 8, "head_width": 8, "head_most": 64, "volume": 4},
}


def frames(count: int, size: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["fomm", "dagan", "facev2v"])
@torch.inference_mode()
def test_fast_methods_answer_as_slow_ones(name: str) -> None:
    method = build(name, 64, **SMALL[name])
    method.load_official(official_states(method))
    subject, driving = frames(1), frames(3, seed=1)
    expected = method.drive(method.prepare(subject), driving)
    fast = for_inference(method, torch.float32)
    state = fast.prepare(subject)
    together = fast.drive(state, driving)
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-4)
    for index, frame in enumerate(driving):
        torch.testing.assert_close(fast.drive(state, frame[None])[0], together[index], rtol=0, atol=1e-5)
    torch.testing.assert_close(method.drive(method.prepare(subject), driving), expected)  # itself, it is as it was
    kinds = {type(m) for m in fast.modules()}
    assert PhasedConv in kinds and Up not in kinds
    left = [n for n, m in fast.named_modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)]
    assert all(n.endswith("norm1") for n in left)


@pytest.mark.parametrize("name", ["fomm", "mraa"])
@torch.inference_mode()
def test_fast_methods_give_the_official_answers(name: str) -> None:
    method = build(name, 128)
    method.load_official(official_states(method))
    source, driving, answers = golden(name)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 1e-2)):
        fast = for_inference(method, dtype)
        driven = fast.drive(fast.prepare(source), driving)
        plain = method.drive(method.prepare(source), driving)
        torch.testing.assert_close(driven, plain, rtol=0, atol=tolerance)
    if name == "fomm":  # MRAA's golden answer has a background motion, which driving leaves out
        torch.testing.assert_close(driven, answers["prediction"], rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dims", "size"), [(2, (5, 6)), (2, (1, 1)), (3, (4, 5, 6)), (3, (1, 2, 1))])
@torch.no_grad()
def test_phases_are_the_convolution_of_repeated_pixels(dims: int, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    up = Up(3, 4, dims=dims).eval()
    up.norm.running_mean.normal_()  # type: ignore[union-attr]
    up.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    x = torch.randn(2, 3, *size)
    expected = up(x)
    fold_norms(up, FOLDED)
    assert isinstance(up.norm, nn.Identity)
    torch.testing.assert_close(up(x), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(PhasedConv(up.conv)(x).relu(), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_rows_of_a_kernel_are_the_convolution() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(24, 3, 7, padding=3)
    assert has_few_outputs(conv) and not has_few_outputs(nn.Conv2d(24, 4, 7, padding=3))
    assert not has_few_outputs(nn.Conv2d(24, 3, 7)), "keypoint detectors have no padding"
    assert not has_few_outputs(nn.Conv2d(24, 3, 1)) and not has_few_outputs(nn.Conv2d(8, 3, 7, padding=3))
    for size in ((9, 12), (2, 5)):
        x = torch.randn(2, 24, *size)
        torch.testing.assert_close(RowwiseConv(conv)(x), conv(x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_norm_before_its_convolution_stays() -> None:
    torch.manual_seed(0)
    block = Residual(3).eval()
    for norm in (block.norm1, block.norm2):
        norm.running_mean.normal_()  # type: ignore[union-attr]
    x = torch.randn(1, 3, 4, 4)
    expected = block(x)
    fold_norms(block, FOLDED)
    assert isinstance(block.norm1, nn.BatchNorm2d) and isinstance(block.norm2, nn.Identity)
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-5)


def test_settled_convolutions_take_any_type() -> None:
    conv = nn.Conv2d(3, 4, 3)
    x = torch.randn(1, 3, 8, 8)
    expected = F.conv2d(x.bfloat16(), conv.weight.bfloat16(), conv.bias.bfloat16() if conv.bias is not None else None)
    settle(conv, torch.bfloat16)
    torch.testing.assert_close(conv(x), expected)
