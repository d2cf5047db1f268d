"""What each variant of stage 3 lacks."""

import typing

from head3d.params import Params
from head3d.sections.types import Variant
from head3d.training.build.fusion import build_fusion


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
