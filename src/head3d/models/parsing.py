"""Face parsing: BiSeNet (Yu et al., ECCV 2018) with a ResNet-18 trunk, 19 classes of CelebAMask-HQ.

It is not trained here, though the small parser learns from what it says: the weights are the public ones of
face-parsing.PyTorch, whose key names are kept so that they load strictly. The two auxiliary heads of training exist for
their keys' sake and are never run.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from head3d.assets.cache import fetch
from head3d.models.folding import fold_norms
from head3d.models.resnet import ResNet

# All of these make the head but neck, necklace, cloth and background (the paper says "head", not which classes).
_NAMES = (
    "background skin left_brow right_brow left_eye right_eye glasses left_ear right_ear ear_ring nose mouth upper_lip "
    "lower_lip neck necklace cloth hair hat"
)
CLASSES = tuple(_NAMES.split())
HEAD_CLASSES = tuple(i for i, name in enumerate(CLASSES) if name not in ("background", "neck", "necklace", "cloth"))


class ConvBNReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.bn(self.conv(x)))


class _Attention(nn.Module):
    """Attention refinement: features scaled by a sigmoid of their own global mean."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(inputs, outputs)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(x.mean((2, 3), keepdim=True))))


class _ContextPath(nn.Module):
    """Trunk, global context, and refinement from 1/32 over 1/16 to 1/8."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = ResNet(18, classes=None)
        self.arm16 = _Attention(256, 128)
        self.arm32 = _Attention(512, 128)
        self.conv_head32 = ConvBNReLU(128, 128)
        self.conv_head16 = ConvBNReLU(128, 128)
        self.conv_avg = ConvBNReLU(512, 128, 1)

    def forward(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        levels = self.resnet.features(x)
        eighth, sixteenth, last = levels[2:]
        context = self.conv_avg(last.mean((2, 3), keepdim=True))  # (B, 128, 1, 1)
        up = F.interpolate(self.arm32(last) + context, sixteenth.shape[-2:], mode="nearest")
        up = self.arm16(sixteenth) + self.conv_head32(up)
        up = self.conv_head16(F.interpolate(up, eighth.shape[-2:], mode="nearest"))
        return levels, up  # those of the trunk at 1/2 to 1/32, (B, 128, H/8, W/8)


class _Fusion(nn.Module):
    """Feature fusion: both paths, reweighted by a small squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.convblk = ConvBNReLU(256, 256, 1)
        self.conv1 = nn.Conv2d(256, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 256, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat([spatial, context], 1))
        weight = torch.sigmoid(self.conv2(F.relu_(self.conv1(x.mean((2, 3), keepdim=True)))))
        return x + x * weight


class _Output(nn.Module):
    """Class scores at 1/8 of the input's size."""

    def __init__(self, inputs: int, middle: int, classes: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(inputs, middle)
        self.conv_out = nn.Conv2d(middle, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """Face parsing network: normalised RGB ``(B, 3, H, W)`` to class scores ``(B, 19, H/8, W/8)``.

    H and W are multiples of 32. Enlarge the scores bilinearly before the argmax, as the network was trained.
    """

    def __init__(self, classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.cp = _ContextPath()
        self.ffm = _Fusion()
        self.conv_out = _Output(256, 256, classes)
        self.conv_out16 = _Output(128, 64, classes)
        self.conv_out32 = _Output(128, 64, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.features(x)[1])

    def features(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The trunk's features at 1/2 to 1/32, and those ``(B, 256, H/8, W/8)`` that the scores are made of."""
        levels, context = self.cp(x)
        return levels, self.ffm(levels[2], context)


@lru_cache(maxsize=4)
def load_parser(device: str = "cpu", dtype: torch.dtype = torch.float32) -> BiSeNet:
    """The pretrained network for inference: batch norm is folded into the convolutions, head classes come first."""
    weights = torch.load(fetch("face-parsing"), map_location="cpu", weights_only=True)
    net = BiSeNet()
    net.load_state_dict(weights, strict=True)
    net.eval().requires_grad_(False).apply(fold_batch_norms)
    order = [*HEAD_CLASSES, *(i for i in range(len(CLASSES)) if i not in HEAD_CLASSES)]
    last = net.conv_out.conv_out
    last.weight = nn.Parameter(last.weight[order], requires_grad=False)
    return net.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fold_batch_norms(module: nn.Module) -> None:
    """Fold those of BiSeNet's blocks and of the trunk's; for ``Module.apply``."""
    fold_norms(module, (("conv", "bn"), ("conv1", "bn1"), ("conv2", "bn2"), ("conv_atten", "bn_atten"), ("0", "1")))


def is_head(scores: Tensor, size: int) -> Tensor:
    """1 where the best class is one of the head's, else 0: ``(B, 1, size, size)`` of scores ``(B, 19, h, w)``.

    The head's classes come first (:func:`load_parser`).
    """
    n = len(HEAD_CLASSES)
    large = F.interpolate(scores, (size, size), mode="bilinear", align_corners=True)  # as the network was trained
    return (large[:, :n].amax(1, keepdim=True) > large[:, n:].amax(1, keepdim=True)).float()
