"""What each variant of stage 3 lacks."""

import typing

import torch
from torch import nn

from head3d.compute import Compute
from head3d.params import Params
from head3d.sections.types import Variant
from head3d.training.build.fusion import build_fusion, place_fusion


def test_a_variant_lacks_what_its_name_says_and_nothing_else(tiny: Params) -> None:
    fusion = tiny.model.fusion.model_copy(update={"image_skip": True, "matching": True})
    params = tiny.model_copy(update={"model": tiny.model.model_copy(update={"fusion": fusion})})

    def parts(variant: str) -> tuple[bool, bool, bool]:
        network = build_fusion(params, variant)
        return network.use_head, network.image_skip, network.matcher is not None

    wanted = {
        "full": (True, True, True),
        "mean_canonical": (True, True, True),
        "no_head": (False, True, True),
        "no_skip": (True, False, True),
        "no_matching": (True, True, False),
    }
    assert wanted.keys() == set(typing.get_args(Variant))
    assert {variant: parts(variant) for variant in wanted} == wanted


def test_what_is_asked_for_by_itself_runs_in_bfloat16_too(tiny: Params) -> None:
    """The equivariance term asks for flows and relative motion for the matcher's, past the network's forward."""
    network = place_fusion(build_fusion(tiny), Compute(torch.device("cpu"), torch.bfloat16))
    assert network.matcher is not None
    seen: list[torch.dtype] = []
    first = next(layer for layer in network.matcher.modules() if isinstance(layer, nn.Conv2d))
    first.register_forward_hook(lambda layer, given, answer: seen.append(answer.dtype))
    frame = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        network.flows(frame, frame, frame)
        network.matcher.flow(frame, frame)
        network(frame, frame, frame, None, frame[:, :1])
    assert len(seen) > 5 and set(seen) == {torch.bfloat16}
