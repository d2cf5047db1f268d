"""Metrics on frames, RGB in [0, 1]; the captions of the tables repeat the definitions."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn


def mse_01(predicted: Float[Tensor, "t 3 h w"], truth: Float[Tensor, "t 3 h w"]) -> Float[Tensor, " t"]:
    """Mean squared error of each frame, RGB in [0, 1]. On [-1, 1] (``mse_pm1``) it is four times as large."""
    return (predicted - truth).square().mean(dim=(1, 2, 3))


class Lpips(nn.Module):
    """LPIPS v0.1 of the ``lpips`` package, with features computed once a frame however often it is compared.

    Args:
        network: ``alex`` (the usual one) or ``vgg``.
    """

    def __init__(self, network: Literal["alex", "vgg"] = "alex") -> None:
        super().__init__()
        self.metric: Any = load_lpips(network)  # the package has no types

    @torch.inference_mode()
    def features(self, frames: Float[Tensor, "t 3 h w"]) -> list[Tensor]:
        """Unit-normalised features of RGB frames in [0, 1]."""
        import lpips

        outs = self.metric.net(self.metric.scaling_layer(2 * frames - 1))
        return [lpips.normalize_tensor(out) for out in outs]

    @torch.inference_mode()
    def distance(self, a: list[Tensor], b: list[Tensor]) -> Float[Tensor, " t"]:
        """LPIPS of each pair of frames, from their features."""
        total = torch.zeros(len(a[0]), device=a[0].device)
        for layer, (x, y) in enumerate(zip(a, b, strict=True)):
            total = total + self.metric.lins[layer]((x - y).square()).mean(dim=(1, 2, 3))
        return total

    def forward(self, predicted: Float[Tensor, "t 3 h w"], truth: Float[Tensor, "t 3 h w"]) -> Float[Tensor, " t"]:
        """LPIPS of each frame, RGB in [0, 1]."""
        return self.distance(self.features(predicted), self.features(truth))


def load_lpips(network: Literal["alex", "vgg"]) -> nn.Module:
    """The package's metric: its own linear heads, and the trunk from the assets instead of a download."""
    import contextlib
    import io
    import warnings

    import lpips

    from head3d.assets.cache import load_alexnet, load_vgg

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        # pnet_rand: the trunk's weights are ours to load; lpips=True takes the heads out of the package's own files.
        metric = lpips.LPIPS(net=network, version="0.1", pretrained=True, pnet_rand=True, verbose=False)
    trunk = load_alexnet() if network == "alex" else load_vgg("vgg16")
    # The package cuts torchvision's `features` into slices but keeps the layers' numbers: sliceK.N is features.N.
    loaded = {k: trunk["features." + k.split(".", 1)[1]] for k in metric.net.state_dict()}
    metric.net.load_state_dict(loaded)
    return metric.eval().requires_grad_(False)
