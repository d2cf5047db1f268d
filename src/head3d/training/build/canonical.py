"""E_H, Lambda and Omega_H from parameters."""

from typing import TYPE_CHECKING

from head3d.models.canonical import CanonicalNet

if TYPE_CHECKING:
    from head3d.params import Params


def build_canonical(params: "Params") -> CanonicalNet:
    """E_H, Lambda and Omega_H, untrained."""
    return CanonicalNet(**params.model.canonical.model_dump())
