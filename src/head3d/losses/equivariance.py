"""Equivariance of the predicted flow under random thin-plate splines (Eq. 8, after FOMM [36]).

There are no keypoints to constrain here as FOMM has them, so the constraint is put on the flow itself.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from head3d.geometry.camera import pixel_grid
from head3d.geometry.warp import warp


class ThinPlateSpline:
    """A random smooth warp T per image: an affine map plus bumps at a 5x5 grid of control points.

    Coordinates are normalised to [-1, 1]. As in FOMM the affine part is the identity plus N(0, sigma_affine), the
    control weights N(0, sigma_tps), the kernel r^2 log r with r the L1 distance.

    Args:
        batch: number of warps.
        generator: source of randomness.
        sigma_affine: spread of the affine part.
        sigma_tps: spread of the control weights.
    """

    def __init__(
        self, batch: int, generator: torch.Generator, sigma_affine: float = 0.05, sigma_tps: float = 0.005
    ) -> None:
        noise = torch.randn(batch, 2, 3, generator=generator) * sigma_affine
        self.theta = noise + torch.eye(2, 3)
        axis = torch.linspace(-1, 1, 5)
        self.control = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)  # (25, 2)
        self.weights = torch.randn(batch, len(self.control), generator=generator) * sigma_tps

    def to(self, device: torch.device) -> "ThinPlateSpline":
        self.theta, self.control, self.weights = (x.to(device) for x in (self.theta, self.control, self.weights))
        return self

    def rows(self, which: slice) -> "ThinPlateSpline":
        """Keep some of the warps."""
        self.theta, self.weights = self.theta[which], self.weights[which]
        return self

    def __call__(self, points: Float[Tensor, "b n 2"]) -> Float[Tensor, "b n 2"]:
        """Map normalised points."""
        moved = points @ self.theta[:, :, :2].transpose(1, 2) + self.theta[:, None, :, 2]
        distance = (points[:, :, None] - self.control).abs().sum(-1)
        bump = (distance.square() * torch.log(distance + 1e-6) * self.weights[:, None]).sum(-1)
        return moved + bump[..., None]

    def flow(self, height: int, width: int) -> Float[Tensor, "b 2 h w"]:
        """T as a backward flow in pixels: output pixel q shows T(q)."""
        half = torch.tensor(((width - 1) / 2, (height - 1) / 2), device=self.theta.device)
        pixels = pixel_grid(height, width, half).reshape(1, -1, 2).expand(len(self.theta), -1, -1)
        flow = self(pixels / half - 1) * half + half - pixels
        return flow.transpose(1, 2).reshape(-1, 2, height, width)


def flow_equivariance(
    plain: Float[Tensor, "b 2 h w"],
    transformed: Float[Tensor, "b 2 h w"],
    spline_flow: Float[Tensor, "b 2 h w"],
    total: Callable[[Tensor], Tensor] = lambda count: count.clamp(min=1),
) -> Float[Tensor, ""]:
    """How far f(s_ref <- T(s_dri)) is from f(s_ref <- s_dri) composed with T, in shares of half the image.

    Args:
        plain: f(s_ref <- s_dri), backward flow in pixels.
        transformed: f(s_ref <- T(s_dri)).
        spline_flow: T as a backward flow in pixels of the same size.
        total: what the sum is divided by, of the number of values that count; by default that number.

    Returns:
        Mean absolute difference over the pixels whose T(q) lies inside the image.
    """
    height, width = plain.shape[-2:]
    # T(s_dri) shows at q what s_dri shows at q + T-flow(q), so its way to s_ref goes through there.
    composed = spline_flow + warp(plain, spline_flow)
    q = pixel_grid(height, width, plain).permute(2, 0, 1) + spline_flow
    limit = q.new_tensor((width - 1, height - 1))[:, None, None]
    valid = ((q >= 0) & (q <= limit)).all(dim=1, keepdim=True).to(plain.dtype)
    error = (transformed - composed).abs() * valid
    return error.sum() / total(valid.sum() * 2) / ((width - 1) / 2)
