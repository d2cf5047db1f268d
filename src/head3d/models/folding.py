"""Batch normalisations of frozen networks, folded into the convolutions before them."""

from collections.abc import Iterable

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_norms(module: nn.Module, pairs: Iterable[tuple[str, str]]) -> None:
    """Fold normalisations of a module into the convolutions before them; those of modules within it are left alone.

    Args:
        module: its normalisations are in evaluation mode, and become identities.
        pairs: names of a convolution and of what follows it; pairs that are not there or something else are passed by.
    """
    for first, second in pairs:
        if fold_norm(getattr(module, first, None), getattr(module, second, None)):
            setattr(module, second, nn.Identity())


def fold_norm(conv: object, norm: object) -> bool:
    """Fold a batch normalisation in evaluation mode into the convolution before it; False if they are no such pair."""
    if not isinstance(conv, nn.Conv2d | nn.Conv3d) or not isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
        return False
    assert norm.running_mean is not None and norm.running_var is not None and not norm.training
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return True
