"""What the networks are given, checked: frames and masks of the right shape and range, on their device."""

import torch
from torch import Tensor

from head3d.errors import UserError
from head3d.sections.choices import MOTIONS

SLACK = 0.01  # by which values of frames may leave [0, 1], as resized ones do


def check_frames(frames: Tensor, size: int, what: str) -> None:
    """Raises UserError unless frames are floating-point ones of shape (T, 3, size, size), at least one."""
    if frames.ndim != 4 or frames.shape[1:] != (3, size, size) or len(frames) == 0:
        raise UserError(
            f"{what}: a tensor of shape {tuple(frames.shape)}", allowed=f"(T, 3, {size}, {size}), RGB in [0, 1]"
        )
    if not frames.is_floating_point():
        raise UserError(
            f"{what}: a tensor of {frames.dtype}", allowed="floating point in [0, 1]", fix="divide bytes by 255"
        )


def place_frames(frames: Tensor, size: int, device: torch.device, what: str) -> Tensor:
    """Frames (T, 3, size, size) in float32 on the device.

    Raises:
        UserError: of another shape or type, or with values that are not in [0, 1].
    """
    check_frames(frames, size, what)
    placed = frames.to(device, torch.float32)
    if not bool(((placed >= -SLACK) & (placed <= 1 + SLACK)).all()):  # nor are NaNs
        raise UserError(f"{what}: values that are not in [0, 1]", fix="divide those of bytes by 255")
    return placed


def place_masks(masks: Tensor, frames: Tensor, what: str) -> Tensor:
    """Masks (T, 1, H, W) of placed frames (T, 3, H, W), beside them.

    Raises:
        UserError: of another shape, or with values that are not in [0, 1].
    """
    wanted = (len(frames), 1, *frames.shape[-2:])
    if masks.shape != wanted:
        raise UserError(f"{what}: masks of shape {tuple(masks.shape)}", allowed=f"{wanted}, one a frame")
    placed = masks.to(frames)
    if not bool(((placed >= 0) & (placed <= 1)).all()):
        raise UserError(f"{what}: masks with values that are not in [0, 1]", fix="divide those of bytes by 255")
    return placed


def check_motion(motion: str) -> None:
    """Raises UserError unless there is such a motion."""
    if motion not in MOTIONS:
        raise UserError(f"motion is {motion!r}", allowed=" or ".join(MOTIONS))
