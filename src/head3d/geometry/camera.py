"""The static perspective camera of the paper (Sec. 3.1, Eq. 2).

Axes: x to the right of the image, y down, z away from the camera. Pixel centres lie at whole numbers, so the optical
axis passes through ((W - 1) / 2, (H - 1) / 2).
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


def intrinsics(height: int, width: int, fov_deg: float) -> Float[Tensor, "3 3"]:
    """Camera matrix K of Eq. 2.

    Args:
        height: rows of the image.
        width: columns of the image.
        fov_deg: horizontal field of view in degrees.

    Returns:
        K in pixels, float32, on the CPU.
    """
    focal = (width - 1) / (2 * math.tan(math.radians(fov_deg) / 2))
    return torch.tensor([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])


def pixel_grid(height: int, width: int, like: Tensor) -> Float[Tensor, "h w 2"]:
    """Coordinates (u, v) of every pixel, on the device and in the type of ``like``; shared, so not to be written to."""
    return _pixel_grid(height, width, like.device, like.dtype)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # else a training could not use what an evaluation has made
def _pixel_grid(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    v, u = torch.meshgrid(
        torch.arange(height, device=device, dtype=dtype),
        torch.arange(width, device=device, dtype=dtype),
        indexing="ij",
    )
    return torch.stack((u, v), dim=-1)


def unproject(depth: Float[Tensor, "b 1 h w"], k: Float[Tensor, "3 3"]) -> Float[Tensor, "b n 3"]:
    """Points in metres seen by every pixel: ``depth * K^-1 q``; N = H * W, row by row."""
    height, width = depth.shape[-2:]
    rays = (pixel_grid(height, width, depth) - k[:2, 2]) / torch.stack((k[0, 0], k[1, 1]))
    rays = torch.cat((rays, torch.ones_like(rays[..., :1])), dim=-1)  # (H, W, 3), z = 1
    return depth.flatten(2).transpose(1, 2) * rays.reshape(1, -1, 3)


def project(points: Float[Tensor, "b n 3"], k: Float[Tensor, "3 3"]) -> Float[Tensor, "b n 2"]:
    """Pixels (u, v) that points in metres fall on: ``K p`` divided by its last entry."""
    depth = points[..., 2:].clamp(min=1e-4)  # behind the camera nothing is seen; keep the division finite
    return points[..., :2] / depth * torch.stack((k[0, 0], k[1, 1])) + k[:2, 2]
