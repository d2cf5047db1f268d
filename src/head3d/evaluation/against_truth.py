"""What papers on moving heads report of reconstructions beside MSE and LPIPS: L1, PSNR, SSIM, AKD, MKR and AED.

docs/metrics.md is their specification. Frames are RGB in [0, 1], and the n-th is held against the n-th.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from head3d.evaluation.metrics import mse_01
from head3d.evaluation.observe import Observed

MOST_DB = 100.0  # PSNR of equal frames, which is infinite, and of all that differ by less than a video can hold
WINDOW, SIGMA = 11, 1.5  # pixels, of the Gaussian window of SSIM
C1, C2 = 0.01**2, 0.03**2  # its constants, for values in [0, 1]
AKD_HEIGHT = 256  # pixels of the frames that the papers give distances in
AKD, MKR, AED = "akd_dlib68", "mkr_dlib68", "aed_mobilefacenet"
OF_FACES = (AKD, MKR, AED)


def l1_01(predicted: Float[Tensor, "t 3 h w"], truth: Float[Tensor, "t 3 h w"]) -> Float[Tensor, " t"]:
    """Mean absolute error of each frame."""
    return (predicted - truth).abs().mean(dim=(1, 2, 3))


def psnr_db(predicted: Float[Tensor, "t 3 h w"], truth: Float[Tensor, "t 3 h w"]) -> Float[Tensor, " t"]:
    """Peak signal-to-noise ratio of each frame in decibels, over all its pixels and channels; at most ``MOST_DB``."""
    return (-10 * mse_01(predicted, truth).log10()).clamp(max=MOST_DB)


def ssim(predicted: Float[Tensor, "t 3 h w"], truth: Float[Tensor, "t 3 h w"]) -> Float[Tensor, " t"]:
    """Structural similarity of each frame (Wang, Bovik, Sheikh, Simoncelli 2004), mean of its channels.

    Only windows that lie in the frame count; it must be ``WINDOW`` pixels a side or more.
    """
    mean_a, mean_b = windowed(predicted), windowed(truth)
    var_a = windowed(predicted.square()) - mean_a.square()
    var_b = windowed(truth.square()) - mean_b.square()
    covariance = windowed(predicted * truth) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    return (likeness * (2 * covariance + C2) / (var_a + var_b + C2)).mean(dim=(1, 2, 3))


def windowed(x: Float[Tensor, "t c h w"]) -> Float[Tensor, "t c h2 w2"]:
    """Means under a Gaussian window, where all of it lies inside."""

    def along(length: int) -> Tensor:  # (length, length - WINDOW + 1)
        return torch.stack([F.pad(weight, (k, length - WINDOW - k)) for k in range(length - WINDOW + 1)], dim=1)

    place = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weight = torch.exp(-(place**2) / (2 * SIGMA**2))
    weight = weight / weight.sum()
    # Matrix products: on a CPU convolutions of single channels take two to four times as long at these sizes.
    return along(x.shape[-2]).T @ (x @ along(x.shape[-1]))


def of_faces(result: Observed, truth: Observed, heights: tuple[int, int]) -> dict[str, float]:
    """``OF_FACES`` of a video.

    Args:
        result: T frames.
        truth: as many.
        heights: of the frames of the two, pixels.

    Returns:
        As FOMM's authors compute them (their repository pose-evaluation): AKD, the mean absolute difference of the
        landmarks' coordinates in pixels of frames that are ``AKD_HEIGHT`` high; MKR, the share of the frames with a
        face in which the result has none; AED, the mean squared distance of the faces' embeddings. NaN where no frame
        can tell.
    """
    both = result.found & truth.found
    ours, theirs = (seen.landmarks[both] * (AKD_HEIGHT / h) for seen, h in zip((result, truth), heights, strict=True))
    unlike = np.square(result.identity[both] - truth.identity[both]).sum(axis=-1)
    lost = ~result.found[truth.found]
    found = zip(OF_FACES, (np.abs(ours - theirs), lost, unlike), strict=True)
    return {name: float(values.mean()) if values.size else float("nan") for name, values in found}
