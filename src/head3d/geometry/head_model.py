"""A generic human head: where landmarks lie on it, and a smooth depth for the warm start.

Canonical axes (x right, y down, z away from the camera), metres in the paper's units: the camera's 10 degrees see
17.5 cm at 1 m, so a head at its true size would not fit. MODEL_SCALE shrinks it to the size that it has in our crops
when t_z = 0.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from head3d.geometry.camera import pixel_grid
from head3d.geometry.pose import Pose

# Where the rigid ones of the 68 landmarks lie on a generic face: brows, nose, eyes, corners of the mouth; centimetres,
# x to the right of the image, y up, z towards the camera. The left half and the middle; the right half mirrors it.
# Fitted by bundle adjustment with mirror symmetry to landmarks of the training people, the outer eye corners 10.6 cm
# apart in these units; the outline of the jaw slides as the head turns and is left out.
LANDMARKS: dict[int, tuple[float, float, float]] = {
    17: (-7.02, 6.80, 4.75), 18: (-6.13, 8.06, 5.38), 19: (-4.58, 8.63, 5.68),
    20: (-2.88, 8.48, 6.09), 21: (-1.31, 7.87, 6.33), 27: (0.00, 6.09, 6.35),
    28: (0.00, 4.66, 6.89), 29: (0.00, 3.25, 7.52), 30: (0.00, 1.76, 8.15),
    31: (-1.66, 0.43, 6.01), 32: (-0.84, 0.10, 6.54), 33: (0.00, -0.16, 6.91),
    36: (-5.31, 5.54, 4.11), 37: (-4.41, 6.21, 4.42), 38: (-3.29, 6.22, 4.62),
    39: (-2.22, 5.53, 4.67), 40: (-3.27, 5.27, 4.62), 41: (-4.39, 5.22, 4.44),
    48: (-3.18, -2.91, 3.89),
}  # fmt: skip
MIRRORED = {
    17: 26, 18: 25, 19: 24, 20: 23, 21: 22, 31: 35, 32: 34, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 48: 54,
}  # fmt: skip
MOVING = (*range(17, 27), *range(36, 68))  # brows, eyes, mouth; the nose is stiff and the jaw's outline slides
MODEL_SCALE = 0.48
CENTRE_CM = (0.0, 6.4, -3.0)  # of the head in the landmarks' frame: between the ears, above the eyes


def landmark_points() -> tuple[list[int], Float[Tensor, "k 3"]]:
    """Landmark numbers and their canonical places about the head's centre, metres."""
    places = LANDMARKS | {right: (-x, y, z) for left, right in MIRRORED.items() for x, y, z in [LANDMARKS[left]]}
    cm = torch.tensor(list(places.values())) - torch.tensor(CENTRE_CM)
    return list(places), cm * torch.tensor((1.0, -1.0, -1.0)) * (0.01 * MODEL_SCALE)


HALF_AXES_CM = (7.8, 11.8, 9.2)  # of the ellipsoid: half width, half height with hair, half depth
NOSE_CM = (0.0, 4.6, 1.1, 1.6, 2.0)  # where the nose sits (x, y below the centre), its half widths, its height


def generic_depth(pose: Pose, k: Float[Tensor, "3 3"], size: int, distance_m: float) -> Float[Tensor, "b 1 s s"]:
    """Depth in metres of a smooth head, an ellipsoid with a nose, seen at a pose; the depth net's warm start.

    Rays that miss the ellipsoid get the depth at which they pass it most closely, so the map is continuous.
    """
    unit = 0.01 * MODEL_SCALE
    axes = pose.translation.new_tensor(HALF_AXES_CM) * unit
    pixels = pixel_grid(size, size, pose.translation).reshape(-1, 2)
    rays = torch.cat(((pixels - k[:2, 2]) / torch.stack((k[0, 0], k[1, 1])), torch.ones_like(pixels[:, :1])), dim=-1)
    centre = pose.translation + pose.translation.new_tensor((0.0, 0.0, distance_m))
    # In the head's own axes, scaled so that the ellipsoid is the unit sphere: |o + s d| = 1.
    origin = (-centre[:, None] @ pose.rotation / axes)[:, 0, :]  # (B, 3)
    direction = rays @ pose.rotation / axes  # (B, N, 3)
    a = direction.square().sum(-1)
    b = (direction * origin[:, None]).sum(-1)
    c = origin.square().sum(-1, keepdim=True) - 1
    depth = (-b - (b * b - a * c).clamp(min=0).sqrt()) / a  # rays have z = 1, so s is the depth
    hit = (origin[:, None] + depth[..., None] * direction) * axes / unit  # cm in the head's axes
    x, y, wide, high, tall = NOSE_CM
    bump = torch.exp(-(((hit[..., 0] - x) / wide) ** 2 + ((hit[..., 1] - y) / high) ** 2) / 2)
    front = (hit[..., 2] < 0).to(depth.dtype)
    depth = depth - tall * unit * bump * front
    return depth.reshape(-1, 1, size, size)
