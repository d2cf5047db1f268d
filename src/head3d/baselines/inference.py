"""Faster copies of methods, for driving only: the same answers up to rounding.

- A normalisation that follows a convolution is folded into it.
- A convolution of repeated pixels sees each pixel several times. Where it is worth it, the copies' weights are summed
  beforehand: four small kernels on the low resolution, one for each place of a pixel within its 2x2 copies, instead of
  one on the high resolution; 2.25 times fewer products.
- A convolution with a few outputs leaves wide processors idle; its kernel's rows become outputs.
- Convolutions hold their weights in the type and memory layout that they compute in, which autocast would make anew
  from float32 at every call.
"""

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from head3d.baselines.blocks import Up
from head3d.baselines.method import Method

M = TypeVar("M", bound=Method)

# Names of a convolution and the normalisation that follows it: in blocks, in pre-activation blocks (their norm1 comes
# first of all and stays), in torchvision's ResNets and on the way past their blocks.
FOLDED = (("conv", "norm"), ("conv1", "norm2"), ("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))
WORTH = 512 * 128  # input times output channels; above that, levels are so small that reading weights is the cost
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
            fold_norms(module)
        for module in list(result.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Conv2d) and has_few_outputs(child):
                    setattr(module, name, RowwiseConv(child))
                elif isinstance(child, Up) and child.conv.in_channels * child.conv.out_channels <= WORTH:
                    setattr(module, name, PhasedUp(child))
        for name, network in result.networks().items():
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.Conv3d):
                    settle(module, torch.float32 if name in result.exact else dtype)
    return result


def fold_norms(module: nn.Module) -> None:
    """Fold those normalisations of a block that follow a convolution; blocks within it are left alone."""
    for first, second in FOLDED:
        conv, norm = getattr(module, first, None), getattr(module, second, None)
        if isinstance(conv, nn.Conv2d | nn.Conv3d) and isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
            assert norm.running_mean is not None and norm.running_var is not None
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            setattr(module, second, nn.Identity())


def settle(conv: nn.Conv2d | nn.Conv3d, dtype: torch.dtype) -> None:
    """Keep a convolution's weights as it computes, and let it take inputs of any type."""
    layout = torch.channels_last if isinstance(conv, nn.Conv2d) else torch.channels_last_3d
    conv.to(dtype).to(memory_format=layout)
    conv.register_forward_pre_hook(lambda module, inputs: (inputs[0].to(module.weight.dtype),))


def has_few_outputs(conv: nn.Conv2d) -> bool:
    """Whether :class:`RowwiseConv` pays."""
    return conv.kernel_size[0] > 1 and conv.out_channels * conv.kernel_size[0] <= FEW < conv.in_channels


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


class PhasedUp(nn.Module):
    """What :class:`Up` does once its normalisation is folded, computed at the low resolution."""

    def __init__(self, up: Up) -> None:
        super().__init__()
        old = up.conv
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
        self.slope = up.slope

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        phases = F.leaky_relu(self.conv(x), self.slope) if self.slope else F.relu(self.conv(x))
        phases = phases.unflatten(1, (2, 2, -1))
        layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        size = (len(x), phases.shape[3], *x.shape[2:-2], 2 * height, 2 * width)
        out = torch.empty(size, dtype=phases.dtype, device=x.device, memory_format=layout)
        for row in (0, 1):
            for column in (0, 1):
                part = phases[:, row, column, ..., row : row + height, column : column + width]
                out[..., row::2, column::2] = part
        return out
