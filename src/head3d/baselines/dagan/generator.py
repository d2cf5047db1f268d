"""Depth-aware generator of DaGAN: moved features attend to the geometry of the source's depth."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from head3d.baselines.blocks import ConvNorm, Down
from head3d.baselines.generator import Generator
from head3d.baselines.keypoints import full_precision
from head3d.baselines.motion import DenseMotion, Motion


@full_precision
def attention_shares(query: Float[Tensor, "b c n"], key: Float[Tensor, "b c n"]) -> Float[Tensor, "b n n"]:
    """Share of every place in each place's answer: softmax of query . key, which is not divided by sqrt(c)."""
    return (query.transpose(1, 2) @ key).softmax(dim=-1)


class CrossModalAttention(nn.Module):
    """Attention from depth features to appearance features, added to the latter (its cross-modal attention).

    Args:
        channels: of both.
        reduction: how many times fewer channels queries and keys have.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // reduction, 1)
        self.key = nn.Conv2d(channels, channels // reduction, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(
        self, depth: Float[Tensor, "b c h w"], appearance: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        query, key, value = (
            layer(x).relu().flatten(2)
            for layer, x in ((self.query, depth), (self.key, appearance), (self.value, appearance))
        )
        shares = attention_shares(query, key).to(value.dtype)
        # Not value @ shares^T: the shares' gradient would come transposed, and be copied three times before it is used.
        answer = (shares @ value.transpose(1, 2)).transpose(1, 2)
        return (self.gamma * answer.unflatten(2, appearance.shape[2:]) + appearance).to(value.dtype)


class DepthAwareGenerator(Generator):
    """FOMM's generator with an encoder of the source's depth and attention before the bottleneck.

    Args:
        motion: the network of its motion.
        width: channels at full resolution; they double with each halving.
        most: greatest number of channels.
        downs: halvings.
        residuals: residual blocks at the lowest resolution.
    """

    def __init__(
        self, motion: DenseMotion, width: int = 64, most: int = 512, downs: int = 2, residuals: int = 6
    ) -> None:
        super().__init__(motion, width, most, downs, residuals)
        channels = [min(most, width * 2**i) for i in range(downs + 1)]
        self.depth_first = ConvNorm(1, width, 7)
        self.depth_down = nn.ModuleList(Down(channels[i], channels[i + 1]) for i in range(downs))
        self.attention = CrossModalAttention(channels[-1])

    def encode_depth(self, disparity: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Features of a source frame's disparity at the lowest resolution."""
        x = self.depth_first(disparity)
        for down in self.depth_down:
            x = down(x)
        return x

    def forward(  # type: ignore[override]
        self,
        source: Float[Tensor, "b 3 h w"],
        features: list[Tensor],
        depth: Float[Tensor, "b c h2 w2"],
        motion: Motion,
    ) -> Float[Tensor, "b 3 h w"]:
        """Frames of a motion; ``features`` and ``depth`` (of :meth:`encode_depth`) are those of ``source``."""
        return self.paint(self.attention(depth, self.visible(features[-1], motion)), source, features, motion)
