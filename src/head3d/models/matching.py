"""The matcher of Phi: where each place of the driving frame is found in the reference frame that the head has carried.

Coarse to fine, with a cost volume at each level, after PWC-Net (Sun et al., CVPR 2018), much smaller. The paper's Phi
must find out from the concatenated images alone what has moved where; that takes far more training than motions that
are compared explicitly.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from head3d.geometry.warp import double_flow, warp

SLOPE = 0.1  # of the leaky ReLU
ROUNDS = 2  # passes, each over what the last has left: one alone finds three quarters of what lips and brows move
RUN = 16  # neighbours in a row whose costs are computed together: longer runs throw more away, shorter ones are slower
LEAST = 1e-12  # length below which a feature is taken for none
SHARPER = 3.0  # correlations, in [-1, 1] and mostly small, enter the convolutions times this


def correlate(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], reach: int) -> Float[Tensor, "b k h w"]:
    """Cosine of each feature of ``a`` with those of ``b`` around the same place.

    Args:
        a: features; each channel is standardised over the image first, so that light and contrast do not count.
        b: likewise.
        reach: pixels to each side.

    Returns:
        K = (2 * reach + 1)^2 maps in [-1, 1], the offsets row by row; outside ``b`` they are zero.
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = (F.instance_norm(x.float()) for x in (a, b))
        # F.normalize does the same, ten times as slowly across channels.
        a, b = (x * x.square().sum(dim=1, keepdim=True).clamp(min=LEAST**2).rsqrt() for x in (a, b))
        return Correlation.apply(a, b, reach)


class Correlation(torch.autograd.Function):
    """Inner products of each feature with those around the same place, by batched matrix products.

    A run of ``RUN`` neighbouring features in a row is multiplied with all that any of them looks at, and of that matrix
    each keeps a band. Most of the products are thrown away, and still it takes a quarter of the time (two cores with
    AMX, the demo's three levels together) of one product of maps an offset, whose gradients are as many maps of zeros
    with a part filled in.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], reach: int
    ) -> Float[Tensor, "b k h w"]:
        batch, channels, height, width = a.shape
        run = RUN if width % RUN == 0 else width
        seen, offsets = run + 2 * reach, 2 * reach + 1
        runs = a.permute(0, 2, 3, 1).contiguous().view(-1, run, channels)
        padded = F.pad(b.permute(0, 2, 3, 1), (0, 0, reach, reach, reach, reach)).contiguous()
        image, row, column, _ = padded.stride()
        windows = padded.as_strided(
            (batch, height, width // run, offsets, seen, channels), (image, row, run * column, row, column, 1)
        )
        windows = windows.reshape(-1, offsets * seen, channels)
        products = runs @ windows.transpose(1, 2)  # of a run's features with all of its window's, row by row
        ctx.save_for_backward(runs, windows)
        ctx.sizes = (*a.shape, run, reach)
        return _band(products, offsets, seen).reshape(batch, height, width, offsets**2).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        runs, windows = ctx.saved_tensors
        batch, channels, height, width, run, reach = ctx.sizes
        seen, offsets = run + 2 * reach, 2 * reach + 1
        of_products = runs.new_zeros(len(runs), run, offsets * seen)
        band = _band(of_products, offsets, seen)
        band.copy_(gradients[0].permute(0, 2, 3, 1).reshape(band.shape))
        of_a = (of_products @ windows).view(batch, height, width, channels)
        of_windows = of_products.transpose(1, 2) @ runs
        of_windows = of_windows.view(batch, height, width // run, offsets, seen, channels)
        of_b = runs.new_zeros(batch, height + 2 * reach, width + 2 * reach, channels)
        for y in range(offsets):
            for x in range(width // run):
                of_b[:, y : y + height, x * run : x * run + seen] += of_windows[:, :, x, y]
        of_b = of_b[:, reach : reach + height, reach : reach + width]
        return of_a.permute(0, 3, 1, 2), of_b.permute(0, 3, 1, 2), None


def _band(products: Float[Tensor, "n run m"], offsets: int, seen: int) -> Float[Tensor, "n run k k"]:
    """Of each feature's products those with the ``offsets`` by ``offsets`` features around its own place; a view."""
    each, one, _ = products.stride()
    return products.as_strided((*products.shape[:2], offsets, offsets), (each, one + 1, seen, 1))


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.LeakyReLU(SLOPE))


class Level(nn.Module):
    """One level: correct the flow that the coarser one has found, which starts at zero."""

    def __init__(self, channels: int, reach: int, width: int) -> None:
        super().__init__()
        self.reach = reach
        entering = (2 * reach + 1) ** 2 + channels + 2
        self.body = nn.Sequential(_block(entering, width), _block(width, width), _block(width, width // 2))
        self.out = nn.Conv2d(width // 2, 2, 3, padding=1)
        nn.init.normal_(self.out.weight, std=1e-3)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, source: Tensor, target: Tensor, flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 2 h w"]:
        """Flow of this level's resolution from features of both images and a first guess."""
        costs = correlate(target, warp(source, flow), self.reach)
        return flow + self.out(self.body(torch.cat((SHARPER * costs, target, flow), dim=1))).float()


class Matcher(nn.Module):
    """Backward flow from a source image to a target image.

    Args:
        channels: of the features at a half, a quarter, ... of the resolution.
        reaches: pixels that a level looks around, finest level first.
        widths: channels of each level's convolutions.
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 48),
        reaches: Sequence[int] = (2, 3, 4),
        widths: Sequence[int] = (48, 64, 64),
    ) -> None:
        super().__init__()
        entering = (3, *channels)
        self.encoders = nn.ModuleList(
            nn.Sequential(_block(i, o, stride=2), _block(o, o)) for i, o in zip(entering, channels, strict=False)
        )
        self.levels = nn.ModuleList(Level(*sizes) for sizes in zip(channels, reaches, widths, strict=True))

    def forward(self, source: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Flows of every level, coarsest first, each (B, 2, H, W) at the images' resolution.

        Args:
            source: image that is to be warped, in [0, 1].
            target: what it should look like, in [0, 1]; colours may differ.
        """
        of_source = self._features(source)
        flows = self._between(of_source, self._features(target))
        sizes = [x.shape[-2:] for x in (*reversed(of_source), source)]
        return [reduce(lambda x, size: double_flow(x, *size), sizes[k:], flow) for k, flow in enumerate(flows, 1)]

    def flow(self, source: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2 h w"]:
        """The finest flow, at the images' resolution; looked for ``ROUNDS`` times, each time from where it leads."""
        of_target = self._features(target)
        found = torch.zeros_like(source[:, :2])
        for _ in range(ROUNDS):
            left = self._between(self._features(warp(source, found)), of_target)[-1]
            left = double_flow(left, *source.shape[-2:])
            found = left + warp(found, left)
        return found

    def _features(self, image: Tensor) -> list[Tensor]:
        """Of each level, finest first."""
        features = []
        for encoder in self.encoders:
            image = encoder(image)
            features.append(image)
        return features

    def _between(self, source: list[Tensor], target: list[Tensor]) -> list[Tensor]:
        """Flows from the features of both images, coarsest first."""
        coarsest = source[-1]
        flow = coarsest.new_zeros(len(coarsest), 2, *coarsest.shape[-2:], dtype=torch.float32)
        flows: list[Tensor] = []
        for level, a, b in zip(reversed(self.levels), reversed(source), reversed(target), strict=True):
            flow = level(a, b, double_flow(flow, *a.shape[-2:]) if flows else flow)
            flows.append(flow)
        return flows
