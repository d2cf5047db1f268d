"""Face parsing: BiSeNet (Yu et al., ECCV 2018) with a ResNet-18 trunk, 19 classes of CelebAMask-HQ.

Only inference is needed: the weights are the public ones of face-parsing.PyTorch, whose key names are kept so that they
load strictly. The two auxiliary heads of training exist for their keys' sake and are never run.
"""

from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from head3d import assets
from head3d.compute import Compute

# Decision 5: these make the head; neck, necklace, cloth and background do not.
_NAMES = (
    "background skin left_brow right_brow left_eye right_eye glasses left_ear right_ear ear_ring nose mouth upper_lip "
    "lower_lip neck necklace cloth hair hat"
)
CLASSES = tuple(_NAMES.split())
HEAD_CLASSES = tuple(i for i, name in enumerate(CLASSES) if name not in ("background", "neck", "necklace", "cloth"))
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet


class ConvBNReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Basic residual block of ResNet-18."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class _Trunk(nn.Module):
    """ResNet-18 without its classifier; features at 1/8, 1/16 and 1/32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(_Block(64, 64, 1), _Block(64, 64, 1))
        self.layer2 = nn.Sequential(_Block(64, 128, 2), _Block(128, 128, 1))
        self.layer3 = nn.Sequential(_Block(128, 256, 2), _Block(256, 256, 1))
        self.layer4 = nn.Sequential(_Block(256, 512, 2), _Block(512, 512, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        eighth = self.layer2(self.layer1(x))  # (B, 128, H/8, W/8)
        sixteenth = self.layer3(eighth)  # (B, 256, H/16, W/16)
        return eighth, sixteenth, self.layer4(sixteenth)  # ..., (B, 512, H/32, W/32)


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
        self.resnet = _Trunk()
        self.arm16 = _Attention(256, 128)
        self.arm32 = _Attention(512, 128)
        self.conv_head32 = ConvBNReLU(128, 128)
        self.conv_head16 = ConvBNReLU(128, 128)
        self.conv_avg = ConvBNReLU(512, 128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        eighth, sixteenth, last = self.resnet(x)
        context = self.conv_avg(last.mean((2, 3), keepdim=True))  # (B, 128, 1, 1)
        up = F.interpolate(self.arm32(last) + context, sixteenth.shape[-2:], mode="nearest")
        up = self.arm16(sixteenth) + self.conv_head32(up)
        up = self.conv_head16(F.interpolate(up, eighth.shape[-2:], mode="nearest"))
        return eighth, up  # both (B, 128, H/8, W/8)


class _Fusion(nn.Module):
    """Feature fusion: both paths, reweighted by a small squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.convblk = ConvBNReLU(256, 256, 1)
        self.conv1 = nn.Conv2d(256, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 256, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat([spatial, context], 1))
        weight = torch.sigmoid(self.conv2(F.relu(self.conv1(x.mean((2, 3), keepdim=True)))))
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
        return self.conv_out(self.ffm(*self.cp(x)))


@lru_cache(maxsize=4)
def load_parser(device: str = "cpu", dtype: torch.dtype = torch.float32) -> BiSeNet:
    """The pretrained network for inference: batch norm is folded into the convolutions, head classes come first."""
    weights = torch.load(assets.fetch("face-parsing"), map_location="cpu", weights_only=True)
    net = BiSeNet()
    net.load_state_dict(weights, strict=True)
    net.eval().requires_grad_(False).apply(_fold_batch_norms)
    order = [*HEAD_CLASSES, *(i for i in range(len(CLASSES)) if i not in HEAD_CLASSES)]
    last = net.conv_out.conv_out
    last.weight = nn.Parameter(last.weight[order], requires_grad=False)
    return net.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fold_batch_norms(module: nn.Module) -> None:
    pairs = (("conv", "bn"), ("conv1", "bn1"), ("conv2", "bn2"), ("conv_atten", "bn_atten"), ("0", "1"))
    children = dict(module.named_children())
    for conv, norm in pairs:
        layer, normal = children.get(conv), children.get(norm)
        if isinstance(layer, nn.Conv2d) and isinstance(normal, nn.BatchNorm2d):
            setattr(module, conv, fuse_conv_bn_eval(layer, normal))
            setattr(module, norm, nn.Identity())


@torch.inference_mode()
def head_masks(
    frames: np.ndarray,
    input_size: int = 384,
    device: str = "auto",
    batch_size: int = 8,
    precision: str = "auto",
) -> np.ndarray:
    """Soft head masks uint8 ``(k, H, W)``, 255 = head, of uint8 ``(k, H, W, 3)`` RGB frames.

    The class with the highest score is taken at the network's full size and the binary mask then averaged down:
    multiplying by probabilities instead leaves a grey ghost around the head. Holes in the head are filled.
    """
    compute = Compute.choose(device, precision)
    net, place = load_parser(str(compute.device), compute.dtype), compute.device
    mean = torch.tensor(_MEAN, device=place).view(1, 3, 1, 1)
    std = torch.tensor(_STD, device=place).view(1, 3, 1, 1)
    size = (input_size, input_size)
    masks = np.empty(frames.shape[:3], np.uint8)
    for start in range(0, len(frames), batch_size):
        batch = torch.from_numpy(np.array(frames[start : start + batch_size])).to(place)
        images = batch.permute(0, 3, 1, 2).float().div_(255)  # already channels_last in memory
        images = F.interpolate(images, size, mode="bilinear", antialias=max(batch.shape) > input_size)
        scores = net(((images - mean) / std).to(compute.dtype, memory_format=torch.channels_last))
        shares = _head_share(scores, size, frames.shape[1:3]).cpu().numpy()
        for index, share in enumerate(shares):
            masks[start + index] = fill_holes(share)
    return masks


def _head_share(scores: Tensor, size: tuple[int, int], output: tuple[int, ...]) -> Tensor:
    """Share of head in each output pixel, uint8 ``(B, H, W)`` 0..255: argmax at ``size``, area average to ``output``.

    ``scores``: ``(B, 19, h, w)``, the head's classes first.
    """
    n, masks = len(HEAD_CLASSES), []
    for one in scores.float().contiguous().split(1):  # one by one, so that the enlarged scores stay in the cache
        large = F.interpolate(one, size, mode="bilinear", align_corners=True)  # as the network was trained
        # argmax is head where the best head class beats the best other class
        head = large[:, :n].amax(1, keepdim=True) > large[:, n:].amax(1, keepdim=True)
        masks.append(F.interpolate(head.float(), output, mode="area")[:, 0])
    return torch.cat(masks).mul_(255).round_().to(torch.uint8)


def fill_holes(mask: np.ndarray, largest: float = 0.4) -> np.ndarray:
    """Fill the holes of a soft head mask uint8 ``(H, W)``.

    The parser leaves holes in faces that are small in the frame; a head has none. A hole larger than ``largest`` times
    the head is kept: it may be the gap between long hair and the shoulders.
    """
    outside = mask < 128
    labels: np.ndarray
    labels, n = ndimage.label(outside)  # type: ignore[misc]
    if n < 2:
        return mask
    at_border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    areas = np.bincount(labels.ravel(), minlength=n + 1)
    small = areas <= largest * (~outside).sum()
    small[at_border] = False
    small[0] = False
    # one pixel more, for the soft rim of the hole; that pixel is head by its majority already
    return np.where(ndimage.binary_dilation(small[labels]), 255, mask).astype(np.uint8)
