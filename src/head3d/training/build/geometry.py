"""F_D and F_P from parameters."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from head3d.compute import Compute
from head3d.models.depth import DepthNet
from head3d.models.head3d import HeadGeometry, freeze
from head3d.models.pose import PoseNet
from head3d.training.weights import load_weights

if TYPE_CHECKING:
    from head3d.params import Params

GEOMETRY = Path("models/geometry.safetensors")  # what stage 1 writes


def build_geometry(params: "Params") -> HeadGeometry:
    """F_D and F_P, untrained."""
    depth, pose, camera = params.model.depth, params.model.pose, params.camera
    span_m = 2 * math.tan(math.radians(camera.fov_deg) / 2) * camera.distance_m
    return HeadGeometry(
        DepthNet(depth.encoder_width, depth.decoder_width, depth.range_m),
        PoseNet(pose.backbone, pose.input_size, pose.max_xy_m, pose.max_z_m, span_m, camera.distance_m),
        camera.fov_deg,
        camera.distance_m,
    )


def load_geometry(params: "Params", compute: Compute) -> HeadGeometry:
    """F_D and F_P as stage 1 has left them, fixed, where later stages run them."""
    return place_geometry(freeze(load_weights(build_geometry(params), GEOMETRY)), compute)


def place_geometry(geometry: HeadGeometry, compute: Compute) -> HeadGeometry:
    """Both networks on the device, each in the precision of its own."""
    compute.place(geometry.depth)
    compute.place(geometry.pose)
    return geometry
