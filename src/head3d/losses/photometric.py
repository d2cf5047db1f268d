"""The terms of Eq. 4 and Eq. 6: photometric error, symmetry of the canonical head, smoothness of its depth."""

import torch
from jaxtyping import Float
from torch import Tensor


def l1(predicted: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Mean absolute difference over pixels and channels (||.||_1 of Eqs. 4 and 6)."""
    return (predicted - target).abs().mean()


def head_share(mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Share of the image that a head covers, never zero.

    Gradients flow through it: only then does a loss that is divided by it gain nothing from a smaller head.
    """
    return mask.mean(dim=(1, 2, 3)).clamp(min=0.02)


def symmetry(image: Float[Tensor, "b 3 h w"], share: Float[Tensor, " b"] | None = None) -> Float[Tensor, ""]:
    """L_sym of Eq. 4: L1 between the canonical head and its mirror image.

    Args:
        image: canonical head.
        share: divide each head's term by this (its area), or the head learns to shrink; None is the paper's form.
    """
    each = (image - image.flip(-1)).abs().mean(dim=(1, 2, 3))
    return (each if share is None else each / share).mean()


def depth_smoothness(
    depth: Float[Tensor, "b 1 h w"],
    image: Float[Tensor, "b 3 h w"],
    mask: Float[Tensor, "b 1 h w"] | None = None,
    share: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, ""]:
    """L_D of Eq. 4: edge-aware smoothness of Godard et al. [11].

    Args:
        depth: in units in which a head spans about 1 (metres divided by the depth range).
        image: the head, whose edges allow depth to jump; no gradient flows to it, or it would learn edges for that.
        mask: count only inside it; None counts everywhere.
        share: divide each head's term by this; None is the paper's form.
    """
    image = image.detach()
    total = depth.new_zeros(len(depth))
    for dim in (-1, -2):
        step = torch.diff(depth, dim=dim).abs()
        edge = torch.diff(image, dim=dim).abs().mean(dim=1, keepdim=True)
        term = step * torch.exp(-edge)
        if mask is not None:
            both = mask.narrow(dim, 0, mask.shape[dim] - 1) * mask.narrow(dim, 1, mask.shape[dim] - 1)
            term = term * both
        total = total + term.mean(dim=(1, 2, 3))
    return (total if share is None else total / share).mean()
