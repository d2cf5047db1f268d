"""Rigid head poses P = {R, t} and their angles.

The head turns about its own centre c = (0, 0, distance), as in unsup3d: p' = R (p - c) + c + t. Eq. 1 and Eq. 3 of the
paper turn it about the camera instead; :meth:`Pose.about_camera` converts (the same motion with t' = t + (I - R) c).

Angles in degrees, read by somebody who looks at the image: positive yaw turns the nose to the right of the image,
positive pitch lifts it, positive roll tilts the head clockwise. Pitch is applied first, then yaw, then roll.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Pose:
    """A batch of head poses about the head's centre.

    Attributes:
        rotation: (B, 3, 3).
        translation: (B, 3), metres.
    """

    rotation: Tensor
    translation: Tensor

    def __len__(self) -> int:
        return self.rotation.shape[0]

    def __getitem__(self, index: slice | Tensor | list[int]) -> "Pose":
        return Pose(self.rotation[index], self.translation[index])

    def to(self, device: torch.device | str) -> "Pose":
        return Pose(self.rotation.to(device), self.translation.to(device))

    def detach(self) -> "Pose":
        return Pose(self.rotation.detach(), self.translation.detach())

    @staticmethod
    def cat(poses: "list[Pose]") -> "Pose":
        return Pose(torch.cat([p.rotation for p in poses]), torch.cat([p.translation for p in poses]))

    def about_camera(self, distance_m: float) -> Float[Tensor, "b 3"]:
        """Translation t' of the paper's Eqs. 1 and 3, which turn the head about the camera."""
        centre = self.translation.new_tensor((0.0, 0.0, distance_m))
        return self.translation + centre - self.rotation @ centre

    def apply(self, points: Float[Tensor, "b n 3"], distance_m: float) -> Float[Tensor, "b n 3"]:
        """Move canonical points to this pose (Eq. 3)."""
        return points @ self.rotation.transpose(1, 2) + self.about_camera(distance_m)[:, None]

    def unapply(self, points: Float[Tensor, "b n 3"], distance_m: float) -> Float[Tensor, "b n 3"]:
        """Move points seen at this pose back to canonical space (Eq. 1)."""
        return (points - self.about_camera(distance_m)[:, None]) @ self.rotation


def rotation_from_euler(
    yaw: Float[Tensor, " b"], pitch: Float[Tensor, " b"], roll: Float[Tensor, " b"]
) -> Float[Tensor, "b 3 3"]:
    """R = R_z(roll) R_y(-yaw) R_x(-pitch); angles in degrees, signs as at the top of this file."""
    angles = torch.stack((-pitch, -yaw, roll), dim=-1).deg2rad()
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    rows = (
        cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx,
        sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx,
        -sy, cy * sx, cy * cx,
    )  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)


def euler_from_rotation(
    rotation: Float[Tensor, "b 3 3"],
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Yaw, pitch and roll in degrees, the inverse of :func:`rotation_from_euler` for |yaw| < 90."""
    yaw = torch.asin(rotation[:, 2, 0].clamp(-1, 1)).rad2deg()
    pitch = -torch.atan2(rotation[:, 2, 1], rotation[:, 2, 2]).rad2deg()
    roll = torch.atan2(rotation[:, 1, 0], rotation[:, 0, 0]).rad2deg()
    return yaw, pitch, roll


def pose_from_euler(
    yaw: Float[Tensor, " b"] | float = 0.0,
    pitch: Float[Tensor, " b"] | float = 0.0,
    roll: Float[Tensor, " b"] | float = 0.0,
    translation: Float[Tensor, "b 3"] | None = None,
) -> Pose:
    """Pose from angles in degrees (tensors of one length, or numbers) and a translation in metres (default 0)."""
    angles = [torch.as_tensor(a, dtype=torch.float32).reshape(-1) for a in (yaw, pitch, roll)]
    size = max(len(a) for a in angles)
    if translation is not None:
        size = max(size, len(translation))
    expanded = [a.expand(size) for a in angles]
    moved = torch.zeros(size, 3) if translation is None else translation.expand(size, 3)
    return Pose(rotation_from_euler(*expanded), moved)


def euler_from_pose(pose: Pose) -> tuple[Tensor, Tensor, Tensor]:
    """Yaw, pitch and roll of a pose, each (B,), degrees."""
    return euler_from_rotation(pose.rotation)


def relative_pose(driving: Pose, first: Pose, subject: Pose) -> Pose:
    """Motion of the driving head since its first frame, put on the subject.

    Rotation stays the driving head's own. The translation starts at the subject's place and moves by as many metres as
    the driving head has moved; canonical heads are about one size, so that is the same share of the head.
    """
    moved = driving.translation - first.translation
    return Pose(driving.rotation, subject.translation + moved)
