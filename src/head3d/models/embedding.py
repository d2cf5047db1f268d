"""Who somebody is: unit vectors of faces by MobileFaceNet (Chen et al. 2018), trained with ArcFace's loss."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from head3d.assets.cache import fetch
from head3d.geometry import fit_similarity
from head3d.models.tflite import TfliteNet

SIZE, DIMENSIONS = 112, 192  # pixels of the face that the network sees, numbers that it gives
# Where ArcFace puts the eyes (left of the image first), the tip of the nose and the corners of the mouth, in pixels.
FIVE_POINTS = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Centres of the eyes, tip of the nose, corners of the mouth (..., 5, 2) from 68 landmarks (..., 68, 2)."""
    eyes = [landmarks[..., start : start + 6, :].mean(-2) for start in (36, 42)]
    return np.stack([*eyes, landmarks[..., 30, :], landmarks[..., 48, :], landmarks[..., 54, :]], axis=-2)


def aligned(frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A face as the network wants it, uint8 (112, 112, 3), out of a uint8 (H, W, 3) frame with landmarks (68, 2)."""
    from PIL import Image

    image, points = Image.fromarray(frame), five_points(landmarks.astype(np.float64))
    to_face = fit_similarity(points, np.array(FIVE_POINTS))
    shrink = int(1 / np.hypot(*to_face[:, 0]))  # a large face is averaged down first, so that nothing aliases
    if shrink > 1:
        image, points = image.reduce(shrink), (points + 0.5) / shrink - 0.5
        to_face = fit_similarity(points, np.array(FIVE_POINTS))
    back = np.linalg.inv(np.vstack((to_face, (0, 0, 1))))[:2]
    back[:, 2] += 0.5 - back[:, :2] @ (0.5, 0.5)  # PIL counts from the pixels' corners
    made = image.transform((SIZE, SIZE), Image.Transform.AFFINE, back.flatten().tolist(), Image.Resampling.BILINEAR)
    return np.asarray(made)


@lru_cache(maxsize=1)
def _network() -> TfliteNet:
    network = TfliteNet(fetch("face-identity")).eval()
    return network.to(memory_format=torch.channels_last)


@torch.inference_mode()
def embed(faces: np.ndarray, device: str | torch.device = "cpu", batch_size: int = 4) -> Float[Tensor, "n d"]:
    """Unit vectors of aligned faces, uint8 (n, 112, 112, 3) RGB; the cosine of two says how alike the people are."""
    network = _network().to(device)
    found = []
    for start in range(0, len(faces), batch_size):
        pixels = torch.from_numpy(faces[start : start + batch_size])
        images = pixels.to(device).permute(0, 3, 1, 2).float()  # its memory is channels last
        found.append(F.normalize(network((images - 127.5) / 128), dim=1).cpu())
    return torch.cat(found) if found else torch.empty(0, DIMENSIONS)
