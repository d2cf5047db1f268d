"""Numbers as pictures: colours for depth, shading, attention and mask outlines. All uint8 (H, W, 3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.colors import ListedColormap

DEPTH_COLORS = "cividis_r"  # near is bright; safe for colour-blind eyes
ATTENTION_COLORS = "RdYlBu_r"  # red is high and blue is low, as in the paper; told apart by colour-blind eyes too
STRENGTH = 0.65  # of the colours of attention over the grey image
OUTLINE = (230, 159, 0)
LIGHT = (-0.35, -0.45, -0.82)  # from the upper left, towards the face; camera axes: x right, y down, z away


def colored(values: np.ndarray, name: str, low: float, high: float) -> np.ndarray:
    """(H, W) numbers through a colour map that spans ``low`` to ``high``."""
    from matplotlib import colormaps

    span = max(high - low, 1e-9)
    return (colormaps[name](np.clip((values - low) / span, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def depth_picture(offset_cm: np.ndarray, mask: np.ndarray, low: float, high: float) -> np.ndarray:
    """Depth (H, W) in cm from the head's centre, coloured on white outside the mask (H, W) in [0, 1]."""
    return over(colored(offset_cm, DEPTH_COLORS, low, high), mask, (255, 255, 255))


def shading_picture(depth_m: np.ndarray, mask: np.ndarray, fov_deg: float) -> np.ndarray:
    """What a grey head of this depth looks like under one lamp: surface normals from finite differences.

    Args:
        depth_m: (H, W), distance from the camera along z.
        mask: (H, W) in [0, 1].
        fov_deg: field of view of the camera (Eq. 2).
    """
    height, width = depth_m.shape
    focal = (width - 1) / (2 * math.tan(math.radians(fov_deg) / 2))
    v, u = np.mgrid[:height, :width]
    x, y = (u - (width - 1) / 2) / focal * depth_m, (v - (height - 1) / 2) / focal * depth_m
    points = np.stack((x, y, depth_m), axis=-1)
    normal = np.cross(np.gradient(points, axis=0), np.gradient(points, axis=1))  # faces the camera: negative z
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-12
    light = np.array(LIGHT) / np.linalg.norm(LIGHT)
    grey = 0.12 + 0.88 * np.clip(normal @ light, 0, 1)
    return over(np.repeat((grey[..., None] * 255).round().astype(np.uint8), 3, axis=-1), mask, (255, 255, 255))


def attention_picture(attention: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Attention (h, w) in [0, 1] coloured over a grey version of ``image`` (H, W, 3)."""
    from PIL import Image

    size = (image.shape[1], image.shape[0])
    smooth = np.asarray(Image.fromarray(attention.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    grey = image.astype(np.float64) @ (0.299, 0.587, 0.114)
    mixed = STRENGTH * colored(smooth, ATTENTION_COLORS, 0.0, 1.0) + (1 - STRENGTH) * grey[..., None]
    return mixed.round().astype(np.uint8)


def attention_colors() -> ListedColormap:
    """What :func:`attention_picture` makes of 0 to 1 over middle grey: its colour bar, as the bare map is not in it."""
    from matplotlib.colors import ListedColormap

    ramp = attention_picture(np.linspace(0, 1, 256)[None], np.full((1, 256, 3), 128, np.uint8))
    return ListedColormap(ramp[0] / 255)


def over(picture: np.ndarray, mask: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """``picture`` where the mask (H, W) is 1, a plain colour where it is 0."""
    soft = np.clip(mask, 0, 1)[..., None]
    return (picture * soft + np.array(background) * (1 - soft)).round().astype(np.uint8)


def outlined(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``picture`` with the border of a uint8 mask (H, W) drawn into it."""
    inside = mask >= 128
    core = inside.copy()
    core[1:] &= inside[:-1]
    core[:-1] &= inside[1:]
    core[:, 1:] &= inside[:, :-1]
    core[:, :-1] &= inside[:, 1:]
    drawn = picture.copy()
    drawn[inside & ~core] = OUTLINE
    return drawn
