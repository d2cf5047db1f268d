"""Camera, head pose, warping and rendering: pure functions on tensors, no learning, no files."""

from head3d.geometry.camera import intrinsics, pixel_grid, project, unproject
from head3d.geometry.pose import (
    Pose,
    euler_from_pose,
    euler_from_rotation,
    pose_from_euler,
    relative_pose,
    rotation_from_euler,
)
from head3d.geometry.render import (
    Rendered,
    box_blur,
    dilate,
    from_canonical,
    mean_of_views,
    reproject,
    splat,
    to_canonical,
)
from head3d.geometry.warp import (
    FaceFit,
    align_flow,
    canonical_flow,
    double_flow,
    fit_affine,
    fit_similarity,
    outside_flow,
    resize_flow,
    warp,
)

__all__ = [
    "FaceFit",
    "Pose",
    "Rendered",
    "align_flow",
    "box_blur",
    "canonical_flow",
    "dilate",
    "double_flow",
    "euler_from_pose",
    "euler_from_rotation",
    "fit_affine",
    "fit_similarity",
    "from_canonical",
    "intrinsics",
    "mean_of_views",
    "outside_flow",
    "pixel_grid",
    "pose_from_euler",
    "project",
    "relative_pose",
    "reproject",
    "resize_flow",
    "rotation_from_euler",
    "splat",
    "to_canonical",
    "unproject",
    "warp",
]
