"""Poses given by hand (Sec. 3.4): a subject's head turned or moved from where it is in its reference frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from head3d.errors import UserError
from head3d.geometry import Pose, pose_from_euler

if TYPE_CHECKING:
    from head3d.api import Subject

Angles = float | Sequence[float] | np.ndarray | Tensor


def hand_pose(
    subject: Subject,
    yaw: Angles = 0.0,
    pitch: Angles = 0.0,
    roll: Angles = 0.0,
) -> Pose:
    """Poses with absolute angles, at the place of the subject's head in its reference frame.

    Args:
        subject: whose head.
        yaw: degrees, a number or (M,); so are ``pitch`` and ``roll``.

    Returns:
        M poses; single numbers hold for all of them.

    Raises:
        UserError: lists of different lengths, or an empty one.
    """
    angles = [torch.as_tensor(angle, dtype=torch.float32).reshape(-1) for angle in (yaw, pitch, roll)]
    lengths = [len(angle) for angle in angles]
    count = max(lengths)
    if not set(lengths) <= {1, count} or 0 in lengths:
        said = f"{lengths[0]} angles of yaw, {lengths[1]} of pitch, {lengths[2]} of roll"
        raise UserError(said, allowed="as many of each, or a single one")
    place = subject.reference_pose.translation.detach().float().cpu()
    return pose_from_euler(*(angle.expand(count) for angle in angles), translation=place.expand(count, 3))


def moved_pose(subject: Subject, shift_m: Sequence[float]) -> Pose:
    """The pose of the subject's reference frame, moved by (x, y, z) metres: right, down, away from the camera."""
    pose = subject.reference_pose.detach().to("cpu")
    return Pose(pose.rotation.float(), pose.translation.float() + torch.tensor(shift_m, dtype=torch.float32))
