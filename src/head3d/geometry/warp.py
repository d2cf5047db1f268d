"""Backward flows and backward warping with bilinear sampling.

A flow is in pixels of its own resolution, (B, 2, H, W), x then y: output pixel q takes its value from q + flow[q].
Everything samples with ``align_corners=True``, so that a zero flow is the identity at every size. Where the pixels of a
smaller flow lie in a larger one depends on who has found it: :func:`resize_flow`, :func:`double_flow`.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from head3d.geometry.camera import pixel_grid, project, unproject
from head3d.geometry.pose import Pose

RIM = 2  # pixels around a mask that are filled too, because soft edges reach over it


def warp(
    source: Float[Tensor, "b c h w"], flow: Float[Tensor, "b 2 h2 w2"], padding: str = "border", mode: str = "bilinear"
) -> Float[Tensor, "b c h2 w2"]:
    """W(source, flow) of Eq. 7: sample ``source`` at q + flow[q].

    Args:
        source: images or features.
        flow: backward flow in pixels, of the resolution of ``source``.
        padding: what lies outside: ``border`` or ``zeros``.
        mode: ``bilinear``, or ``bicubic``, which blurs far less but may overshoot the source's range.
    """
    # Coordinates need float32: in bfloat16 they would be off by a tenth of a pixel.
    exact = torch.promote_types(flow.dtype, torch.float32)
    still, unit = _sampling_grid(*flow.shape[-2:], *source.shape[-2:], flow.device, exact)
    target = torch.addcmul(still, flow.to(exact).permute(0, 2, 3, 1), unit)
    return F.grid_sample(source.to(exact), target, mode, padding, align_corners=True).to(source.dtype)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # else a training could not use what an evaluation has made
def _sampling_grid(
    rows: int, columns: int, height: int, width: int, device: torch.device, dtype: torch.dtype
) -> tuple[Float[Tensor, "h2 w2 2"], Float[Tensor, " 2"]]:
    """Where ``grid_sample`` finds the pixels of a zero flow in an image of that height and width; a pixel there."""
    unit = torch.tensor((2 / max(width - 1, 1), 2 / max(height - 1, 1)), device=device, dtype=dtype)
    return pixel_grid(rows, columns, like=unit) * unit - 1, unit


def resize_flow(flow: Float[Tensor, "b 2 h w"], height: int, width: int) -> Float[Tensor, "b 2 h2 w2"]:
    """The same motion at another resolution, its pixels taken for areas: what a network that pools areas has found.

    Pixel j of n lies at (j + 1/2) W / n - 1/2 of W. Aligned corners would put it up to (W / n - 1) / 2 pixels aside.
    """
    if flow.shape[-2:] == (height, width):
        return flow
    scale = flow.new_tensor((width / flow.shape[-1], height / flow.shape[-2]))
    resized = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
    return resized * scale[:, None, None]


def double_flow(flow: Float[Tensor, "b 2 h w"], height: int, width: int) -> Float[Tensor, "b 2 h2 w2"]:
    """The same motion at twice the resolution, pixel j lying on pixel 2 j: what a convolution of stride 2 has found.

    Args:
        flow: in pixels of its own.
        height: of the result, 2 H or 2 H - 1; a last row that lies beyond ``flow`` is as the one before.
        width: likewise.
    """
    rows, columns = (2 * side - 1 for side in flow.shape[-2:])
    between = F.interpolate(flow, size=(rows, columns), mode="bilinear", align_corners=True)
    return 2 * F.pad(between, (0, width - columns, 0, height - rows), mode="replicate")


def canonical_flow(
    canonical_depth: Float[Tensor, "b 1 h w"], pose: Pose, k: Float[Tensor, "3 3"], distance_m: float
) -> Float[Tensor, "b 2 h w"]:
    """Backward flow f_{R<-C} of Eq. 5: from each canonical pixel to where a reference frame shows it.

    Args:
        canonical_depth: depth of the canonical head, metres.
        pose: pose of the reference frame.
        k: camera matrix for this resolution.
        distance_m: distance of the head's centre.

    Returns:
        Flow in pixels: (u, v) - (u^c, v^c).
    """
    height, width = canonical_depth.shape[-2:]
    pixels = project(pose.apply(unproject(canonical_depth, k), distance_m), k)
    flow = pixels - pixel_grid(height, width, pixels).reshape(1, -1, 2)
    return flow.transpose(1, 2).reshape(-1, 2, height, width)


def outside_flow(mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 2 h w"]:
    """Backward flow that fills masked pixels from the nearest pixel outside the mask; zero outside.

    Everything above a twentieth counts as masked, and a rim around it.
    """
    inside = F.max_pool2d((mask > 0.05).float(), 2 * RIM + 1, stride=1, padding=RIM)[:, 0].bool().cpu().numpy()
    grid = pixel_grid(*mask.shape[-2:], like=mask).permute(2, 0, 1)
    flows = []
    for here in inside:
        if here.all():
            flows.append(torch.zeros_like(grid))
            continue
        nearest = distance_transform_edt(here, return_distances=False, return_indices=True)  # (2, H, W), y then x
        flows.append(torch.from_numpy(np.flip(np.asarray(nearest), axis=0).copy()).to(grid) - grid)
    return torch.stack(flows)


@dataclass(frozen=True)
class FaceFit:
    """Where the places of one face are on another one, when both heads have the same pose.

    A place that is ``q`` pixels away from the projected centre of the one head is ``linear @ q + shift`` away from that
    of the other.

    Attributes:
        linear: (2, 2).
        shift: (2,), pixels.
        pose: the pose at which this was found, a single one.
    """

    linear: Tensor
    shift: Tensor
    pose: Pose

    def at(self, pose: Pose, distance_m: float) -> tuple[Tensor, Tensor]:
        """``linear`` (B, 2, 2) and ``shift`` (B, 2) at other poses: turned in the image plane and scaled with the head.

        Args:
            pose: B poses.
            distance_m: distance of the head's centre.
        """
        turned = pose.rotation @ self.pose.rotation.transpose(-1, -2)
        roll = torch.atan2(turned[:, 1, 0] - turned[:, 0, 1], turned[:, 0, 0] + turned[:, 1, 1])
        cos, sin = roll.cos(), roll.sin()
        turn = torch.stack((cos, -sin, sin, cos), dim=-1).view(-1, 2, 2)
        grown = (self.pose.translation[:, 2:] + distance_m) / (pose.translation[:, 2:] + distance_m)
        return turn @ self.linear @ turn.transpose(-1, -2), turn @ self.shift * grown


def align_flow(
    source_pose: Pose,
    target_pose: Pose,
    k: Float[Tensor, "3 3"],
    distance_m: float,
    size: int,
    fit: FaceFit | None = None,
) -> Tensor:
    """Backward flow that shifts and scales frames so that a head seen at one place appears at another.

    Args:
        source_pose: poses at which the heads are seen.
        target_pose: poses whose translation they should have; rotations stay.
        k: camera matrix.
        distance_m: distance of the head's centre.
        size: side of the frames, pixels.
        fit: also lay the face on another one, by where the places of that one are on it.

    Returns:
        (B, 2, size, size), pixels.
    """
    centre = source_pose.translation.new_tensor((0.0, 0.0, distance_m))
    from_point, to_point = source_pose.translation + centre, target_pose.translation + centre
    from_pixel, to_pixel = (project(p[:, None], k)[:, 0] for p in (from_point, to_point))
    ratio = (to_point[:, 2] / from_point[:, 2])[:, None, None]  # a head that moves away shrinks
    q = pixel_grid(size, size, from_pixel).reshape(1, -1, 2)
    offset = q - to_pixel[:, None]
    if fit is not None:
        linear, shift = fit.at(target_pose, distance_m)
        offset = offset @ linear.transpose(-1, -2) + shift[:, None]
    source = offset * ratio + from_pixel[:, None]
    return (source - q).transpose(1, 2).reshape(-1, 2, size, size)


def fit_affine(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The affine map (2, 3) that takes points (n, 2) nearest to the targets in squared distance."""
    ahead = np.concatenate((points, np.ones_like(points[:, :1])), axis=1)
    return np.linalg.lstsq(ahead, targets, rcond=None)[0].T


def fit_similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The turn, scale and shift (2, 3) that takes points (n, 2) nearest to the targets in squared distance."""
    # In complex numbers a similarity is z -> a z + b, and least squares has a closed form.
    z, w = points @ np.array([1, 1j]), targets @ np.array([1, 1j])
    zc, wc = z - z.mean(), w - w.mean()
    a = np.vdot(zc, wc) / np.vdot(zc, zc).real
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
