"""Frozen networks made faster for inference: the same answers up to rounding.

- A normalisation that follows a convolution is folded into it.
- A convolution of repeated pixels sees each pixel several times. Where it is worth it, the copies' weights are summed
  beforehand: four small kernels on the low resolution, one for each place of a pixel within its 2x2 copies, instead of
  one on the high resolution; 2.25 times fewer products.

:mod:`head3d.baselines.inference` does it, and more, to the baselines' networks.
"""

from itertools import pairwise
from typing import TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from head3d.models.blocks import ConvBlock
from head3d.models.folding import fold_norms

M = TypeVar("M", bound=nn.Module)
WORTH = 512 * 128  # input times output channels; above that, levels are so small that reading weights is the cost


def prepare_for_inference(network: M) -> M:
    """The network itself, made of :mod:`head3d.models.blocks` and frozen; it can't be trained, saved, or given weights.

    Args:
        network: in evaluation mode; its weights are changed.
    """
    with torch.no_grad():
        for block in [part for part in network.modules() if isinstance(part, nn.Sequential)]:
            fold_norms(block, pairwise(dict(block.named_children())))
        for block in [part for part in network.modules() if isinstance(part, nn.Sequential)]:
            for (before, up), (_, follows) in pairwise(list(block.named_children())):
                conv = follows[0] if isinstance(follows, ConvBlock) else follows
                if is_doubling(up) and isinstance(follows, ConvBlock) and is_worth_it(conv):
                    setattr(block, before, nn.Identity())
                    follows[0] = PhasedConv(conv)
    return network


def is_doubling(module: object) -> bool:
    """Whether it repeats each pixel in twice two."""
    return isinstance(module, nn.Upsample) and module.mode == "nearest" and module.scale_factor == 2


def is_worth_it(conv: nn.Module) -> TypeGuard[nn.Conv2d | nn.Conv3d]:
    """Whether :class:`PhasedConv` can do what this convolution does after a doubling, and pays."""
    if not isinstance(conv, nn.Conv2d | nn.Conv3d) or conv.in_channels * conv.out_channels > WORTH:
        return False
    return set(conv.kernel_size) == {3} and set(conv.stride) == {1} and set(conv.padding) == {1}


class PhasedConv(nn.Module):
    """A 3x3 convolution (with volumes 3x3x3) of pixels that are repeated in twice two, at the low resolution.

    Args:
        old: the convolution of the repeated pixels, with a bias.
    """

    def __init__(self, old: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        weight = old.weight
        # Rows 2i and 2i + 1 of the output see rows i - 1, i and i, i + 1 of the input: which of the three taps fall
        # on which of the two, for either row.
        taps = weight.new_tensor((((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1))))
        summed = torch.einsum("pay,qbx,oi...yx->pqoi...ab", taps, taps, weight)
        channels = old.in_channels, 4 * old.out_channels
        if isinstance(old, nn.Conv2d):
            self.conv = nn.Conv2d(*channels, 2, padding=1)
        else:
            self.conv = nn.Conv3d(*channels, (3, 2, 2), padding=1)
        self.conv.weight = nn.Parameter(summed.flatten(0, 2), requires_grad=False)
        assert old.bias is not None
        self.conv.bias = nn.Parameter(old.bias.repeat(4), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ..., H, W) -> (B, C', ..., 2H, 2W)."""
        height, width = x.shape[-2:]
        phases = self.conv(x).unflatten(1, (2, 2, -1))
        layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        size = (len(x), phases.shape[3], *x.shape[2:-2], 2 * height, 2 * width)
        out = torch.empty(size, dtype=phases.dtype, device=x.device, memory_format=layout)
        for row in (0, 1):
            for column in (0, 1):
                part = phases[:, row, column, ..., row : row + height, column : column + width]
                out[..., row::2, column::2] = part
        return out
