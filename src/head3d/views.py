"""Poses given by hand (Sec. 3.4): a subject's head turned or moved from where it is in its reference frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from head3d.geometry import Pose, pose_from_euler

if TYPE_CHECKING:
    from head3d.api import Subject

Angles = float | Sequence[float] | np.ndarray | Tensor


def hand_pose(
    subject: Subject,
    yaw: Angles = 0.0,
    pitch: Angles = 0.0,
    roll: Angles = 0.0,
    shift_m: Sequence[float] | Tensor = (0.0, 0.0, 0.0),
) -> Pose:
    """Poses with absolute angles, at the place of the subject's head in its reference frame plus a shift.

    Args:
        subject: whose head.
        yaw: degrees, a number or (M,); so are ``pitch`` and ``roll``.
        shift_m: metres, (3,) or (M, 3).

    Returns:
        M poses; single numbers hold for all of them.
    """
    angles = [torch.as_tensor(angle, dtype=torch.float32).reshape(-1) for angle in (yaw, pitch, roll)]
    shift = torch.as_tensor(shift_m, dtype=torch.float32).reshape(-1, 3)
    count = max(len(shift), *(len(angle) for angle in angles))
    place = subject.reference_pose.translation.detach().float().cpu()
    return pose_from_euler(*(angle.expand(count) for angle in angles), translation=place + shift.expand(count, 3))
