"""Head masks of frames: the head is shown to a parser upright and enlarged, and what it says is put back.

Which parser is no matter here: the face parser (parsing.py), or the small one (small_parser.py).
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from head3d.compute import Compute
from head3d.data import faces
from head3d.data.boxes import head_box
from head3d.models.blocks import imagenet
from head3d.models.parsing import is_head, load_parser


@runtime_checkable
class Parser(Protocol):
    """A network that finds heads in views of them."""

    @property
    def input_size(self) -> int:
        """Side of the square views, pixels."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it is."""
        ...

    def heads(self, views: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 1 s s"]:
        """1 where a pixel is head, else 0, of views in RGB in [0, 1]."""
        ...


@dataclass(frozen=True)
class FaceParser:
    """The pretrained face parser.

    Attributes:
        input_size: side of its views, pixels, a multiple of 32.
        compute: where it runs, in which precision.
    """

    input_size: int
    compute: Compute

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.compute.device

    def heads(self, views: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 1 s s"]:
        """1 where the class with the highest score is one of the head's, else 0, of views in RGB in [0, 1]."""
        kind = self.compute.dtype
        scores = load_parser(str(self.device), kind)(imagenet(views).to(kind, memory_format=torch.channels_last))
        return torch.cat([is_head(one, self.input_size) for one in scores.float().contiguous().split(1)])


@torch.inference_mode()
def head_masks(
    frames: np.ndarray, parser: Parser, landmarks: np.ndarray | None = None, *, rim: float = 0.0, batch_size: int = 8
) -> np.ndarray:
    """Soft head masks of frames.

    A parser is taught on upright faces that fill the picture and fails on small or tilted ones, so it is shown the head
    turned upright and enlarged. What it says of each pixel there, head or not, is averaged down to the frame: to
    multiply by probabilities instead leaves a grey ghost around the head. Holes are filled.

    Args:
        frames: RGB uint8 ``(k, H, W, 3)``.
        parser: the face parser, or the small one.
        landmarks: ``(k, 68, 2)``, pixels, by which the head is shown; those of :func:`found_landmarks` if not given.
            Where they are NaN, the whole frame is shown.
        rim: taken off all around, where hair and background mix, as a share of the frame's height.
        batch_size: frames at a time; it does not change the result.

    Returns:
        uint8 ``(k, H, W)``, 255 = head.
    """
    if landmarks is None:
        landmarks = found_landmarks(frames)
    height, width = frames.shape[1:3]
    all_views = torch.from_numpy(np.stack([head_view(points, height, width) for points in landmarks] or [np.eye(3)]))
    masks = np.empty(frames.shape[:3], np.uint8)
    for start in range(0, len(frames), batch_size):
        part = slice(start, start + batch_size)
        batch = torch.from_numpy(np.array(frames[part])).to(parser.device)
        images = batch.permute(0, 3, 1, 2).float().div_(255)
        view = all_views[part].float().to(parser.device)
        head, cover, cut_off = _parse(images, view, parser, rim)
        if cut_off.any():  # long hair goes on outside the view: see there by a look at the whole frame
            everything = torch.eye(3, device=view.device).expand(int(cut_off.sum()), 3, 3)
            whole, _, _ = _parse(images[cut_off], everything, parser, rim)
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


def places(view: Float[Tensor, "b 3 3"], size: int) -> Float[Tensor, "b s s 2"]:
    """Where in the frame, in [-1, 1], the pixels of views (:func:`head_view`) of ``size`` pixels lie."""
    return F.affine_grid(view[:, :2], [len(view), 1, size, size], align_corners=False)


def through(images: Float[Tensor, "b 3 h w"], grid: Float[Tensor, "b s s 2"]) -> Float[Tensor, "b 3 s s"]:
    """What a parser is shown of images through views, whose pixels lie as :func:`places` says."""
    size = grid.shape[1:3]
    if max(images.shape[-2:]) > size[0]:
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _parse(images: Tensor, view: Tensor, parser: Parser, rim: float) -> tuple[Tensor, Tensor, Tensor]:
    """Parse frames ``(B, 3, H, W)`` through views ``(B, 3, 3)``.

    Returns the share of head in each pixel ``(B, H, W)``, the share of each pixel that the view covers ``(B, H, W)``,
    and whether the head goes on beyond the view, inside the frame ``(B,)``.
    """
    height, width = images.shape[-2:]
    size = parser.input_size
    grid = places(view, size)
    head = parser.heads(through(images, grid))

    inside = (grid.abs() < 1).all(-1)
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
