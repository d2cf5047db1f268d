"""Faster copies of methods, for driving only: the same answers up to rounding.

- What :mod:`head3d.models.fast` does to Head3D's: normalisations are folded into convolutions, and convolutions of
  repeated pixels computed at the low resolution.
- A convolution with a few outputs leaves wide processors idle; its kernel's rows become outputs.
- Convolutions hold their weights in the type and memory layout that they compute in, which autocast would make anew
  from float32 at every call.
"""

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from head3d.baselines.blocks import Up
from head3d.baselines.method import Method
from head3d.models.fast import PhasedConv, is_worth_it
from head3d.models.folding import fold_norms

M = TypeVar("M", bound=Method)

# Names of a convolution and the normalisation that follows it: in blocks, in pre-activation blocks (their norm1 comes
# first of all and stays), in torchvision's ResNets and on the way past their blocks.
FOLDED = (("conv", "norm"), ("conv1", "norm2"), ("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))
FEW = 21  # outputs times rows of a kernel, up to which a convolution's outputs leave most of a processor idle


def for_inference(method: M, dtype: torch.dtype = torch.bfloat16) -> M:
    """A copy of a method that drives faster; it can't be trained, saved, or given weights.

    Args:
        method: stays as it is.
        dtype: what convolutions compute in, except those of the networks that find points; no autocast around it.
    """
    result = copy.deepcopy(method).eval().requires_grad_(False)
    with torch.no_grad():
        for module in result.modules():
            fold_norms(module, FOLDED)
        for module in list(result.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Conv2d) and has_few_outputs(child):
                    setattr(module, name, RowwiseConv(child))
                elif isinstance(child, Up) and is_worth_it(child.conv):
                    setattr(
                        module, name, nn.Sequential(PhasedConv(child.conv), nn.LeakyReLU(child.slope, inplace=True))
                    )
        for name, network in result.networks().items():
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.Conv3d):
                    settle(module, torch.float32 if name in result.exact else dtype)
    return result


def settle(conv: nn.Conv2d | nn.Conv3d, dtype: torch.dtype) -> None:
    """Keep a convolution's weights as it computes, and let it take inputs of any type."""
    layout = torch.channels_last if isinstance(conv, nn.Conv2d) else torch.channels_last_3d
    conv.to(dtype).to(memory_format=layout)
    conv.register_forward_pre_hook(lambda module, inputs: (inputs[0].to(module.weight.dtype),))


def has_few_outputs(conv: nn.Conv2d) -> bool:
    """Whether :class:`RowwiseConv` pays."""
    same = conv.padding == tuple(side // 2 for side in conv.kernel_size)
    return same and conv.kernel_size[0] > 1 and conv.out_channels * conv.kernel_size[0] <= FEW < conv.in_channels


class RowwiseConv(nn.Module):
    """A convolution with so few outputs that each row of its kernel becomes outputs of its own, summed afterwards."""

    def __init__(self, old: nn.Conv2d) -> None:
        super().__init__()
        outputs, inputs, rows, columns = old.weight.shape
        self.rows = rows
        self.conv = nn.Conv2d(inputs, rows * outputs, (1, columns), padding=(0, columns // 2), bias=False)
        weight = old.weight.permute(2, 0, 1, 3).reshape(self.conv.weight.shape)
        self.conv.weight = nn.Parameter(weight, requires_grad=False)
        assert old.bias is not None
        self.bias = nn.Parameter(old.bias[:, None, None], requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[-2]
        parts = F.pad(self.conv(x), (0, 0, self.rows // 2, self.rows // 2)).chunk(self.rows, dim=1)
        return sum((part[..., i : i + height, :] for i, part in enumerate(parts)), start=self.bias)
