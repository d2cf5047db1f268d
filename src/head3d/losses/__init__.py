"""Losses of the three training stages."""

from head3d.losses.equivariance import ThinPlateSpline, flow_equivariance
from head3d.losses.perceptual import PerceptualLoss
from head3d.losses.photometric import depth_smoothness, head_share, l1, symmetry

__all__ = [
    "PerceptualLoss",
    "ThinPlateSpline",
    "depth_smoothness",
    "flow_equivariance",
    "head_share",
    "l1",
    "symmetry",
]
