"""Networks made faster for inference answer as they did."""

from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from head3d.geometry import warp
from head3d.models.blocks import STRIDE, ConvBlock, ResidualBlock, at_cells
from head3d.models.fast import PhasedConv, prepare_for_inference
from head3d.models.folding import fold_norm
from head3d.models.fusion import FusionNet
from head3d.models.head3d import freeze

M = TypeVar("M", bound=nn.Module)


def lived_in(network: M) -> M:
    """Frozen, with batch statistics and flows that are not those of the start."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    if isinstance(network, FusionNet):
        nn.init.normal_(network.predictor.head.weight, std=0.05)
    return freeze(network)


def images(*seeds: int) -> list[Tensor]:
    return [torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in seeds]


@pytest.mark.parametrize("options", [{}, {"image_skip": True, "matching": True}, {"use_head": False}])
@torch.inference_mode()
def test_a_fast_fusion_answers_as_a_slow_one(options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    network = lived_in(FusionNet(8, blocks=2, flow_width=8, flow_max=32, flow_scale=0.5, **options))
    head, reference, driving = images(0, 1, 2)
    expected = network(head, reference, driving)
    assert expected.reference_flow.std() > 0.1
    fast = prepare_for_inference(network)
    assert fast is network
    kinds = [type(module) for module in fast.modules()]
    assert kinds.count(PhasedConv) == 7 and nn.Upsample not in kinds  # two of the decoder, five of the hourglass
    assert kinds.count(nn.BatchNorm2d) == 2  # those that a residual block begins with
    made = fast(head, reference, driving)
    for name, answer in vars(expected).items():
        torch.testing.assert_close(getattr(made, name), answer, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_one_reference_serves_all_frames() -> None:
    torch.manual_seed(0)
    network = lived_in(FusionNet(8, blocks=1, flow_width=8, flow_max=32, flow_scale=0.5, image_skip=True))
    head, reference, driving = images(0, 1, 2)
    expected = network(head, reference[:1].expand(2, -1, -1, -1), driving)
    encoded: list[int] = []
    network.encoder.register_forward_pre_hook(lambda module, given: encoded.append(len(given[0])))
    made = network(head, reference[:1], driving)
    assert encoded == [3]  # two heads and the one reference
    for name, answer in vars(expected).items():
        torch.testing.assert_close(getattr(made, name), answer, rtol=0, atol=1e-5)


@pytest.mark.parametrize("which", [0, 1])
@torch.inference_mode()
def test_features_of_head_and_reference_are_each_carried_by_their_own_flow(
    which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = lived_in(FusionNet(8, blocks=1, flow_width=8, flow_max=32, flow_scale=0.5))
    head, reference, driving = images(0, 1, 2)
    flows = [torch.full((2, 2, 64, 64), shift) for shift in (8.0, -4.0)]  # two cells one way, one the other
    logits = torch.full((2, 3, 32, 32), -50.0)
    logits[:, which] = 50.0  # attention to one of the two alone
    monkeypatch.setattr(network, "flows", lambda *given: (*flows, logits))
    fused: list[Tensor] = []
    network.bottleneck.register_forward_pre_hook(lambda module, given: fused.append(given[0]))
    network(head, reference, driving)
    source = (head, reference)[which]
    torch.testing.assert_close(fused[0], warp(network.encoder(source), at_cells(flows[which]) / STRIDE))


@torch.no_grad()
def test_the_norm_that_a_residual_block_begins_with_stays() -> None:
    torch.manual_seed(0)
    block = lived_in(ResidualBlock(4))
    x = torch.randn(1, 4, 6, 6)
    expected = block(x)
    prepare_for_inference(block)
    assert [type(part) for part in block.body].count(nn.BatchNorm2d) == 1  # type: ignore[union-attr]
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-5)


def test_only_a_norm_that_follows_a_convolution_is_folded() -> None:
    assert not fold_norm(nn.Conv2d(2, 3, 1), nn.ReLU())
    assert not fold_norm(nn.ReLU(), nn.BatchNorm2d(3))


@pytest.mark.parametrize(
    "block",
    [
        [nn.Upsample(scale_factor=2, mode="bilinear"), ConvBlock(3, 4)],
        [nn.Upsample(scale_factor=4, mode="nearest"), ConvBlock(3, 4)],
        [nn.Upsample(scale_factor=2, mode="nearest"), ConvBlock(3, 4, kernel=1)],
        [nn.Upsample(scale_factor=2, mode="nearest"), ConvBlock(3, 4, stride=2)],
    ],
)
@torch.no_grad()
def test_what_phases_can_not_do_stays_as_it_is(block: list[nn.Module]) -> None:
    torch.manual_seed(0)
    network, x = freeze(nn.Sequential(*block)), torch.rand(1, 3, 8, 8)
    expected = network(x)
    prepare_for_inference(network)
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-5)
