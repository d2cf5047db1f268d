"""Batch normalisation over the whole batch where several processes have a part of it each.

``torch.nn.SyncBatchNorm`` does this on GPUs alone. This one runs everywhere, so the tests on a CPU are about the code
that trains on GPUs; and networks keep their modules, so their weights have the same names and what looks for
``BatchNorm2d`` finds it.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from head3d.ranks import Ranks


class _Standardise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) by the mean and the biased variance of each channel (dim 1) over all ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Standardised float32 ``x``, and mean, variance and count of the whole batch."""
        channels = x.shape[1]
        over = [dim for dim in range(x.dim()) if dim != 1]
        x = x.float()
        var, mean = torch.var_mean(x, dim=over, correction=0)
        count = mean.new_tensor([x.numel() // channels])
        # Ranks may have unequally many: the depth of every third frame is learnt.
        counts, means, variances = ranks.gather(torch.cat((count, mean, var))).split((1, channels, channels), dim=1)
        total = counts.sum()
        mean = (counts * means).sum(dim=0) / total
        var = (counts * (variances + (means - mean).square())).sum(dim=0) / total
        shape = [1, channels] + [1] * (x.dim() - 2)
        scale = torch.rsqrt(var + eps).view(shape)
        out = (x - mean.view(shape)) * scale
        ctx.save_for_backward(out, scale, total)
        ctx.over, ctx.ranks, ctx.shape = over, ranks, shape
        ctx.mark_non_differentiable(mean, var, total)
        return out, mean, var, total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Through the statistics too, to which every rank's loss has contributed."""
        out, scale, total = ctx.saved_tensors
        gradient = gradients[0]
        sums = torch.cat((gradient.sum(dim=ctx.over), (gradient * out).sum(dim=ctx.over)))
        plain, along = (ctx.ranks.sum(sums) / total).view(2, *ctx.shape).unbind()
        return scale * (gradient - plain - out * along), None, None


def _forward(norm: _BatchNorm, ranks: Ranks, x: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, x)
    out, mean, var, total = _Standardise.apply(x, norm.eps, ranks)  # type: ignore[misc]
    if norm.track_running_stats:
        assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
        assert norm.momentum is not None
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(var * total / (total - 1), norm.momentum)
    if norm.affine:
        shape = [1, -1] + [1] * (x.dim() - 2)
        out = out * norm.weight.view(shape) + norm.bias.view(shape)
    return out.to(x.dtype)


def sync_batchnorm(network: nn.Module, ranks: Ranks) -> None:
    """Let batch normalisation that trains take the statistics of all ranks' rows; alone, networks stay as they are.

    Every rank must then call the network equally often and in the same order.
    """
    if ranks.world_size == 1:
        return
    for part in network.modules():
        if isinstance(part, _BatchNorm):
            part.forward = partial(_forward, part, ranks)  # type: ignore[method-assign]
