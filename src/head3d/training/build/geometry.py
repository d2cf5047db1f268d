"""F_D and F_P from parameters."""

import math
from typing import TYPE_CHECKING

from head3d.compute import Compute
from head3d.models.depth import DepthNet
from head3d.models.head3d import HeadGeometry
from head3d.models.pose import PoseNet

if TYPE_CHECKING:
    from head3d.params import Params


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


def place_geometry(geometry: HeadGeometry, compute: Compute) -> HeadGeometry:
    """Both networks on the device, each in the precision of its own."""
    compute.place(geometry.depth)
    compute.place(geometry.pose)
    return geometry
