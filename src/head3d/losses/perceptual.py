"""Perceptual loss on pretrained VGG features [17, 39], as FOMM and MRAA have it (Eq. 8).

Their pyramid blurs and takes every n-th pixel (``head3d.baselines.losses.PyramidLoss``); this one averages areas.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from head3d.models.blocks import imagenet, shrink

# Channels of the convolutions, "M" a pooling; slices end at relu1_1, relu2_1, relu3_1, relu4_1, relu5_1.
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512)
VGG19 = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512)


class PerceptualLoss(nn.Module):
    """Sum over an image pyramid and five VGG layers of the mean absolute difference of features.

    Args:
        network: ``vgg16`` or ``vgg19``.
        weights: convolution weights and biases by torchvision's names, ``features.N.weight``.
        scales: resolutions of the pyramid, as shares of the image's; FOMM has 1, 0.5, 0.25, 0.125.
        layers: how many of the five layers count.
    """

    def __init__(
        self,
        network: Literal["vgg16", "vgg19"],
        weights: dict[str, Tensor],
        scales: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125),
        layers: int = 5,
    ) -> None:
        super().__init__()
        self.scales = scales
        self.slices = nn.ModuleList()
        current: list[nn.Module] = []
        inputs, index, block_start = 3, 0, True
        for entry in VGG16 if network == "vgg16" else VGG19:
            if entry == "M":
                current.append(nn.MaxPool2d(2))
                index, block_start = index + 1, True
                continue
            assert isinstance(entry, int)
            conv = nn.Conv2d(inputs, entry, 3, padding=1)
            conv.load_state_dict({k: weights[f"features.{index}.{k}"] for k in ("weight", "bias")})
            current += [conv, nn.ReLU(inplace=True)]  # saves a map of every layer
            inputs, index = entry, index + 2
            if block_start:  # the first activation of a block is a layer of the loss
                self.slices.append(nn.Sequential(*current))
                current, block_start = [], False
                if len(self.slices) == layers:
                    break
        self.requires_grad_(False).eval()

    def features(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Activations of the counted layers."""
        out, x = [], imagenet(image).contiguous(memory_format=torch.channels_last)
        for part in self.slices:
            x = part(x)
            out.append(x)
        return out

    def forward(self, predicted: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """Loss of RGB images in [0, 1]; no gradient flows to ``target``."""
        total = predicted.new_zeros(())
        for scale in self.scales:
            with torch.no_grad():
                wanted = self.features(shrink(target, scale))
            got = self.features(shrink(predicted, scale))
            for a, b in zip(got, wanted, strict=True):
                total = total + _MeanDistance.apply(a, b)
        return total


class _MeanDistance(torch.autograd.Function):
    """Mean absolute difference from features that do not learn.

    In the features' own precision, summed in float32: a third of the time of converting them first. The gradient comes
    from the kept difference in two passes over the map, where autograd's own needs four.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        difference = a - b
        ctx.save_for_backward(difference)
        return difference.abs().sum(dtype=torch.float32) / difference.numel()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        assert not ctx.needs_input_grad[1]
        (difference,) = ctx.saved_tensors
        return difference.sgn().mul_(gradients[0] / difference.numel()), None
