"""Head poses from landmarks (perspective-n-point) by damped Gauss-Newton on a whole batch at once."""

import torch
from jaxtyping import Float
from torch import Tensor

from head3d.geometry.camera import project
from head3d.geometry.head_model import landmark_points
from head3d.geometry.pose import Pose

AT_ONCE = 4096  # frames: a hundred megabytes of residuals and their slopes
ROBUST_PX = 4.0  # of an image of 128: residuals beyond this count less and less (Cauchy): lips and brows move


def _skew(v: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3 3"]:
    zero = torch.zeros_like(v[..., 0])
    x, y, z = v.unbind(-1)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))


def solve_pnp(
    landmarks: Float[Tensor, "b 68 2"], k: Float[Tensor, "3 3"], distance_m: float, iterations: int = 40
) -> tuple[Pose, Float[Tensor, " b"]]:
    """Pose of the generic head that puts its landmarks where they were found.

    Args:
        landmarks: 68-point landmarks in pixels; frames with NaN get NaN poses.
        k: camera matrix.
        distance_m: distance of the head's centre at t = 0.
        iterations: Gauss-Newton steps.

    Returns:
        Poses, and the root mean square reprojection error of each frame in pixels.
    """
    if len(landmarks) > AT_ONCE:
        poses, errors = zip(
            *(solve_pnp(some, k, distance_m, iterations) for some in landmarks.split(AT_ONCE)), strict=True
        )
        return Pose.cat(list(poses)), torch.cat(errors)
    numbers, model = landmark_points()
    found = landmarks.isfinite().all(-1).all(-1)
    seen = torch.where(found[:, None, None], landmarks[:, numbers], 0).double()
    points, camera = model.double().to(landmarks.device), k.double()
    batch = len(seen)
    focal = camera[0, 0]
    robust_px = ROBUST_PX * camera[0, 2] / 63.5  # the camera looks at the middle of the image
    centre = points.new_tensor((0.0, 0.0, distance_m))

    # First guess: frontal, at the size and place that the landmarks' spread and mean say.
    spread = (seen - seen.mean(1, keepdim=True)).norm(dim=-1).mean(1).clamp(min=1)
    depth = focal * (points[:, :2] - points[:, :2].mean(0)).norm(dim=-1).mean() / spread
    shift = (seen.mean(1) - camera[:2, 2]) * depth[:, None] / focal - points[:, :2].mean(0)
    translation = torch.cat((shift, (depth - distance_m)[:, None]), dim=1)
    rotation = torch.eye(3, dtype=torch.float64, device=seen.device).repeat(batch, 1, 1)
    eye = torch.eye(6, dtype=torch.float64, device=seen.device)

    def residuals() -> tuple[Tensor, Tensor, Tensor]:
        turned = points @ rotation.transpose(1, 2)
        moved = turned + (centre + translation)[:, None]
        return project(moved, camera) - seen, turned, moved

    for _ in range(iterations):
        error, turned, moved = residuals()
        x, y, z = moved.unbind(-1)
        zero = torch.zeros_like(x)
        slope = torch.stack((focal / z, zero, -focal * x / z**2, zero, focal / z, -focal * y / z**2), dim=-1)
        slope = slope.unflatten(-1, (2, 3))  # d pixel / d point
        jacobian = torch.cat((-slope @ _skew(turned), slope), dim=-1)  # (B, K, 2, 6): small turn, shift
        weight = 1 / (1 + error.square().sum(-1) / robust_px**2)
        weighted = jacobian * weight[..., None, None]
        normal = torch.einsum("bkij,bkil->bjl", weighted, jacobian)
        gradient = torch.einsum("bkij,bki->bj", weighted, error)
        damping = 1e-4 * normal.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * eye
        step = torch.linalg.solve(normal + damping, -gradient)
        step[:, :3] = step[:, :3].clamp(-0.3, 0.3)
        rotation = torch.linalg.matrix_exp(_skew(step[:, :3])) @ rotation
        translation = translation + step[:, 3:]
    error = residuals()[0].square().sum(-1).mean(1).sqrt()
    nan = torch.where(found, 0.0, torch.nan)
    return (
        Pose((rotation + nan[:, None, None]).float(), (translation + nan[:, None]).float()),
        (error + nan).float(),
    )
