"""Relative motion across people: where a driving video begins, and how its face lies on the subject's.

Poses put one head where the other is, but no two people's poses are off by the same error, and no two faces have the
mouth at the same place: motions of the one mouth would move the other one's chin. So the driver's face is laid on the
subject's by the landmarks of one picture each.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from head3d.geometry import FaceFit, Pose, Rendered, box_blur, dilate, fit_affine, pixel_grid, project, warp
from head3d.images import to_frames
from head3d.models.head3d import Canonical, HeadGeometry, rigid_flow
from head3d.models.matching import Matcher

INNER = slice(17, 68)  # landmarks of brows, nose, eyes and mouth; the jaw's outline slides with the pose
STRETCH = 1.7  # how much at most, about, one face is wider or longer than another of the same size
FACE_M = 0.06  # metres from the centre of a head, seen from the front, within which brows, eyes and mouth lie
FACE_MOTION, HEAD_MOTION = 0.1, 0.03  # soft limits of a motion, shares of the image's side: on the face, around it
FURTHEST = 0.2  # of the image's side: by how much at most two heads at one pose are apart


@dataclass(frozen=True)
class Start:
    """Where a driving video begins.

    Attributes:
        frame: its first frame (1, 3, H, W) in [0, 1].
        pose: of that frame.
        fit: how its face lies on the subject's; None where landmarks do not tell.
    """

    frame: Tensor
    pose: Pose
    fit: FaceFit | None = None


def fit_driver_face(
    driver: Float[Tensor, "1 3 h w"],
    subject: Float[Tensor, "1 3 h w"],
    pose: Pose,
    k: Float[Tensor, "3 3"],
    distance_m: float,
) -> FaceFit | None:
    """How a driver's face lies on a subject's.

    Args:
        driver: picture of the driver in [0, 1].
        subject: picture of the subject in [0, 1].
        pose: that both have, as far as poses tell.
        k: camera matrix.
        distance_m: distance of the head's centre.

    Returns:
        Where places of the subject's face are on the driver's; None where a face is not found, or where the two differ
        by more than faces do.
    """
    theirs, ours = landmarks(driver), landmarks(subject)
    if theirs is None or ours is None:
        return None
    centre = project(_heads(pose, distance_m), k)[0, 0].cpu().double().numpy()
    found = fit_affine(ours[INNER] - centre, theirs[INNER] - centre)
    linear, shift = found[:, :2], found[:, 2]
    stretches = np.linalg.svd(linear, compute_uv=False)
    alike = np.linalg.det(linear) > 0 and stretches.min() > 1 / STRETCH and stretches.max() < STRETCH
    if not alike or np.linalg.norm(shift) > FURTHEST * driver.shape[-1]:
        return None
    linear, shift = (torch.from_numpy(x).to(pose.translation) for x in (linear, shift))
    return FaceFit(linear, shift, pose)


def face_motion(
    flow: Float[Tensor, "b 2 h w"], pose: Pose, k: Float[Tensor, "3 3"], distance_m: float
) -> Float[Tensor, "b 2 h w"]:
    """A flow without what no face does by itself: hair that hangs and swings, errors of the pose far from the face.

    Args:
        flow: pixels.
        pose: of the heads, B.
        k: camera matrix.
        distance_m: distance of the head's centre.

    Returns:
        The flow with its lengths bent below ``FACE_MOTION`` on the face and ``HEAD_MOTION`` elsewhere, pixels.
    """
    size = flow.shape[-1]
    heads = _heads(pose, distance_m)
    centre, reach = project(heads, k), FACE_M * k[0, 0] / heads[..., 2:]
    away = (pixel_grid(size, size, flow) - centre[:, None]).norm(dim=-1) / reach
    face = (-away.pow(4)).exp()[:, None]  # 1 on the face, with a soft edge
    most = (HEAD_MOTION + (FACE_MOTION - HEAD_MOTION) * face) * size
    return flow * most / (flow.square().sum(dim=1, keepdim=True) + most**2).sqrt()


def shown_of_driver(
    matcher: Matcher,
    geometry: HeadGeometry,
    start: Start,
    canonical: Canonical,
    rendered: Rendered,
    shown: Float[Tensor, "b 3 h w"],
    pose: Pose,
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 2 h w"]]:
    """What Phi is shown of another person's driving frames, and what has moved in them besides the pose.

    Another person's face must not be matched with the subject's: that would carry its shape over. What has moved
    besides the pose is told from the driver alone, whose first frame is carried to the driving poses as a stiff head.
    What moves behind the driver is left out, and so are motions that no face makes.

    Args:
        matcher: finds that motion.
        geometry: renders heads.
        start: where the driving video begins, laid on the subject.
        canonical: head of the subject, B times.
        rendered: it at the driving poses.
        shown: driving frames, laid on the subject.
        pose: of them, as the subject takes it.

    Returns:
        The first frame with no more than the face's own motion, around the head the driving frames, and that motion as
        a backward flow in pixels.
    """
    nothing = torch.zeros_like(start.frame[:, :2])
    flow = rigid_flow(geometry, canonical, rendered, start.pose, nothing)
    carried = warp(start.frame.expand(len(shown), -1, -1, -1), flow)
    window = 2 * (shown.shape[-1] // 32) + 1
    near = box_blur(dilate(rendered.mask, window), window)
    still = near * carried + (1 - near) * shown
    moved = face_motion(matcher.flow(still, shown), pose, geometry.k(shown), geometry.distance_m)
    return warp(still, moved), moved


def _heads(pose: Pose, distance_m: float) -> Float[Tensor, "b 1 3"]:
    """Centres of the heads, metres from the camera."""
    return (pose.translation + pose.translation.new_tensor((0.0, 0.0, distance_m)))[:, None]


def landmarks(picture: Float[Tensor, "1 3 h w"]) -> np.ndarray | None:
    """68 landmarks (x, y) of the largest face in a picture, pixels; None where there is none."""
    from head3d.data.follower import Follower

    return Follower().see(np.ascontiguousarray(to_frames(picture)[0]))
