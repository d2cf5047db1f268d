"""Face parsing: BiSeNet (Yu et al., ECCV 2018) with a ResNet-18 trunk, 19 classes of CelebAMask-HQ.

It is not trained here, though the small parser learns from what it says: the weights are the public ones of
face-parsing.PyTorch, whose key names are kept so that they load strictly. The two auxiliary heads of training exist for
their keys' sake and are never run.
"""

from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from head3d.assets.cache import fetch
from head3d.compute import Compute
from head3d.data import faces
from head3d.data.boxes import head_box
from head3d.models.blocks import imagenet
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


@torch.inference_mode()
def head_masks(
    frames: np.ndarray,
    input_size: int = 384,
    device: str | torch.device = "auto",
    batch_size: int = 8,
    precision: str = "auto",
    rim: float = 0.0,
    landmarks: np.ndarray | None = None,
) -> np.ndarray:
    """Soft head masks uint8 ``(k, H, W)``, 255 = head, of uint8 ``(k, H, W, 3)`` RGB frames.

    The parser was trained on upright faces that fill the picture and fails on small or tilted ones, so it is shown the
    head turned upright and enlarged, by ``landmarks`` ``(k, 68, 2)`` (:func:`found_landmarks` if not given; the whole
    frame is shown where they are NaN). The class with the highest score is taken at the network's full size and the
    binary mask then averaged down: multiplying by probabilities instead leaves a grey ghost around the head. Holes are
    filled, and a ``rim``, a share of the frame's height, is taken off all around, where hair and background mix.
    """
    compute = Compute.resolve(str(device), precision)
    if landmarks is None:
        landmarks = found_landmarks(frames)
    height, width = frames.shape[1:3]
    views = torch.from_numpy(np.stack([head_view(points, height, width) for points in landmarks] or [np.eye(3)]))
    masks = np.empty(frames.shape[:3], np.uint8)
    for start in range(0, len(frames), batch_size):
        part = slice(start, start + batch_size)
        batch = torch.from_numpy(np.array(frames[part])).to(compute.device)
        images = batch.permute(0, 3, 1, 2).float().div_(255)
        view = views[part].float().to(compute.device)
        head, cover, cut_off = _parse(images, view, input_size, compute, rim)
        if cut_off.any():  # long hair goes on outside the view: see there by a look at the whole frame
            everything = torch.eye(3, device=view.device).expand(int(cut_off.sum()), 3, 3)
            whole, _, _ = _parse(images[cut_off], everything, input_size, compute, rim)
            head[cut_off] += (1 - cover[cut_off]) * whole
        shares = head.clamp_(0, 1).mul_(255).round_().byte().cpu().numpy()
        masks[part] = np.stack([fill_holes(share) for share in shares])
    return masks


def found_landmarks(frames: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Landmarks float32 ``(k, 68, 2)`` of the largest face of each frame; NaN where there is none.

    Args:
        frames: RGB uint8 ``(k, H, W, 3)``.
        known: landmarks ``(k, 68, 2)``; a face is looked for only where they are NaN.
    """
    points = np.full((len(frames), 68, 2), np.nan, np.float32) if known is None else known.astype(np.float32)
    for index in np.flatnonzero(np.isnan(points).any(axis=(1, 2))):
        boxes = faces.detect(frames[index])
        points[index] = faces.landmarks(frames[index], boxes[0]) if boxes else np.nan
    return points


def head_view(points: np.ndarray, height: int, width: int, zoom: float = 1.3) -> np.ndarray:
    """Affine map ``(3, 3)`` from the parser's view to the frame, both in [-1, 1] as for ``affine_grid``.

    The view is a square ``zoom`` times the head of the landmarks ``(68, 2)``, turned so that the eyes are level.
    """
    if np.isnan(points).any():
        return np.eye(3)
    eyes = points[42:48].mean(0) - points[36:42].mean(0)
    cosine, sine = eyes / np.linalg.norm(eyes)
    turn = np.array([[cosine, -sine], [sine, cosine]])  # upright -> frame
    box = head_box(points @ turn)
    centre = turn @ (box[:2] + box[2:]) / 2
    half = zoom * max(box[2] - box[0], box[3] - box[1]) / 2
    view = np.eye(3)
    size = np.array([width, height])
    view[:2, :2] = turn * half * 2 / size[:, None]
    view[:2, 2] = (centre + 0.5) * 2 / size - 1
    return view


def _parse(images: Tensor, view: Tensor, size: int, compute: Compute, rim: float) -> tuple[Tensor, Tensor, Tensor]:
    """Parse frames ``(B, 3, H, W)`` through views ``(B, 3, 3)`` of ``size`` pixels.

    Returns the share of head in each pixel ``(B, H, W)``, the share of each pixel that the view covers ``(B, H, W)``,
    and whether the head goes on beyond the view, inside the frame ``(B,)``.
    """
    net = load_parser(str(compute.device), compute.dtype)
    height, width = images.shape[-2:]
    if max(height, width) > size:
        images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    grid = F.affine_grid(view[:, :2], [len(images), 1, size, size], align_corners=False)
    seen = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    scores = net(imagenet(seen).to(compute.dtype, memory_format=torch.channels_last))
    head = torch.cat([_is_head(one, size) for one in scores.float().contiguous().split(1)])  # (B, 1, size, size)

    inside = (grid.abs() < 1).all(-1)  # (B, size, size)
    edge = torch.ones(size, size, dtype=torch.bool, device=head.device)
    edge[1:-1, 1:-1] = False
    cut_off = (head[:, 0] * inside * edge).sum((1, 2)) > 0.02 * 4 * size
    for index, enlarged in enumerate(1 / view[:, :2, 1].norm(dim=1)):
        if (radius := round(rim * size * float(enlarged))) > 0:
            head[index] = _shrunk(head[index], radius)

    # back into the frame, 3 x 3 samples a pixel
    back = torch.linalg.inv(view)[:, :2]
    fine = F.affine_grid(back, [len(images), 1, 3 * height, 3 * width], align_corners=False)
    share = F.avg_pool2d(F.grid_sample(head, fine, padding_mode="zeros", align_corners=False), 3)[:, 0]
    cover = F.avg_pool2d((fine.abs() < 1).all(-1).float(), 3) if cut_off.any() else torch.ones_like(share)
    return share, cover, cut_off


def _shrunk(mask: Tensor, radius: int) -> Tensor:
    """A mask ``(1, H, W)`` with ``radius`` pixels taken off all around (not at the picture's edge)."""
    window = 2 * radius + 1
    mask = F.max_pool2d(-mask, (window, 1), stride=1, padding=(radius, 0))
    return -F.max_pool2d(mask, (1, window), stride=1, padding=(0, radius))


def _is_head(scores: Tensor, size: int) -> Tensor:
    """1 where the best class is one of the head's, else 0: ``(1, 19, h, w)``, the head's classes first, enlarged."""
    n = len(HEAD_CLASSES)
    large = F.interpolate(scores, (size, size), mode="bilinear", align_corners=True)  # as the network was trained
    return (large[:, :n].amax(1, keepdim=True) > large[:, n:].amax(1, keepdim=True)).float()


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
