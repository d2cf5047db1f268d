"""Frames as arrays and as tensors: uint8 (T, H, W, 3) on disk and in videos, float32 (T, 3, H, W) for networks."""

import numpy as np
import torch
from torch import Tensor


def to_tensor(frames: np.ndarray) -> Tensor:
    """uint8 (T, H, W, 3) -> float32 (T, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2).float().div(255.0)


def mask_tensor(masks: np.ndarray) -> Tensor:
    """uint8 (T, H, W) -> float32 (T, 1, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(masks))[:, None].float().div(255.0)


def mask_frames(masks: Tensor) -> np.ndarray:
    """Float (T, 1, H, W) in [0, 1] -> uint8 (T, H, W)."""
    return to_frames(masks)[..., 0]


def to_frames(images: Tensor) -> np.ndarray:
    """Float (T, 3, H, W), cut to [0, 1] -> uint8 (T, H, W, 3)."""
    scaled = images.detach().float().cpu().clamp(0, 1).mul(255).round()
    return scaled.permute(0, 2, 3, 1).numpy().astype(np.uint8)
