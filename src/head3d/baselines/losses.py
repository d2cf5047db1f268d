"""Losses that the baselines train with: pure functions, in float32, of what their networks answer.

Positions are (x, y) in [-1, 1] as in :mod:`head3d.baselines.keypoints`. The random deformations T of equivariance are
:class:`head3d.losses.ThinPlateSpline`, whose defaults are FOMM's: theta = I + N(0, 0.05), 5x5 control points with
weights N(0, 0.005).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from head3d.baselines.blocks import downsample
from head3d.baselines.keypoints import coordinate_grid, full_precision
from head3d.losses import ThinPlateSpline

Adversarial = Literal["least_squares", "hinge"]
NEAREST = 0.1  # squared distance below which FaceV2V's keypoints push each other away
MEAN_DEPTH = 0.33  # where their mean z belongs


class PyramidLoss(nn.Module):
    """Perceptual loss over a pyramid that is blurred before every n-th pixel is taken, as FOMM's (Sec. 3.3).

    Sum over resolutions and VGG's layers of the mean absolute difference of features.

    Args:
        perceptual: compares images of one resolution, a :class:`head3d.losses.PerceptualLoss` at scale 1.
        scales: the resolutions, as shares of the image's; officially 1, 0.5, 0.25, 0.125.
    """

    def __init__(self, perceptual: nn.Module, scales: tuple[float, ...]) -> None:
        super().__init__()
        self.perceptual = perceptual
        self.shrink = nn.ModuleList(downsample(3, scale) for scale in scales)

    def forward(self, predicted: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """Loss of RGB images in [0, 1]; no gradient flows to ``target``."""
        terms = [self.perceptual(shrink(predicted), shrink(target)) for shrink in self.shrink]
        return torch.stack(terms).sum()


# --- equivariance -------------------------------------------------------------------------------------------------


@full_precision
def deform(images: Float[Tensor, "b c h w"], spline: ThinPlateSpline, align_corners: bool) -> Float[Tensor, "b c h w"]:
    """Images under T: pixel q shows what the image shows at T(q), mirrored beyond its edges."""
    height, width = images.shape[-2:]
    points = coordinate_grid(height, width, like=images).reshape(1, -1, 2).expand(len(images), -1, -1)
    grid = spline(points).unflatten(1, (height, width))
    return F.grid_sample(images, grid, "bilinear", "reflection", align_corners=align_corners)


def spline_jacobian(spline: ThinPlateSpline, points: Float[Tensor, "b n 2"]) -> Float[Tensor, "b n 2 2"]:
    """Derivative of T at points: d T_i / d x_j in row i, column j.

    The bump of a control point adds the same r^2 log(r + e) to x and to y, r the L1 distance, so its rows are equal.
    """
    away = points[:, :, None] - spline.control
    r = away.abs().sum(dim=-1, keepdim=True)
    slope = 2 * r * torch.log(r + 1e-6) + r.square() / (r + 1e-6)
    bump = (slope * away.sign() * spline.weights[:, None, :, None]).sum(dim=2)
    return spline.theta[:, None, :, :2] + bump[:, :, None]


def equivariance_value(
    plain: Float[Tensor, "b k 2"], deformed: Float[Tensor, "b k 2"], spline: ThinPlateSpline
) -> Float[Tensor, ""]:
    """Mean |p - T(p')| of points p of frames and p' of the same frames under T (FOMM, Sec. 3.3; MRAA's of shifts)."""
    return (plain - spline(deformed)).abs().mean()


@full_precision
def equivariance_local(
    plain: Float[Tensor, "b k 2 2"],
    deformed: Float[Tensor, "b k 2 2"],
    points: Float[Tensor, "b k 2"],
    spline: ThinPlateSpline,
    free_sign: bool = False,
) -> Float[Tensor, ""]:
    """Mean |1 - J^-1 T'(p') J'| of local frames J of frames and J' of the same frames under T (FOMM, Sec. 3.3).

    Args:
        plain: J, jacobians or the axes of regions.
        deformed: J'.
        points: p', where T' is taken.
        spline: T.
        free_sign: whether J and -J are one frame, as for MRAA's axes (``revert_axis_swap``).
    """
    change = torch.linalg.inv(plain) @ (spline_jacobian(spline, points) @ deformed)
    if free_sign:
        change = change * change[..., :1, :1].sign()
    return (torch.eye(2, device=change.device) - change).abs().mean()


# --- adversarial --------------------------------------------------------------------------------------------------


def generator_gan_loss(fake: Float[Tensor, "b 1 h w"], kind: Adversarial) -> Float[Tensor, ""]:
    """What the generator pays for the discriminator's answers to its images."""
    fake = fake.float()
    return (1 - fake).square().mean() if kind == "least_squares" else -fake.mean()


def discriminator_gan_loss(real: Float[Tensor, "b 1 h w"], fake: Float[Tensor, "b 1 h w"], kind: Adversarial) -> Tensor:
    """What the discriminator pays for its answers: 1 for real images and 0 for others, or at least 1 and at most -1."""
    real, fake = real.float(), fake.float()
    if kind == "least_squares":
        return ((1 - real).square() + fake.square()).mean()
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def feature_matching(real: list[Tensor], fake: list[Tensor]) -> Float[Tensor, ""]:
    """Sum over blocks of the mean absolute difference of the discriminator's features (pix2pix HD)."""
    return torch.stack(
        [(a.detach() - b).abs().mean(dtype=torch.float32) for a, b in zip(real, fake, strict=True)]
    ).sum()


# --- FaceV2V ------------------------------------------------------------------------------------------------------


def keypoint_prior(points: Float[Tensor, "b k 3"]) -> Float[Tensor, ""]:
    """Keypoints keep apart, and at a mean depth (FaceV2V, supplementary material).

    Sum over all pairs of relu(0.1 - d^2), a keypoint with itself included as in the code (a constant), averaged over
    frames; plus the mean over frames of |mean z - 0.33|.
    """
    squared = (points[:, :, None] - points[:, None]).square().sum(dim=-1)
    apart = F.relu(NEAREST - squared).sum(dim=(1, 2)).mean()
    return apart + (points[..., 2].mean(dim=1) - MEAN_DEPTH).abs().mean()


def pose_error(predicted: Float[Tensor, "3 b"], target: Float[Tensor, "3 b"]) -> Float[Tensor, ""]:
    """Mean over frames of |yaw| + |pitch| + |roll| of the difference, degrees."""
    return (predicted - target).abs().sum(dim=0).mean()


def expression_size(expression: Float[Tensor, "b k 3"]) -> Float[Tensor, ""]:
    """Mean over frames of the L1 norm of all movements by the expression."""
    return expression.abs().sum(dim=(1, 2)).mean()


def euler_xyz(rotation: Float[Tensor, "b 3 3"]) -> Float[Tensor, "3 b"]:
    """Yaw, pitch and roll in degrees of rotations R_x(pitch) R_y(yaw) R_z(roll), for |yaw| < 90 degrees."""
    yaw = torch.asin(rotation[:, 0, 2].clamp(-1, 1))
    pitch = torch.atan2(-rotation[:, 1, 2], rotation[:, 2, 2])
    roll = torch.atan2(-rotation[:, 0, 1], rotation[:, 0, 0])
    return torch.stack((yaw, pitch, roll)).rad2deg()
