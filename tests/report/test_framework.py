"""Figure 2 tells what ran, and how many parameters were trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from head3d.report.figures import framework

if TYPE_CHECKING:
    from head3d.params import Params


def test_the_framework_tells_the_shapes_that_ran() -> None:
    import torch
    from torch import nn

    first, second = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 2, 1)
    with framework.watched({"a": first, "b": second}) as seen:
        second(first(torch.zeros(5, 3, 8, 8)))
        second(torch.zeros(5, 4, 2, 2))  # the first time counts
    second(torch.zeros(1, 4, 6, 6))
    assert seen["a"].words() == "3×8×8 → 4×4×4\n112 parameters"
    assert seen["b"] == framework.Seen((4, 4, 4), [(2, 4, 4)], 10)
    assert framework.readable(1_234_567) == "1.2 M" and framework.readable(45_600) == "46 k"
    with framework.watched({"a": first}, {"a": 7}) as seen:
        first(torch.zeros(1, 3, 8, 8))
    assert seen["a"].size == 7


def test_the_framework_sees_the_matcher_that_fusion_asks(params: Params) -> None:
    """Fusion calls another method of it than forward; its box was missing from Figure 2 without a word."""
    import torch

    from head3d.training.build.fusion import build_fusion

    network = build_fusion(params).eval()
    assert network.matcher is not None
    frame, plain = torch.rand(1, 3, 128, 128), network.matcher.flow
    with torch.inference_mode(), framework.watched({"matcher": network.matcher, "Φ": network.predictor}) as seen:
        network.flows(frame, frame, frame)
    assert network.matcher.flow == plain
    size = sum(one.numel() for one in network.matcher.parameters())
    assert seen["matcher"] == framework.Seen((3, 128, 128), [(2, 128, 128)], size)
    assert network.matcher.flow.__name__ == "flow" and "Φ" in seen


def test_the_framework_counts_the_parameters_that_were_trained(params: Params) -> None:
    """Inference has others: convolutions with four small kernels for a large one, normalisations folded away."""
    from head3d.api import Head3D
    from head3d.compute import Compute
    from head3d.models.fast import prepare_for_inference
    from head3d.models.head3d import freeze
    from head3d.training.build.canonical import build_canonical
    from head3d.training.build.fusion import build_fusion
    from head3d.training.build.geometry import build_geometry

    fusion = build_fusion(params)
    trained = sum(p.numel() for p in fusion.predictor.parameters())
    prepared = prepare_for_inference(freeze(fusion))
    model = Head3D(build_geometry(params), build_canonical(params), prepared, params, Compute.resolve("cpu"))
    assert framework.sizes_of(framework.networks_of(model))["Φ"] != trained
    assert framework.training_sizes(model)["Φ"] == trained
