"""A small parser: head masks of whole crops in one look, taught by the face parser (parsing.py) on the training clips.

The face parser is exact and slow: it wants the face found first, then sees it upright and enlarged at 384 pixels. The
small one sees the crop as it is. It begins with the first three quarters of the face parser's trunk, which has seen
thirty thousand faces where the training clips have a few, and has a decoder of its own that keeps sharp edges.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor, nn

from head3d.compute import Compute
from head3d.models.parsing import MEAN, STD, BiSeNet, ConvBNReLU, fill_holes, fold_batch_norms

SURE = 0.1  # a share of head below this is taken for none, one as near to 1 for all: no grey veil around the head
RIM = 2  # pixels of soft edge around what is head by its majority


class SmallParser(nn.Module):
    """Head masks of RGB frames.

    Args:
        input_size: side of the square that it sees frames at, pixels, a multiple of 16.
        width: channels of its decoder at a quarter of that.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, input_size: int = 192, width: int = 32) -> None:
        super().__init__()
        self.input_size = input_size
        trunk = BiSeNet().eval().apply(fold_batch_norms).cp.resnet
        self.stem, self.quarter, self.eighth, self.sixteenth = trunk.conv1, trunk.layer1, trunk.layer2, trunk.layer3
        self.context = nn.Conv2d(256, 2 * width, 1)
        self.at16 = ConvBNReLU(256, 2 * width, 1)
        self.at8 = ConvBNReLU(2 * width + 128, 2 * width)
        self.at4 = ConvBNReLU(2 * width + 64, width)
        self.past = ConvBNReLU(64, width // 2, 1)
        self.at2 = ConvBNReLU(width + width // 2, width // 2)
        self.score = nn.Conv2d(width // 2, 1, 1)
        self.requires_grad_(True)  # which biases that come from folding would not be
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    @property
    def trunk(self) -> tuple[nn.Module, ...]:
        """What comes from the face parser."""
        return self.stem, self.quarter, self.eighth, self.sixteenth

    @property
    def decoder(self) -> tuple[nn.Module, ...]:
        """What does not."""
        return self.context, self.at16, self.at8, self.at4, self.past, self.at2, self.score

    def ready(self, compute: Compute) -> "SmallParser":
        """Itself for inference: on its device, its batch normalisation folded into the convolutions."""
        return compute.place(self.eval().requires_grad_(False).apply(fold_batch_norms))

    def begin(self, teacher: BiSeNet) -> None:
        """Take over the trunk of the face parser, its batch normalisation folded (:func:`load_parser`)."""
        trunk = teacher.cp.resnet
        for mine, theirs in zip(self.trunk, (trunk.conv1, trunk.layer1, trunk.layer2, trunk.layer3), strict=True):
            mine.load_state_dict(theirs.state_dict())

    def forward(self, frames: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Logits of how much of each pixel is head.

        Args:
            frames: RGB in [0, 1].
        """
        size = (self.input_size, self.input_size)
        seen = frames if frames.shape[-2:] == size else F.interpolate(frames, size, mode="bilinear", antialias=True)
        half = F.relu(self.stem((seen - self.mean) / self.std))
        quarter = self.quarter(F.max_pool2d(half, 3, 2, 1))
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        x = self.at16(sixteenth) + self.context(sixteenth.mean(dim=(2, 3), keepdim=True))
        x = self.at8(_joined(x, eighth))
        x = self.at4(_joined(x, quarter))
        x = self.at2(_joined(x, self.past(half)))
        return F.interpolate(self.score(x).float(), frames.shape[-2:], mode="bilinear", antialias=True)

    @torch.inference_mode()
    def masks(self, frames: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Soft head masks in [0, 1], each in one piece and without holes.

        Args:
            frames: RGB in [0, 1].
        """
        share = (self(frames).sigmoid() - SURE) / (1 - 2 * SURE)
        pixels = share.clamp(0, 1).mul(255).round().byte().cpu().numpy()
        filled = torch.stack([torch.from_numpy(fill_holes(largest_part(mask[0]))) for mask in pixels])
        return filled[:, None].to(frames.device).float() / 255


def _joined(x: Tensor, skip: Tensor) -> Tensor:
    """Features enlarged to those of a finer level, beside them."""
    return torch.cat((F.interpolate(x, skip.shape[-2:], mode="bilinear"), skip), dim=1)


def largest_part(mask: np.ndarray) -> np.ndarray:
    """A soft mask uint8 ``(H, W)`` without what does not hang together with its largest part."""
    labels: np.ndarray
    labels, count = ndimage.label(mask >= 128)  # type: ignore[misc]
    if count == 0:
        return np.zeros_like(mask)
    main = labels == 1 + np.bincount(labels.ravel(), minlength=count + 1)[1:].argmax()
    return np.where(ndimage.binary_dilation(main, iterations=RIM), mask, 0).astype(np.uint8)


def overlap(found: Float[Tensor, "b 1 h w"], wanted: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Soft intersection over union of masks in [0, 1]; for masks of 0 and 1 the usual one. Two empty ones: 1."""
    both = torch.minimum(found, wanted).sum(dim=(1, 2, 3))
    either = torch.maximum(found, wanted).sum(dim=(1, 2, 3))
    return torch.where(either > 0, both / either.clamp(min=1e-6), 1.0)
