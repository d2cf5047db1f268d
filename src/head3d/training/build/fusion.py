"""E_F, Phi and Omega_F from parameters."""

from typing import TYPE_CHECKING

from head3d.compute import Compute
from head3d.models.fusion import FusionNet

if TYPE_CHECKING:
    from head3d.params import Params


def place_fusion(network: FusionNet, compute: Compute) -> FusionNet:
    """Place a fusion network, with what the equivariance term and relative motion ask it for by themselves."""
    if network.matcher is not None:
        compute.place(network.matcher, "flow")
    return compute.place(network, "flows")


def build_fusion(params: "Params", variant: str = "full") -> FusionNet:
    """E_F, Phi and Omega_F of a variant, untrained."""
    settings = params.model.fusion.model_dump()
    if variant == "no_skip":
        settings["image_skip"] = False
    if variant == "no_matching":
        settings["matching"] = False
    return FusionNet(**settings, use_head=variant != "no_head")
