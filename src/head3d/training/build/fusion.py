"""E_F, Phi and Omega_F from parameters."""

from typing import TYPE_CHECKING

from head3d.models.fusion import FusionNet

if TYPE_CHECKING:
    from head3d.params import Params


def build_fusion(params: "Params", variant: str = "full") -> FusionNet:
    """E_F, Phi and Omega_F of a variant, untrained."""
    settings = params.model.fusion.model_dump()
    if variant == "no_skip":
        settings["image_skip"] = False
    if variant == "no_matching":
        settings["matching"] = False
    return FusionNet(**settings, use_head=variant != "no_head")
