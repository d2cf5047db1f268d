"""A small parser: head masks in a fraction of the time, taught by the face parser (parsing.py) on the training clips.

It is the same network, taught to see the same views with fewer pixels, at which the untaught one is wrong. So it knows
the thirty thousand faces that the face parser has seen, where the training clips have a few. A small decoder of its own
gives the coarse scores sharp edges.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor, nn

from head3d.compute import Compute
from head3d.models.blocks import imagenet
from head3d.models.parsing import HEAD_CLASSES, BiSeNet, ConvBNReLU, fold_batch_norms


class SmallParser(nn.Module):
    """Where the head is in views of it.

    Args:
        input_size: side of the views, pixels, a multiple of 32.
        width: channels of its decoder at a quarter of that.
    """

    def __init__(self, input_size: int = 192, width: int = 32) -> None:
        super().__init__()
        self.input_size = input_size
        self.coarse = BiSeNet().eval().apply(fold_batch_norms)
        del self.coarse.conv_out16, self.coarse.conv_out32  # never run
        self.at8 = ConvBNReLU(256 + 1, 2 * width, 1)
        self.at4 = ConvBNReLU(2 * width + 64, width)
        self.past = ConvBNReLU(64, width // 2, 1)
        self.at2 = ConvBNReLU(width + width // 2, width // 2)
        self.score = nn.Conv2d(width // 2, 4, 1)  # four pixels of what it sees at each place
        for parameter in self.score.parameters():
            nn.init.zeros_(parameter)  # it begins with the edges of the coarse scores
        self.requires_grad_(True)  # which biases that come from folding would not be

    @property
    def decoder(self) -> tuple[nn.Module, ...]:
        """What does not come from the face parser."""
        return self.at8, self.at4, self.past, self.at2, self.score

    def prepare_for_inference(self, compute: Compute) -> "SmallParser":
        """Itself for inference: on its device, its batch normalisation folded into the convolutions."""
        return compute.place(self.eval().requires_grad_(False).apply(fold_batch_norms))

    def init_from_teacher(self, teacher: BiSeNet) -> None:
        """Take over the face parser, its batch normalisation folded and head classes first (:func:`load_parser`)."""
        wanted, state = self.coarse.state_dict(), teacher.state_dict()
        self.coarse.load_state_dict({name: state[name] for name in wanted})

    def forward(
        self, views: Float[Tensor, "b 3 s s"]
    ) -> tuple[Float[Tensor, "b 1 s s"], Float[Tensor, "b 19 s8 s8"], Float[Tensor, "b 256 s8 s8"]]:
        """Logits of how much of each pixel is head, scores of the face parser's classes, and their features.

        Args:
            views: heads upright and enlarged (head_masks.py), RGB in [0, 1], ``input_size`` pixels wide and high.

        Returns:
            The logits at that size, scores (the head's classes first) and features at an eighth of it.
        """
        (half, quarter, *_), features = self.coarse.features(imagenet(views))
        scores = self.coarse.conv_out(features).float()
        coarse = head_logits(scores)
        x = self.at8(torch.cat((features, 0.1 * coarse), dim=1))  # logits are large
        x = self.at4(_joined(x, quarter))
        x = self.at2(_joined(x, self.past(half)))
        enlarged = F.interpolate(coarse, views.shape[-2:], mode="bilinear")
        return F.pixel_shuffle(self.score(x).float(), 2) + enlarged, scores, features.float()

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.score.weight.device

    @torch.inference_mode()
    def heads(self, views: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 1 s s"]:
        """1 where a pixel is head, else 0, of views as in :meth:`forward`; each head is in one piece."""
        found = (self(views)[0] > 0)[:, 0].cpu().numpy()
        return torch.from_numpy(np.stack([largest_part(one) for one in found]))[:, None].to(views)


def head_logits(scores: Float[Tensor, "b 19 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Logits of the head's classes together, of class scores with the head's classes first."""
    n = len(HEAD_CLASSES)
    return scores[:, :n].logsumexp(1, keepdim=True) - scores[:, n:].logsumexp(1, keepdim=True)


def _joined(x: Tensor, skip: Tensor) -> Tensor:
    """Features enlarged to those of a finer level, beside them."""
    return torch.cat((F.interpolate(x, skip.shape[-2:], mode="bilinear"), skip), dim=1)


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest part of a mask bool ``(H, W)`` that hangs together."""
    labels: np.ndarray
    labels, count = ndimage.label(mask)  # type: ignore[misc]
    return labels == 1 + np.bincount(labels.ravel(), minlength=count + 1)[1:].argmax() if count else mask


def soft_iou(predicted: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Soft intersection over union of masks in [0, 1]; for masks of 0 and 1 the usual one. Two empty ones: 1."""
    both = torch.minimum(predicted, target).sum(dim=(1, 2, 3))
    either = torch.maximum(predicted, target).sum(dim=(1, 2, 3))
    return torch.where(either > 0, both / either.clamp(min=1e-6), 1.0)
