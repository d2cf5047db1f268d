"""Recurrent canonical head generation (Sec. 3.2): E_H, ConvLSTM Lambda, Omega_H."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from head3d.geometry.warp import warp
from head3d.models.blocks import STRIDE, ConvLSTM, ImageDecoder, ImageEncoder, at_cells


class CanonicalNet(nn.Module):
    """Canonical head from N reference heads and the flows that carry them to canonical space.

    Args:
        width: channels after the first convolution.
        blocks: residual blocks of encoder and of decoder.
        residual: predict a correction of the mean canonical head (True) or the head itself, as the paper prints it.
    """

    def __init__(self, width: int = 64, blocks: int = 3, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.encoder = ImageEncoder(width, blocks)
        self.recurrence = ConvLSTM(4 * width + 1, 4 * width)
        self.decoder = ImageDecoder(width, blocks)
        if residual:  # start from the mean canonical head itself
            last = self.decoder[-1]
            assert isinstance(last, nn.Conv2d) and last.bias is not None
            nn.init.normal_(last.weight, std=1e-4)
            nn.init.zeros_(last.bias)

    def forward(
        self,
        heads: Float[Tensor, "b n 3 h w"],
        flows: Float[Tensor, "b n 2 h w"],
        seen: Float[Tensor, "b n 1 h w"],
        mean: Float[Tensor, "b 3 h w"],
        mask: Float[Tensor, "b 1 h w"],
    ) -> Float[Tensor, "b 3 h w"]:
        """Estimate x_hat^c.

        Args:
            heads: reference head images x_i in [0, 1].
            flows: backward flows f_{R_i <- C} of Eq. 5, pixels.
            seen: which canonical pixels each reference sees, in [0, 1].
            mean: mean canonical head, zero outside ``mask``; the start of the residual form.
            mask: where the canonical head is.

        Returns:
            The canonical head image in [0, 1], zero outside ``mask``.
        """
        batch, n = heads.shape[:2]
        features = self.encoder(heads.flatten(0, 1))  # (B * N, C, H / 4, W / 4)
        carried = warp(features, at_cells(flows.flatten(0, 1)) / STRIDE, padding="zeros")
        visible = at_cells(seen.flatten(0, 1)).to(features.dtype)
        sequence = torch.cat((carried * visible, visible), dim=1).unflatten(0, (batch, n))
        out = self.decoder(self.recurrence(sequence)).float()
        # / 50: Adam's first steps move an output by about its own size, which would destroy the good mean head.
        # The mean head is zero outside the mask and faded at its soft edge already.
        if self.residual:
            return (mean + torch.tanh(out / 50) * mask).clamp(0, 1)
        return torch.sigmoid(out) * mask
