"""Attention-based fusion (Sec. 3.3): frame encoder E_F, flow and attention predictor Phi, frame decoder Omega_F."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from head3d.geometry.warp import resize_flow, warp
from head3d.models.blocks import STRIDE, Hourglass, ImageDecoder, ImageEncoder, ResidualBlock, at_cells, shrink
from head3d.models.matching import Matcher

LEVELS = 5  # of Phi's hourglass
UNSEEN = 1e-3  # what a mask counts as where there is no head: attention to it is a thousandth of what it would be


@dataclass(frozen=True)
class Fused:
    """What the fusion makes of a rendered head, a reference frame and a driving frame.

    Attributes:
        frame: (B, 3, H, W) in [0, 1], the output frame.
        head_flow: (B, 2, H, W), backward, pixels: f_{x_hat_dri <- s_dri}.
        reference_flow: the same for f_{s_ref <- s_dri}.
        attention: (B, 3, H', W'), of the rendered head, the reference and the decoder; they sum to 1.
        deformed: (B, 3, H, W), the reference frame warped by its flow.
    """

    frame: Tensor
    head_flow: Tensor
    reference_flow: Tensor
    attention: Tensor
    deformed: Tensor


class FlowPredictor(nn.Module):
    """Phi: MRAA's flow predictor, changed to give two flows and three attention maps.

    Flows start at zero, so that training starts from the rendered head and the reference as they are.
    """

    def __init__(self, inputs: int, width: int, most: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.hourglass = Hourglass(inputs, width, LEVELS, most)
        self.head = nn.Conv2d(self.hourglass.channels, 7, 7, padding=3)
        nn.init.normal_(self.head.weight, std=1e-4)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor, Tensor]:
        """Two flows in pixels, (B, 2, H', W') each, and the logits of three attention maps, (B, 3, H', W')."""
        out = self.head(self.hourglass(shrink(x, self.scale))).float()
        # A unit of output is a fiftieth of the image, whatever its size: Adam's first steps, which move outputs by
        # about half a unit, then leave the start at zero flow as good as it is.
        unit = out.shape[-1] / 50
        return out[:, :2] * unit, out[:, 2:4] * unit, out[:, 4:]


class FusionNet(nn.Module):
    """Output frame from the rendered head, a reference frame and a driving frame (Eq. 7).

    Args:
        width: channels after the first convolution of E_F and Omega_F.
        blocks: residual blocks of the path that makes e_dec.
        flow_width: width of the hourglass of Phi.
        flow_max: most channels of the hourglass.
        flow_scale: resolution at which Phi works, as a share of the image's.
        image_skip: also warp the images with the same flows and blend them into the output, the attention sharpened at
            full resolution; without it the output is the decoder's alone, as the paper prints it.
        rigid_flow: f_{s_ref <- s_dri} starts from the rigid motion of the head, Phi predicts the rest.
        matching: a matcher first finds what of the driving frame is where in the carried reference; Phi corrects it.
        masked_attention: the rendered head is attended to where it is and not where it is black.
        use_head: False leaves the rendered head out (``w/o x_hat_dri`` of Table 3).
    """

    def __init__(
        self,
        width: int = 64,
        blocks: int = 6,
        flow_width: int = 64,
        flow_max: int = 1024,
        flow_scale: float = 0.25,
        image_skip: bool = False,
        rigid_flow: bool = False,
        masked_attention: bool = False,
        matching: bool = False,
        use_head: bool = True,
    ) -> None:
        super().__init__()
        self.image_skip, self.use_head = image_skip, use_head
        self.masked_attention = masked_attention and use_head
        self.uses_rigid_flow = rigid_flow and use_head
        self.encoder = ImageEncoder(width, 0)
        self.matcher = Matcher() if matching else None
        self.predictor = FlowPredictor(9, flow_width, flow_max, flow_scale)
        self.bottleneck = nn.Sequential(*(ResidualBlock(4 * width) for _ in range(blocks)))
        self.decoder = ImageDecoder(width, 0, outputs=6 if image_skip else 3)
        if image_skip:
            last = self.decoder[-1]
            assert isinstance(last, nn.Conv2d) and last.bias is not None
            with torch.no_grad():  # start by trusting the warped images
                last.weight[3:] *= 0.1
                last.bias[3:] = torch.tensor((0.0, 0.0, -3.0))

    def flows(
        self,
        head: Float[Tensor, "b 3 h w"],
        reference: Float[Tensor, "#b 3 h w"],
        driving: Float[Tensor, "b 3 h w"],
        rigid: Float[Tensor, "b 2 h w"] | None = None,
        nonrigid_flow: Float[Tensor, "b 2 h w"] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Phi: head flow and reference flow at full resolution, in pixels, and attention logits at Phi's own.

        Arguments are those of :meth:`forward`.
        """
        size, reference = head.shape[-2:], reference.expand(len(head), -1, -1, -1)
        if not self.use_head:
            head, rigid = torch.zeros_like(head), None
        carried = reference if rigid is None else warp(reference, rigid)
        found = nonrigid_flow
        if found is None and self.matcher is not None:
            found = self.matcher.flow(carried, driving)
        if found is not None:
            # Head and reference are carried by the same pose, and are off by the same error of it.
            head, carried = warp(head, found), warp(carried, found)
        head_flow, reference_flow, logits = self.predictor(torch.cat((head, carried, driving), dim=1))
        head_flow, reference_flow = resize_flow(head_flow, *size), resize_flow(reference_flow, *size)
        if found is not None:
            head_flow = head_flow + warp(found, head_flow)
            reference_flow = reference_flow + warp(found, reference_flow)
        if rigid is not None:
            # First by the residual, then along the head's rigid motion from where that leads.
            reference_flow = reference_flow + warp(rigid, reference_flow)
        if not self.use_head:
            logits = torch.cat((torch.full_like(logits[:, :1], -1e4), logits[:, 1:]), dim=1)
        return head_flow, reference_flow, logits

    def forward(
        self,
        head: Float[Tensor, "b 3 h w"],
        reference: Float[Tensor, "#b 3 h w"],
        driving: Float[Tensor, "b 3 h w"],
        rigid: Float[Tensor, "b 2 h w"] | None = None,
        mask: Float[Tensor, "b 1 h w"] | None = None,
        nonrigid_flow: Float[Tensor, "b 2 h w"] | None = None,
    ) -> Fused:
        """Fuse.

        Args:
            head: x_hat_dri, the canonical head rendered at the driving pose, in [0, 1].
            reference: s_ref in [0, 1]; a single one, (1, 3, H, W), if it is the same for all.
            driving: s_dri in [0, 1]; only Phi sees it.
            rigid: backward flow, pixels, by which the head's rigid motion carries the reference to the driving pose;
                Phi then predicts what is left to move. None: Phi predicts the whole flow, as the paper prints it.
            mask: where the rendered head is, in [0, 1], for masked attention. None: everywhere.
            nonrigid_flow: backward flow, pixels, of what has moved besides the pose, if that is known already. None:
                the matcher, if there is one, finds it between the carried reference and the driving frame, which is
                right where both show the same person.
        """
        head_flow, reference_flow, logits = self.flows(head, reference, driving, rigid, nonrigid_flow)
        size = head.shape[-2:]
        fine = F.interpolate(logits, size=size, mode="bilinear")
        if self.masked_attention and mask is not None:
            seen = warp(mask, head_flow).clamp(min=UNSEEN).log()
            absent = torch.cat((seen, torch.zeros_like(seen).expand(-1, 2, -1, -1)), dim=1)
            fine = fine + absent
            logits = logits + shrink(absent, logits.shape[-1] / size[-1])
        attention = logits.softmax(dim=1)

        encoded = self.encoder(torch.cat((head, reference)) if self.use_head else reference)
        of_reference = encoded[-len(reference) :].expand(len(head), -1, -1, -1)
        reference = reference.expand(len(head), -1, -1, -1)
        weight = F.interpolate(attention, size=size, mode="bilinear")
        weight = at_cells(weight).to(encoded.dtype)
        warped = weight[:, 1:2] * warp(of_reference, at_cells(reference_flow) / STRIDE)
        if self.use_head:
            warped = warped + weight[:, :1] * warp(encoded[: len(head)], at_cells(head_flow) / STRIDE)
        decoded = warped + weight[:, 2:] * self.bottleneck(warped)  # e_out of Eq. 7
        out = self.decoder(decoded).float()

        # What is seen is sampled bicubically: a bilinear look between pixels blurs, and LPIPS punishes that most.
        deformed = warp(reference, reference_flow, mode="bicubic").clamp(0, 1)
        frame = torch.sigmoid(out[:, :3])
        if self.image_skip:
            share = (fine + out[:, 3:]).softmax(dim=1)
            frame = (
                share[:, :1] * warp(head, head_flow, mode="bicubic").clamp(0, 1)
                + share[:, 1:2] * deformed
                + share[:, 2:] * frame
            )
        return Fused(frame, head_flow, reference_flow, attention, deformed)
